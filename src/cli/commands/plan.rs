//! `kindmesh plan`

use clap::Args;
use serde::Serialize;

use super::{Context, Description, Done, Task};
use crate::base::error::Error;
use crate::cluster::environment;
use crate::cluster::mesh::apply::Changes;
use crate::host::docker::Engine;
use crate::host::inventory as gather;
use crate::lifecycle::up;
use crate::plan::inventory::Inventory;
use crate::plan::{self, Host, Plan, Size, admission};
use crate::report::{Output, Style, Table, changes};
use crate::spec::Cluster;

/// `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Plan for an empty host, without reading the engine, the host's routes or clusters that exist
    #[arg(long)]
    pub offline: bool,
    /// Also show what up would change in clusters that exist, object by object, by their API servers' dry run
    #[arg(long, conflicts_with = "offline")]
    pub diff: bool,
}

pub fn command(args: PlanArgs) -> Task {
    Task::new(Description { annotated: true, yaml: true, ..Description::of("plan") }, async move |context| {
        run(context, &args).await
    })
}

async fn run(context: &Context, args: &PlanArgs) -> anyhow::Result<Done> {
    let loaded = context.load()?;
    let files = context.folders.environment(loaded.spec.name.as_str());
    let spec = admission::spec(&loaded, environment::stored(&files)?)?;
    let executable = gather::executable().await?;
    let mut inventory = match args.offline || !spec.has_kind_clusters() {
        true => Inventory::of_an_empty_machine(executable),
        false => Inventory { executable, ..gather::gather(&Engine::connect().await?).await? },
    };
    if args.diff && !spec.clusters.iter().any(Cluster::exists) {
        let what = "kind creates all clusters of this spec, with everything in them";
        return Err(Error::usage(what).hint("--diff is for clusters that exist: clusters[].context").into());
    }
    let existing = match args.offline {
        true => None,
        false => Some(up::inspect(&spec, &loaded, &files, &context.events).await?),
    };
    inventory.existing = existing.as_ref().map(up::Existing::known).unwrap_or_default();
    admission::changes(&spec, &loaded.origins, environment::stored(&files)?.as_ref(), &inventory)?;
    let plan = plan::plan(&spec, &inventory).map_err(|error| loaded.origins.place(error))?;
    let diff = match existing.filter(|_| args.diff) {
        Some(existing) => {
            let cache = &context.folders.cache;
            Some(up::diff(&spec, &plan, &existing, cache, &context.events).await?)
        }
        None => None,
    };
    let document = Document { plan: &plan, diff: diff.as_deref() };
    match context.global.output {
        Output::Json => Done::json(&document),
        Output::Yaml => Ok(Done::text(serde_yaml::to_string(&document)?)),
        Output::Human | Output::Html => {
            let style = context.printer.stdout_style();
            let mut text = human(&plan, Size::of(&spec), style);
            for difference in diff.iter().flatten() {
                text.push_str(&changes::text(difference, true, style));
            }
            Ok(Done::text(text))
        }
    }
}

/// The plan and, with `--diff`, what would change.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    plan: &'a Plan,
    #[serde(skip_serializing_if = "Option::is_none")]
    diff: Option<&'a [Changes]>,
}

