//! Pauses or stops an environment: frozen nodes use no CPU and keep their memory, stopped nodes free it.
//! [`crate::lifecycle::start`] resumes either.

use futures::future::join_all;

use crate::base::event::{Events, Outcome};
use crate::host::docker::{Engine, node};
use crate::host::outage;
use crate::host::state::Directories;
use crate::lifecycle::locked;
use crate::plan::inventory::{Inventory, Node};

/// Freezes the running nodes; stopped nodes stay stopped. Returns whether any node was frozen.
///
/// # Errors
/// If the environment does not exist, or is on another engine; otherwise the engine's errors.
pub async fn pause(engine: &Engine, folders: &Directories, name: &str, events: &Events) -> anyhow::Result<bool> {
    let (_lock, inventory) = locked::exclusive(engine, folders, name, events).await?;
    outage::none_held(&folders.environment(name))?;
    let runs = |node: &&Node| node.state == "running";
    events
        .step("pause", None)
        .run(async |_| {
            let nodes = nodes(&inventory, name).filter(runs).map(|found| node::pause(engine, &found.name));
            all(join_all(nodes).await)
        })
        .await
}

/// Stops the running and frozen nodes. Returns whether any node was stopped.
///
/// # Errors
/// As for [`pause`].
pub async fn stop(engine: &Engine, folders: &Directories, name: &str, events: &Events) -> anyhow::Result<bool> {
    let (_lock, inventory) = locked::exclusive(engine, folders, name, events).await?;
    outage::none_held(&folders.environment(name))?;
    // What is stopped on purpose stays so.
    outage::forget_orphans(&folders.environment(name))?;
    let lives = |node: &&Node| ["running", "paused", "restarting"].contains(&node.state.as_str());
    events
        .step("stop", None)
        .run(async |_| {
            let nodes = nodes(&inventory, name).filter(lives).map(|found| node::stop(engine, &found.name));
            all(join_all(nodes).await)
        })
        .await
}

fn nodes<'a>(inventory: &'a Inventory, environment: &str) -> impl Iterator<Item = &'a Node> {
    inventory.environments.get(environment).into_iter().flat_map(|found| &found.nodes)
}

/// Combines the results of all nodes; every node was attempted.
fn all(results: Vec<anyhow::Result<()>>) -> anyhow::Result<Outcome<bool>> {
    let changed = !results.is_empty();
    results.into_iter().collect::<anyhow::Result<()>>()?;
    Ok(Outcome { value: changed, changed })
}
