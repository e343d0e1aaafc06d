//! Prepares in advance what `up` needs no cluster for: tools, images, the built node image, rendered manifests.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::try_join_all;
use tokio::time::Instant;

use super::images::Images;
use super::tools::Tools;
use crate::base::error::Error;
use crate::base::event::{Events, Outcome};
use crate::base::wait;
use crate::cluster::environment;
use crate::host::docker::Engine;
use crate::host::inventory as gather;
use crate::host::state::Directories;
use crate::plan::inventory::Inventory;
use crate::plan::{self, Plan, admission};
use crate::spec::Loaded;

/// The result of the preparation.
#[derive(Debug, Clone)]
pub struct Warm {
    /// The engine that has the images.
    pub engine: Engine,
    /// The plan of `up`.
    pub plan: Plan,
    /// The images for new nodes, by node image of the spec.
    pub node_images: BTreeMap<String, String>,
}

impl Warm {
    /// Returns the image for new nodes of a cluster; none if the plan does not have the cluster.
    pub fn node_image_of(&self, cluster: &str) -> Option<&String> {
        self.node_images.get(&self.plan.cluster(cluster)?.host.kind()?.node_image)
    }
}

/// Prepares what `up` would need for this spec without a cluster, within a timeout.
///
/// # Errors
/// As for [`warm`], or an error that names the steps that were running at the deadline.
pub async fn warm_within(
    timeout: Duration,
    loaded: &Loaded,
    folders: &Directories,
    events: &Events,
) -> anyhow::Result<Warm> {
    let late = || {
        Error::environment(format!("not finished after {} s", timeout.as_secs()))
            .hint("the same command continues where this run stopped; --timeout allows more time")
    };
    wait::within(Instant::now() + timeout, events, warm(loaded, folders, events), late).await
}

/// Prepares what `up` would need for this spec without a cluster.
///
/// # Errors
/// As for `up`; a failed build of the node image is also an error.
pub async fn warm(loaded: &Loaded, folders: &Directories, events: &Events) -> anyhow::Result<Warm> {
    let files = folders.environment(loaded.spec.name.as_str());
    let spec = admission::spec(loaded, environment::stored(&files)?)?;
    admission::owns_nodes(&spec, "cache warm")?;
    let engine =
        events.step("engine", None).run(async |_| Ok(Outcome::unchanged(Engine::connect().await?))).await?;
    let inventory = Inventory { executable: gather::executable().await?, ..gather::gather(&engine).await? };
    let plan = plan::plan(&spec, &inventory)?;
    let images = Images::new(&engine, &plan, events);
    let tools = Tools::new(folders.cache.clone(), &plan, events.clone());
    let rendered = plan.clusters.iter().map(|cluster| tools.rendered(cluster));
    let tool = async { tools.kind().await.map(drop) };
    let made =
        futures::try_join!(images.ensure_all_baked(), images.ensure_sample(), tool, try_join_all(rendered))?;
    let node_images = made.0.clone();
    Ok(Warm { engine, plan, node_images })
}
