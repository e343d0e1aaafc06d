//! Finds objects with planned names that kindmesh did not create.

use anyhow::Context;
use futures::future::try_join_all;

use crate::host::docker::{Engine, is_not_found, sample_image};
use crate::plan::Plan;
use crate::plan::admission::Unlabeled;
use crate::plan::inventory::Environment;

/// Finds containers and an image with planned names that kindmesh did not create. kind clusters are in the
/// inventory, and networks are checked by their labels when the first one is created.
///
/// # Errors
/// The engine's errors.
pub(super) async fn look(engine: &Engine, plan: &Plan, existing: &Environment) -> anyhow::Result<Unlabeled> {
    let ours = |name: &String| existing.nodes.iter().any(|found| found.name == *name);
    let nodes = plan.clusters.iter().flat_map(|cluster| cluster.nodes()).filter(|name| !ours(name));
    let is_there = async |name: &String| match engine.docker.inspect_container(name, None).await {
        Ok(_) => Ok(Some(name.clone())),
        Err(error) if is_not_found(&error) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("inspecting container {name}")),
    };
    let containers = try_join_all(nodes.map(is_there)).await?.into_iter().flatten().collect();
    let built = plan.samples.as_ref().filter(|samples| samples.build).map(|samples| &samples.image);
    let image = match built {
        Some(image) if sample_image::look(engine, image).await? == sample_image::Found::Unlabeled => {
            Some(image.clone())
        }
        _ => None,
    };
    Ok(Unlabeled { containers, image })
}
