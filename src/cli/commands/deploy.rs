//! `kindmesh deploy`

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Context, Description, Done, Task, image, kept};
use crate::base::error::Error;
use crate::base::event::Events;
use crate::cli::values::duration;
use crate::cluster::environment::Environment;
use crate::host::state::Lock;
use crate::lifecycle::deploy::{self, Deployed, DryRun, Object, Options, StubMade};
use crate::lifecycle::locked;
use crate::report::changes;
use crate::spec::Label;

mod watch;

/// `deploy`.
#[derive(Debug, Args)]
pub struct DeployArgs {
    /// Directory of manifests (.yaml, .yml, .json), a Helm chart or kustomize directory, one file, or - for standard input
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// Cluster for all objects [default: set by the annotation kindmesh/clusters and by deploy in the spec]
    #[arg(long, value_name = "CLUSTER")]
    pub to: Option<Label>,
    /// Namespace for objects without one
    #[arg(long, value_name = "NAMESPACE", default_value = "default")]
    pub namespace: Label,
    /// Show what would be created, changed and deleted, checked by the API servers; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Like --dry-run, with each field that would change
    #[arg(long)]
    pub diff: bool,
    /// Deploy again whenever a file or an image of the engine changes, until Ctrl-C; delete nothing
    #[arg(long, conflicts_with_all = ["dry_run", "diff"])]
    pub watch: bool,
    /// Delete the objects that were deployed from this directory, in every cluster
    #[arg(long, conflicts_with_all = ["to", "no_wait", "dry_run", "diff", "watch"])]
    pub delete: bool,
    /// Do not wait until all pods are ready
    #[arg(long)]
    pub no_wait: bool,
    /// Timeout of the whole run, such as 90s or 5m
    #[arg(long, value_parser = duration, default_value = "3m", value_name = "TIME")]
    pub timeout: Duration,
}

pub fn command(args: DeployArgs) -> Task {
    let description = Description {
        after_signal: Some(kept),
        ends_outages: true,
        serves: args.watch,
        ..Description::of("deploy")
    };
    Task::new(description, async move |context| match args.watch {
        true => watch::run(context, &args).await,
        false => run(context, &args).await,
    })
}

async fn run(context: &Context, args: &DeployArgs) -> anyhow::Result<Done> {
    // Waits end slightly earlier, and report their last status.
    let deadline = Instant::now() + args.timeout;
    within(args, deadline, async {
        let (_lock, environment) = open(context, deadline, &context.events).await?;
        if args.delete {
            return delete(context, &environment, args).await;
        }
        let options = options(context, &environment, args, deadline)?;
        match args.dry_run || args.diff {
            true => dry_run(context, &environment, args, &options).await,
            false => apply(context, &environment, args, &options).await,
        }
    })
    .await
}

async fn open(context: &Context, deadline: Instant, events: &Events) -> anyhow::Result<(Lock, Environment)> {
    let name = context.environment_name()?;
    locked::open_shared(&context.folders, &name, Some(deadline), events).await
}

async fn within<T>(
    args: &DeployArgs,
    deadline: Instant,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    tokio::time::timeout_at(deadline + crate::diagnose::diagnosis::GATHER_TIMEOUT, work).await.map_err(|_| {
        Error::environment(format!("not finished after {} s", args.timeout.as_secs()))
            .hint("run it again to continue; --timeout allows more time")
    })?
}

fn options(
    context: &Context,
    environment: &Environment,
    args: &DeployArgs,
    deadline: Instant,
) -> anyhow::Result<Options> {
    Ok(Options {
        to: args.to.as_ref().map(ToString::to_string),
        places: places(context, environment)?,
        namespace: args.namespace.to_string(),
        force_namespace: false,
        prune: !args.watch,
        wait: !args.no_wait,
        deadline,
    })
}

async fn apply(
    context: &Context,
    environment: &Environment,
    args: &DeployArgs,
    options: &Options,
) -> anyhow::Result<Done> {
    let deployed = deploy::deploy(environment, &args.folder, options, &context.events).await?;
    if context.is_json() {
        return Done::json(&document(environment, &deployed));
    }
    Ok(Done::text(describe(&deployed, !args.no_wait)))
}