fn human(plan: &Plan, size: Size, style: Style) -> String {
    let mut facts = Table::headless();
    facts.row(["environment", &plan.environment]);
    if let Some(docker) = &plan.docker {
        facts.row(["platform", &docker.platform]);
        facts.row(["network".into(), format!("{} {}", docker.network.name, docker.network.subnet)]);
    }
    let of_cluster = |cluster: &plan::Cluster| {
        (cluster.host.kind().map(|kind| kind.node_image.clone()), cluster.istio_version.clone())
    };
    // Of each cluster, in the table, if they differ.
    let uniform = plan.clusters.iter().all(|cluster| of_cluster(cluster) == of_cluster(&plan.clusters[0]));
    if plan.docker.is_some() {
        facts.row(["node image".into(), plan.node_images().join(", ")]);
    }
    if plan.kind_clusters().any(|(_, kind)| kind.cgroup_v1) {
        facts.row(["kubelet", "configured to accept cgroup v1"]);
    }
    let versions = plan.istio_versions().join(", ");
    facts.row([
        "Istio".into(),
        match plan.clusters.iter().all(plan::Cluster::installs_istio) {
            true => format!("{versions}, mesh {}", plan.mesh.id),
            false if versions.is_empty() => "as it is in the clusters".into(),
            false => format!("{versions}, as it is in the clusters"),
        },
    ]);
    let root = match (&plan.mesh.root_subject, &plan.mesh.trust_from) {
        (Some(own), _) => own.clone(),
        (None, Some(from)) => format!("certificates in {from}"),
        (None, None) => "secrets cacerts of the clusters".into(),
    };
    facts.row(["root of trust".into(), root]);
    facts.row(["images".into(), plan.images().join(", ")]);
    if let Some(samples) = &plan.samples {
        let built = if samples.build { ", image built locally" } else { "" };
        facts.row([
            "samples".into(),
            format!(
                "namespace {}, caller in {}, {} producers in {}{built}",
                samples.namespace,
                samples.callers.join(", "),
                samples.replicas,
                samples.producers.join(", ")
            ),
        ]);
    }
    facts.row(["requires".into(), size.to_string()]);
    let columns = ["CLUSTER", "CONTEXT", "NODES", "NETWORK", "PODS", "SERVICES", "LOAD BALANCERS"];
    let versions: &[&str] = if uniform { &[] } else { &["KUBERNETES", "ISTIO"] };
    let has_remotes = plan.clusters.iter().any(|cluster| cluster.is_remote());
    let istiod: &[&str] = if has_remotes { &["ISTIOD"] } else { &[] };
    let mut clusters = Table::new(columns.iter().chain(versions).chain(istiod).copied());
    for cluster in &plan.clusters {
        let kind = cluster.host.kind();
        let mut row = vec![
            cluster.name.clone(),
            cluster.context.clone(),
            kind.map_or("-".into(), |kind| kind.nodes.len().to_string()),
            cluster.network.clone(),
            pods(cluster),
            kind.map_or("-".into(), |kind| kind.service_subnet.to_string()),
            kind.and_then(|kind| kind.balancers).map_or("-".into(), |range| range.to_string()),
        ];
        if !uniform {
            row.extend([kubernetes_version(cluster).to_owned(), cluster.istio_version.clone()]);
        }
        if has_remotes {
            row.push(match (&cluster.primary, cluster.istiod_address) {
                (Some(primary), Some(address)) => format!("{primary}, {address}"),
                (Some(primary), None) => primary.clone(),
                (None, _) => "own".into(),
            });
        }
        clusters.row(row);
    }
    let mut text = format!("{}\n\n{}\n", facts.render(style), clusters.render(style));
    for removed in plan.docker.iter().flat_map(|docker| &docker.removed) {
        text.push_str(&format!(
            "\nup --prune deletes cluster {}, with everything in it: {}\n",
            removed.name,
            match removed.nodes.is_empty() {
                true => "it has no nodes".into(),
                false => removed.nodes.join(", "),
            }
        ));
    }
    text
}

/// Returns the subnets of a cluster's pods; of a cluster that exists there may be one for each node.
fn pods(cluster: &plan::Cluster) -> String {
    match cluster.pod_subnets() {
        [] => "-".into(),
        [one] => one.to_string(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    }
}

fn kubernetes_version(cluster: &plan::Cluster) -> &str {
    match &cluster.host {
        Host::Kind(kind) => kind.kubernetes_version.as_deref().unwrap_or("-"),
        Host::Existing(existing) => existing.known.version.trim_start_matches('v'),
    }
}
