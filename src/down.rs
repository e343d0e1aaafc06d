//! Takes an environment down: what is labelled as its own, nothing else. Nodes with their volumes first, networks
//! last, so that an interrupted `down` can still find the rest.

use std::time::Duration;

use futures::future::try_join_all;

use crate::docker::{Engine, network, node};
use crate::event::{Events, Outcome};
use crate::inventory::gather;
use crate::kind;
use crate::state::{Files, Folders, Lock};

/// How long `down` may take by default.
pub const TIMEOUT: Duration = Duration::from_secs(300);

/// Removes one environment. Nothing there is fine; says whether there was anything.
///
/// # Errors
/// The engine's, or the file system's.
pub async fn down(engine: &Engine, folders: &Folders, name: &str, events: &Events) -> anyhow::Result<bool> {
    let files = folders.environment(name);
    let existed = files.root.exists();
    let _lock =
        events.step("lock", None).run(async |step| Ok(Outcome::unchanged(Lock::acquire(&files, step).await?))).await?;
    end_leftovers(&files);
    let found = gather::gather(engine).await?.environments.remove(name);
    let any = found.is_some();
    if let Some(found) = found {
        events
            .step("nodes", None)
            .run(async |_| {
                try_join_all(found.nodes.iter().map(|node| node::remove(engine, &node.name))).await?;
                Ok(Outcome { value: (), changed: !found.nodes.is_empty() })
            })
            .await?;
        events
            .step("network", None)
            .run(async |_| {
                // Registers first: as long as the network itself is there, the environment is found.
                let mut names = found.networks.clone();
                names.sort_by_key(|name| found.network.as_ref() == Some(name));
                for name in &names {
                    network::remove(engine, name).await?;
                }
                Ok(Outcome { value: (), changed: !names.is_empty() })
            })
            .await?;
    }
    events.step("state", None).run(async |_| Ok(Outcome { value: (), changed: files.remove()? && existed })).await?;
    Ok(any || existed)
}

/// Ends kinds that a killed `up` left behind: they would make nodes again.
fn end_leftovers(files: &Files) {
    let clusters = std::fs::read_dir(files.root.join("clusters"));
    for cluster in clusters.into_iter().flatten().flatten() {
        kind::end_leftover(&cluster.path().join("kind.pid"));
    }
}
