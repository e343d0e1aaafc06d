//! `kindmesh cache`

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Context, Description, Done, Task};
use crate::cli::values::duration;
use crate::host::docker::Engine;
use crate::lifecycle::cache::{self, Item, Kind};
use crate::lifecycle::up;
use crate::report::Table;

/// `cache`.
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// List built node images, sample images, tools, rendered manifests and templates of clusters, with their sizes and the environments that use them
    List,
    /// Remove everything that no environment uses
    Prune,
    /// Prepare everything that up needs before it creates clusters: images, the built node image, tools, rendered
    /// manifests
    Warm(WarmArgs),
}

/// `cache warm`.
#[derive(Debug, Args)]
pub struct WarmArgs {
    /// Timeout, such as 90s or 30m
    #[arg(long, value_parser = duration, default_value = "30m", value_name = "TIME")]
    pub timeout: Duration,
}

pub fn command(command: CacheCommand) -> Task {
    Task::new(Description::of("cache"), async move |context| run(context, &command).await)
}

async fn run(context: &Context, command: &CacheCommand) -> anyhow::Result<Done> {
    if let CacheCommand::Warm(args) = command {
        up::warm_within(args.timeout, &context.load()?, &context.folders, &context.events).await?;
    }
    let engine = Engine::connect().await?;
    let items = match command {
        CacheCommand::Prune => cache::prune(&engine, &context.folders, &context.events).await?,
        CacheCommand::List | CacheCommand::Warm(_) => cache::list(&engine, &context.folders).await?,
    };
    let total = items.iter().map(|item| item.bytes).sum();
    if context.is_json() {
        return Done::json(&json!({"schemaVersion": 1, "items": items, "bytes": total}));
    }
    let nothing = match command {
        CacheCommand::Prune => "Nothing to remove: everything is in use.",
        CacheCommand::List | CacheCommand::Warm(_) => "The cache is empty. Fill it: kindmesh cache warm",
    };
    if items.is_empty() {
        return Ok(Done::text(nothing));
    }
    let summary = match command {
        CacheCommand::Prune => format!("{} freed.", size(total)),
        CacheCommand::List | CacheCommand::Warm(_) => format!("{} in total.", size(total)),
    };
    Ok(Done::text(format!("{}\n\n{summary}", table(&items).render(context.printer.stdout_style()))))
}

fn table(items: &[Item]) -> Table {
    let mut table = Table::new(["WHAT", "SIZE", "USED BY", "NAME"]);
    for item in items {
        let used_by = if item.used_by.is_empty() { "-".to_owned() } else { item.used_by.join(", ") };
        table.row([kind(item.kind).to_owned(), size(item.bytes), used_by, item.name.clone()]);
        if !item.detail.is_empty() {
            table.row(["", "", "", &format!("  {}", item.detail)]);
        }
    }
    table
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::NodeImage => "node image",
        Kind::SampleImage => "sample image",
        Kind::Tool => "tool",
        Kind::Rendering => "rendered manifests",
        Kind::Template => "template",
    }
}

/// Formats bytes in decimal units, as Docker does.
pub(super) fn size(bytes: u64) -> String {
    let tenths = |unit: u64| format!("{}.{}", bytes / unit, bytes % unit * 10 / unit);
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{} kB", tenths(1_000)),
        1_000_000..1_000_000_000 => format!("{} MB", tenths(1_000_000)),
        _ => format!("{} GB", tenths(1_000_000_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_one_decimal() {
        let said = [0, 999, 1_000, 15_250_000, 1_999_999_999].map(size);
        assert_eq!(said, ["0 B", "999 B", "1.0 kB", "15.2 MB", "1.9 GB"]);
    }
}
