//! `kindmesh snapshot`

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;
use tokio::time::Instant;

use super::cache::size;
use super::{Context, Description, Done, Task};
use crate::base::error::Error;
use crate::base::wait;
use crate::cli::values::duration;
use crate::host::docker::Engine;
use crate::host::snapshot::Snapshot;
use crate::host::snapshot::keys::Removed;
use crate::lifecycle::snapshot::{self, transfer};
use crate::lifecycle::up::{self, Options, Origin};
use crate::report::Table;
use crate::spec::Label;

/// `snapshot`.
#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Save the running environment: its clusters with everything in them, its root of trust, images and volumes
    Save(SaveArgs),
    /// Replace the environment with a snapshot of it, also if it was deleted
    Restore(RestoreArgs),
    /// List the saved snapshots
    List,
    /// Show what a snapshot contains
    Show(NameArgs),
    /// Remove a snapshot
    Remove(NameArgs),
    /// Write a snapshot to a file for another engine, without keys and Secrets
    Export(ExportArgs),
    /// Read a snapshot from a file, and create new keys for it
    Import(ImportArgs),
}

/// `snapshot export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Name of the snapshot
    #[arg(value_name = "SNAPSHOT")]
    pub snapshot: Label,
    /// File to write, which must not exist
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Include the keys and Secrets of the clusters; not in GitHub Actions
    #[arg(long)]
    pub with_keys: bool,
    /// Timeout, such as 90s or 5m
    #[arg(long, value_parser = duration, default_value = "5m", value_name = "TIME")]
    pub timeout: Duration,
}

/// `snapshot import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// File that snapshot export or offline save --snapshot wrote
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Import a snapshot with keys: whoever wrote it can use the clusters
    #[arg(long)]
    pub trust_keys: bool,
    /// Timeout, such as 90s or 30m
    #[arg(long, value_parser = duration, default_value = "30m", value_name = "TIME")]
    pub timeout: Duration,
}

/// `snapshot save`.
#[derive(Debug, Args)]
pub struct SaveArgs {
    /// Name of the new snapshot
    #[arg(value_name = "SNAPSHOT")]
    pub snapshot: Label,
    /// Timeout, such as 30s or 5m
    #[arg(long, value_parser = duration, default_value = "5m", value_name = "TIME")]
    pub timeout: Duration,
}

/// `snapshot restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// Name of the snapshot
    #[arg(value_name = "SNAPSHOT")]
    pub snapshot: Label,
    /// Timeout, such as 90s or 5m
    #[arg(long, value_parser = duration, default_value = "5m", value_name = "TIME")]
    pub timeout: Duration,
}

/// `snapshot show` and `remove`.
#[derive(Debug, Args)]
pub struct NameArgs {
    /// Name of the snapshot
    #[arg(value_name = "SNAPSHOT")]
    pub snapshot: Label,
}

pub fn command(command: SnapshotCommand) -> Task {
    let streams_events = matches!(command, SnapshotCommand::Save(_) | SnapshotCommand::Restore(_));
    let after_signal: Option<fn(&str) -> String> = match command {
        SnapshotCommand::Save(_) => Some(|_| "no snapshot was saved; the environment is unchanged".into()),
        SnapshotCommand::Restore(_) => Some(|_| "the snapshot is unchanged; the same command restores it".into()),
        _ => None,
    };
    let description =
        Description { streams_events, after_signal, annotated: streams_events, ..Description::of("snapshot") };
    Task::new(description, async move |context| run(context, &command).await)
}

async fn run(context: &Context, command: &SnapshotCommand) -> anyhow::Result<Done> {
    match command {
        SnapshotCommand::Save(args) => save(context, args).await,
        SnapshotCommand::Restore(args) => restore(context, args).await,
        SnapshotCommand::List => list(context),
        SnapshotCommand::Show(args) => show(context, args.snapshot.as_str()),
        SnapshotCommand::Remove(args) => remove(context, args.snapshot.as_str()),
        SnapshotCommand::Export(args) => export(context, args).await,
        SnapshotCommand::Import(args) => import(context, args).await,
    }
}

