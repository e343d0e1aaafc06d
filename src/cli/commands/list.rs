//! `kindmesh list`

use serde_json::json;

use super::{Context, Description, Done, Task};
use crate::base::error;
use crate::cluster::environment;
use crate::diagnose::status::{self, Phase};
use crate::host::docker::Engine;
use crate::host::inventory as gather;
use crate::host::state::Directories;
use crate::plan::inventory::Inventory;
use crate::report::Table;

pub fn command() -> Task {
    Task::new(Description::of("list"), async |context| run(context).await)
}

/// An environment: its name, its phase if the engine knows it, and its clusters.
type Row = (String, Option<Phase>, Vec<String>);

async fn run(context: &Context) -> anyhow::Result<Done> {
    let recorded = in_existing_clusters(&context.folders);
    let inventory = match gathered().await {
        Ok(inventory) => inventory,
        Err(error) if !recorded.is_empty() => {
            let what = error::brief(error);
            context.events.note(format!("only environments in existing clusters are listed: {what}"));
            Inventory::default()
        }
        Err(error) => return Err(error),
    };
    let rows = rows(&inventory, recorded);
    if context.is_json() {
        let environments: Vec<_> = rows
            .iter()
            .map(|(name, phase, clusters)| json!({"name": name, "phase": phase, "clusters": clusters}))
            .collect();
        return Done::json(&json!({"schemaVersion": 1, "environments": environments}));
    }
    if rows.is_empty() {
        return Ok(Done::text("No environments found. Create one: kindmesh up"));
    }
    let mut table = Table::new(["NAME", "PHASE", "CLUSTERS"]);
    let mut hints = Vec::new();
    for (name, phase, clusters) in rows {
        table.row([name.clone(), phase.map_or("-".into(), |phase| phase.to_string()), clusters.join(", ")]);
        hints.extend(match phase {
            Some(phase) => status::way_back(&name, phase).map(|hint| format!("{name} is {phase}: {hint}")),
            None => Some(format!("{name} is in existing clusters: kindmesh status --name {name}")),
        });
    }
    let style = context.printer.stdout_style();
    let parts = [table.render(style).trim_end().to_owned(), hints.join("\n")];
    Ok(Done::text(parts.join("\n\n")))
}

async fn gathered() -> anyhow::Result<Inventory> {
    gather::gather(&Engine::connect().await?).await
}

/// Returns the environments of which no cluster is on an engine, with their clusters, as their files record them.
fn in_existing_clusters(folders: &Directories) -> Vec<(String, Vec<String>)> {
    let clusters = |name: String| {
        // `status` reports a spec that cannot be read.
        let spec = environment::stored(&folders.environment(&name)).ok()??;
        let clusters = spec.clusters.iter().map(|cluster| cluster.name.to_string()).collect();
        (!spec.has_kind_clusters()).then_some((name, clusters))
    };
    folders.environments().into_iter().filter_map(clusters).collect()
}

/// Returns all environments by name.
fn rows(inventory: &Inventory, recorded: Vec<(String, Vec<String>)>) -> Vec<Row> {
    let on_engine = inventory.environments.iter().map(|(name, found)| {
        let clusters = found.clusters.keys().cloned().collect();
        (name.clone(), Some(status::phase_of_nodes(found)), clusters)
    });
    let elsewhere = recorded.into_iter().filter(|(name, _)| !inventory.environments.contains_key(name));
    let elsewhere = elsewhere.map(|(name, clusters)| (name, None, clusters));
    let mut rows: Vec<Row> = on_engine.chain(elsewhere).collect();
    rows.sort_by(|(one, ..), (other, ..)| one.cmp(other));
    rows
}
