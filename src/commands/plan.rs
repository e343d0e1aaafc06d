//! `kindmesh plan`

use super::{Context, Done};
use crate::cli::PlanArgs;
use crate::docker::Engine;
use crate::environment;
use crate::inventory::{Inventory, gather};
use crate::plan::{self, Plan};
use crate::report::{Style, Table};
use crate::spec;

pub(super) async fn run(context: &Context, args: &PlanArgs) -> anyhow::Result<Done> {
    let loaded = context.load()?;
    let files = context.folders.environment(loaded.spec.name.as_str());
    let stored = environment::stored(&files)?;
    let wanted = match &stored {
        Some(stored) if !loaded.from_files => stored,
        _ => {
            spec::validate(&loaded.spec, &loaded.origins)?;
            &loaded.spec
        }
    };
    let inventory = match args.offline {
        true => Inventory::of_an_empty_machine(gather::executable().await?),
        false => gather::gather(&Engine::connect().await?).await?,
    };
    if let Some(stored) = stored.as_ref().filter(|_| inventory.environments.contains_key(wanted.name.as_str())) {
        spec::changes(stored, wanted)?;
    }
    let plan = plan::plan(wanted, &inventory)?;
    match args.output {
        _ if context.is_json() => Done::json(&plan),
        Some(crate::cli::PlanOutput::Json) => Done::json(&plan),
        Some(crate::cli::PlanOutput::Yaml) => Ok(Done::text(serde_yaml::to_string(&plan)?)),
        Some(crate::cli::PlanOutput::Human) | None => Ok(Done::text(human(&plan, context.printer.stdout_style()))),
    }
}

fn human(plan: &Plan, style: Style) -> String {
    let mut facts = Table::headless();
    facts.row(["environment", &plan.environment]);
    facts.row(["platform", &plan.platform]);
    facts.row(["network".into(), format!("{} {}", plan.network.name, plan.network.subnet)]);
    facts.row(["node image", &plan.kubernetes.node_image]);
    if plan.kubernetes.cgroup_v1 {
        facts.row(["kubelet", "told to accept cgroup v1"]);
    }
    facts.row(["Istio".into(), format!("{}, mesh {}", plan.mesh.version, plan.mesh.id)]);
    facts.row(["root of trust", &plan.mesh.root_subject]);
    facts.row(["images".into(), plan.images().join(", ")]);
    if let Some(samples) = &plan.samples {
        let built = if samples.build { ", image built from this kindmesh" } else { "" };
        facts.row(["samples".into(), format!(
            "namespace {}, caller in {}, {} producers in {}{built}",
            samples.namespace,
            samples.callers.join(", "),
            samples.replicas,
            samples.producers.join(", ")
        )]);
    }
    let mut clusters = Table::new(["CLUSTER", "CONTEXT", "NODES", "PODS", "SERVICES"]);
    for cluster in &plan.clusters {
        clusters.row([
            cluster.name.clone(),
            cluster.context.clone(),
            cluster.nodes.len().to_string(),
            cluster.pod_subnet.to_string(),
            cluster.service_subnet.to_string(),
        ]);
    }
    format!("{}\n\n{}\n", facts.render(style), clusters.render(style))
}