fn document(environment: &Environment, deployed: &Deployed) -> Value {
    json!({"schemaVersion": 1, "environment": environment.name(), "deployed": deployed})
}

async fn dry_run(
    context: &Context,
    environment: &Environment,
    args: &DeployArgs,
    options: &Options,
) -> anyhow::Result<Done> {
    let planned = deploy::dry_run(environment, &args.folder, options, &context.events).await?;
    if context.is_json() {
        return Done::json(&json!({"schemaVersion": 1, "environment": environment.name(), "dryRun": planned}));
    }
    let DryRun { changes, stubs, notes } = planned;
    let style = context.printer.stdout_style();
    let shown = changes.iter().filter(|changes| !changes.objects.is_empty());
    let mut text: String = shown.map(|changes| changes::text(changes, args.diff, style)).collect();
    text.push('\n');
    let lines = stubs.iter().map(stub_line).chain(notes.iter().map(|note| format!("note: {note}")));
    lines.for_each(|line| text.push_str(&format!("{line}\n")));
    text.push_str("Nothing was changed.");
    Ok(Done::text(text.trim_start()))
}

/// Returns the field `deploy` of the spec files, or that of the stored spec if it is empty. It may differ, since it
/// does not affect the environment.
fn places(context: &Context, environment: &Environment) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
    let loaded = context.load()?;
    let places = match loaded.spec.deploy.is_empty() {
        true => environment.spec.deploy.clone(),
        false => loaded.spec.deploy,
    };
    for cluster in places.values().flatten() {
        environment.cluster(cluster.as_str())?;
    }
    Ok(places.into_iter().map(|(name, at)| (name, at.iter().map(ToString::to_string).collect())).collect())
}

async fn delete(context: &Context, environment: &Environment, args: &DeployArgs) -> anyhow::Result<Done> {
    let (removed, notes) = deploy::delete(environment, &args.folder, &context.events).await?;
    if context.is_json() {
        return Done::json(&json!({"schemaVersion": 1, "environment": environment.name(), "removed": removed,
            "notes": notes}));
    }
    let mut lines: Vec<_> = removed.iter().map(|object| format!("{} deleted", called(object))).collect();
    if lines.is_empty() {
        lines.push(format!("Nothing was deployed from {}.", args.folder.display()));
    }
    lines.extend(notes.iter().map(|note| format!("note: {note}")));
    Ok(Done::text(lines.join("\n")))
}

fn called(object: &Object) -> String {
    format!("{}: {} {}", object.cluster, object.kind, object.name)
}

fn stub_line(stub: &StubMade) -> String {
    format!("{}: stub Service {}: {}", stub.object.cluster, stub.object.name, stub.because)
}

fn describe(deployed: &Deployed, waited: bool) -> String {
    let mut lines = described(deployed);
    lines.push(match (deployed.changed, waited) {
        (false, _) => "Nothing changed.".into(),
        (true, true) => "All pods are ready.".into(),
        (true, false) => "Applied. Pods may not be ready yet.".into(),
    });
    lines.join("\n")
}

fn described(deployed: &Deployed) -> Vec<String> {
    let mut lines = Vec::new();
    let mut clusters: Vec<&str> = deployed.applied.iter().map(|applied| applied.object.cluster.as_str()).collect();
    clusters.sort_unstable();
    clusters.dedup();
    for cluster in clusters {
        let here = deployed.applied.iter().filter(|applied| applied.object.cluster == cluster);
        let names: Vec<_> =
            here.map(|applied| format!("{} {}", applied.object.kind, applied.object.name)).collect();
        lines.push(format!("{cluster}: {}", names.join(", ")));
    }
    lines.extend(deployed.images.iter().map(image::line));
    lines.extend(deployed.stubs.iter().map(stub_line));
    lines.extend(
        deployed.removed.iter().map(|object| format!("{} deleted: no longer in the manifests", called(object))),
    );
    lines.extend(deployed.notes.iter().map(|note| format!("note: {note}")));
    lines
}
