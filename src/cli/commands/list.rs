//! `kindmesh list`

use serde_json::json;

use super::{Context, Description, Done, Task};
use crate::diagnose::status;
use crate::host::docker::Engine;
use crate::host::inventory as gather;
use crate::report::Table;

pub fn command() -> Task {
    Task::new(Description::of("list"), async |context| run(context).await)
}

async fn run(context: &Context) -> anyhow::Result<Done> {
    let engine = Engine::connect().await?;
    let inventory = gather::gather(&engine).await?;
    let rows: Vec<_> = inventory
        .environments
        .iter()
        .map(|(name, found)| (name, status::phase_of_nodes(found), found.clusters.keys().collect::<Vec<_>>()))
        .collect();
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
    let mut ways_back = Vec::new();
    for (name, phase, clusters) in rows {
        let clusters: Vec<_> = clusters.into_iter().map(String::as_str).collect();
        table.row([name.clone(), phase.to_string(), clusters.join(", ")]);
        ways_back.extend(status::way_back(name, phase).map(|hint| format!("{name} is {phase}: {hint}")));
    }
    let style = context.printer.stdout_style();
    let parts = [table.render(style).trim_end().to_owned(), ways_back.join("\n")];
    Ok(Done::text(parts.join("\n\n")))
}
