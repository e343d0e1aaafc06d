//! What is somebody else's and has a name that the plan needs: refused by name before anything is made.

use anyhow::Context;

use crate::base::error::Error;
use crate::host::docker::{Engine, is_not_found, sample_image};
use crate::plan::Plan;
use crate::plan::inventory::Inventory;

/// Looks for containers and images that kindmesh did not make under names that it would use. Networks are told by their
/// labels when the first one is made, kind clusters by the plan.
///
/// # Errors
/// Wrong usage that names what is in the way; or the engine's.
pub(super) async fn refuse(engine: &Engine, plan: &Plan, inventory: &Inventory) -> anyhow::Result<()> {
    let ours = inventory.environments.get(&plan.environment);
    for node in plan.clusters.iter().flat_map(|cluster| &cluster.nodes) {
        if ours.is_some_and(|ours| ours.nodes.iter().any(|found| found.name == *node)) {
            continue;
        }
        match engine.docker.inspect_container(node, None).await {
            Err(error) if is_not_found(&error) => {}
            Err(error) => return Err(error).with_context(|| format!("looking for a container {node}")),
            Ok(_) => {
                return Err(Error::usage(format!("a container \"{node}\" exists that kindmesh did not make"))
                    .hint(format!("choose another environment name with --name, or: docker rm {node}"))
                    .into());
            }
        }
    }
    if let Some(samples) = plan.samples.as_ref().filter(|samples| samples.build) {
        sample_image::exists(engine, &samples.image).await?;
    }
    Ok(())
}