async fn save(context: &Context, args: &SaveArgs) -> anyhow::Result<Done> {
    context.require_own_nodes("snapshot save")?;
    let (environment, name) = (context.environment_name()?, &args.snapshot);
    let engine = Engine::connect().await?;
    let work = snapshot::save(&engine, &context.folders, &environment, name, &context.events);
    let late = || {
        Error::environment(format!("not saved after {} s", args.timeout.as_secs()))
            .hint("--timeout allows more time")
    };
    let saved = wait::within(Instant::now() + args.timeout, &context.events, work, late).await?;
    if context.is_json() {
        return Ok(Done::default());
    }
    let text = format!(
        "Snapshot {name} of environment {environment} saved: {}.\nNot saved: emptyDir volumes, logs, memory of processes.\n\
        To restore it: kindmesh snapshot restore {name}",
        size(saved.bytes()?)
    );
    Ok(Done::text(text))
}

async fn restore(context: &Context, args: &RestoreArgs) -> anyhow::Result<Done> {
    let found = snapshot::open(&context.folders, args.snapshot.as_str())?;
    let environment = found.manifest.environment.clone();
    if let Some(name) = &context.global.name
        && name.as_str() != environment
    {
        return Err(Error::usage(format!("snapshot {} was saved from environment {environment}", found.name))
            .hint("omit --name")
            .into());
    }
    let engine = Engine::connect().await?;
    snapshot::admit(&found, &engine).await?;
    let loaded = snapshot::spec(&found)?;
    let name = found.name.clone();
    let origin = Origin::Snapshot(Box::new(found));
    // The snapshot decides which clusters there are.
    let prune = true;
    let options = Options {
        timeout: args.timeout,
        interrupt: context.interrupt.clone(),
        origin,
        prune,
        ..Options::default()
    };
    up::up(&loaded, &options, &context.folders, &context.events).await?;
    Ok(match context.is_json() {
        true => Done::default(),
        false => Done::text(format!("Environment {environment} restored from snapshot {name}.")),
    })
}

async fn export(context: &Context, args: &ExportArgs) -> anyhow::Result<Done> {
    let (folders, events, interrupt) = (&context.folders, &context.events, &context.interrupt);
    let (name, with_keys) = (args.snapshot.as_str(), args.with_keys);
    let written = transfer::export(folders, name, &args.file, with_keys, args.timeout, events, interrupt).await?;
    if context.is_json() {
        return Done::json(&written);
    }
    let mut text = format!(
        "{}\n{}, {}\n{}",
        written.path.display(),
        size(written.bytes),
        written.digest,
        left_out(&written.removed)
    );
    if with_keys {
        text.push_str("It contains keys: anyone who can read it has access to the clusters.\n");
    }
    text.push_str(&format!(
        "\nOn another host, with this kindmesh and a Docker engine for {}:\n",
        written.platform
    ));
    let trust = if with_keys { " --trust-keys" } else { "" };
    let file = written.path.file_name().unwrap_or_default().to_string_lossy();
    text.push_str(&format!("  kindmesh snapshot import{trust} {file}\n  kindmesh up --from {name}"));
    Ok(Done::text(text))
}

/// Returns lines about what an exported snapshot does not contain and nothing creates again.
pub fn left_out(removed: &Removed) -> String {
    let lines = |what: &str, names: &[String]| match names {
        [] => String::new(),
        names => format!("{what}:\n  {}\n", names.join("\n  ")),
    };
    lines("Secrets left out; create them again after up --from", &removed.secrets)
        + &lines("Files with private keys left out", &removed.files)
}

