//! Takes an environment down: what is labelled as its own, nothing else. Nodes with their volumes first, networks
//! last, so that an interrupted `down` can still find the rest.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::docker::{Engine, network};
use crate::event::{Events, Outcome};
use crate::inventory::{Environment, gather};
use crate::kind;
use crate::plan;
use crate::state::{EngineIdentity, Files, Folders, Lock};

/// How long `down` may take by default.
pub const TIMEOUT: Duration = Duration::from_secs(300);

/// Removes one environment. Nothing there is fine; says whether there was anything.
///
/// # Errors
/// A usage error for an environment on another engine; else the engine's, or the file system's.
pub async fn down(engine: &Engine, folders: &Folders, name: &str, events: &Events) -> anyhow::Result<bool> {
    let files = folders.environment(name);
    let existed = files.exist();
    let _lock = events
        .step("lock", None)
        .run(async |step| Ok(Outcome::unchanged(Lock::acquire(&files, step).await?)))
        .await?;
    folders.sweep()?;
    // Before anybody looks: what still runs would make nodes again.
    kind::end_leftovers(&files, events).await;
    let found = gather::gather(engine).await?.environments.remove(name);
    let has_nodes = found.as_ref().is_some_and(|found| !found.nodes.is_empty());
    EngineIdentity::of(engine).refuse_another(name, &files, has_nodes)?;

    let network = plan::network_name(name);
    let kind_names = kind_names(name, found.as_ref(), &files);
    let any = found.is_some() || !kind::nodes_on(engine, &network, &kind_names).await?.is_empty();
    if any {
        events
            .step("nodes", None)
            .run(async |step| {
                let changed = kind::remove_nodes_on(engine, &network, &kind_names, step).await?;
                Ok(Outcome { value: (), changed })
            })
            .await?;
        events
            .step("network", None)
            .run(async |step| {
                // Registers first: as long as the network itself is there, the environment is found.
                let mut names = found.map(|found| found.networks).unwrap_or_default();
                names.sort_by_key(|name| *name == network);
                for name in &names {
                    network::remove(engine, name).await?;
                }
                // A container that was only created does not keep a network, and would stay behind.
                kind::remove_nodes_on(engine, &network, &kind_names, step).await?;
                Ok(Outcome { value: (), changed: !names.is_empty() })
            })
            .await?;
    }
    events
        .step("state", None)
        .run(async |_| Ok(Outcome { value: (), changed: files.remove()? && existed }))
        .await?;
    Ok(any || existed)
}

/// kind's names for the clusters of the environment: those that its networks list; where it has none any more, those
/// that have files.
fn kind_names(name: &str, found: Option<&Environment>, files: &Files) -> Vec<String> {
    let clusters: BTreeSet<String> = match found {
        Some(found) => found.clusters.keys().cloned().collect(),
        None => files.clusters().into_iter().collect(),
    };
    clusters.iter().map(|cluster| plan::kind_name(name, cluster)).collect()
}