async fn import(context: &Context, args: &ImportArgs) -> anyhow::Result<Done> {
    let (folders, events) = (&context.folders, &context.events);
    let found = transfer::import(folders, &args.file, args.trust_keys, args.timeout, events).await?;
    if context.is_json() {
        return Done::json(&json!({"schemaVersion": 1, "snapshot": json(&found)?}));
    }
    let (name, environment) = (&found.name, &found.manifest.environment);
    Ok(Done::text(format!(
        "Snapshot {name} imported. It was saved from environment {environment}.\n\
        To create the environment: kindmesh up --from {name}"
    )))
}

fn list(context: &Context) -> anyhow::Result<Done> {
    let found = snapshot::store(&context.folders).list();
    if context.is_json() {
        let items = found.iter().map(json).collect::<anyhow::Result<Vec<_>>>()?;
        return Done::json(&json!({"schemaVersion": 1, "snapshots": items}));
    }
    if found.is_empty() {
        return Ok(Done::text("No snapshots. Save one: kindmesh snapshot save NAME"));
    }
    let mut table = Table::new(["NAME", "ENVIRONMENT", "CLUSTERS", "SIZE", "TAKEN"]);
    for item in &found {
        let manifest = &item.manifest;
        let clusters: Vec<_> = manifest.clusters.keys().cloned().collect();
        let taken = manifest.taken.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
        table.row([
            item.name.clone(),
            manifest.environment.clone(),
            clusters.join(", "),
            size(item.bytes()?),
            taken,
        ]);
    }
    Ok(Done::text(table.render(context.printer.stdout_style())))
}

fn show(context: &Context, name: &str) -> anyhow::Result<Done> {
    let found = snapshot::open(&context.folders, name)?;
    if context.is_json() {
        return Done::json(&json!({"schemaVersion": 1, "snapshot": json(&found)?}));
    }
    let manifest = &found.manifest;
    let mut text = format!(
        "Snapshot {name} of environment {}\n  taken       {}\n  kindmesh    {}\n  engine      {}\n  node image  {}\n  size        {}\n",
        manifest.environment,
        manifest.taken.strftime("%Y-%m-%d %H:%M:%S UTC"),
        manifest.kindmesh,
        manifest.engine,
        manifest.node_images().into_iter().collect::<Vec<_>>().join(", "),
        size(found.bytes()?)
    );
    for (name, cluster) in &manifest.clusters {
        text.push_str(&format!("  {name}    pods {}, Services {}\n", cluster.pod_subnet, cluster.service_subnet));
        for node in &cluster.nodes {
            text.push_str(&format!("    {}\n", node.name));
        }
    }
    Ok(Done::text(text.trim_end()))
}

fn remove(context: &Context, name: &str) -> anyhow::Result<Done> {
    // Also one that cannot be read.
    if !snapshot::store(&context.folders).remove(name)? {
        snapshot::open(&context.folders, name)?;
    }
    Ok(match context.is_json() {
        true => Done::json(&json!({"schemaVersion": 1, "removed": name}))?,
        false => Done::text(format!("Snapshot {name} removed.")),
    })
}

fn json(found: &Snapshot) -> anyhow::Result<serde_json::Value> {
    let manifest = &found.manifest;
    let nodes = |cluster: &crate::host::snapshot::Cluster| -> Vec<String> {
        cluster.nodes.iter().map(|node| node.name.clone()).collect()
    };
    let clusters = manifest.clusters.iter().map(|(name, cluster)| {
        json!({"name": name, "podSubnet": cluster.pod_subnet, "serviceSubnet": cluster.service_subnet, "nodes": nodes(cluster)})
    });
    Ok(json!({
        "name": found.name,
        "environment": manifest.environment,
        "taken": manifest.taken,
        "kindmesh": manifest.kindmesh,
        "engine": manifest.engine,
        "nodeImages": manifest.node_images(),
        "bytes": found.bytes()?,
        "clusters": clusters.collect::<Vec<_>>(),
    }))
}
