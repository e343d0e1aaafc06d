//! All that `up` does without a cluster, done beforehand: tools, images, the baked node image, renderings.

use std::time::Duration;

use futures::future::try_join_all;
use tokio::time::Instant;

use super::images::Images;
use super::tools::Tools;
use crate::base::error::Error;
use crate::base::event::{Events, Outcome};
use crate::base::wait;
use crate::cluster::environment;
use crate::cluster::mesh::render;
use crate::host::docker::Engine;
use crate::host::inventory as gather;
use crate::host::state::Folders;
use crate::plan::inventory::Inventory;
use crate::plan::{self, Plan, admission};
use crate::spec::Loaded;

/// What was made beforehand.
#[derive(Debug, Clone)]
pub struct Warm {
    /// Where the images are.
    pub engine: Engine,
    /// What `up` would decide.
    pub plan: Plan,
    /// The image that nodes would start from.
    pub node_image: String,
}

/// Makes what `up` with this spec would find missing and needs no cluster for, in so much time.
///
/// # Errors
/// As those of [`warm`], or one that says what was under way when the time was over.
pub async fn warm_within(
    timeout: Duration,
    loaded: &Loaded,
    folders: &Folders,
    events: &Events,
) -> anyhow::Result<Warm> {
    let late = || {
        Error::environment(format!("not all is made after {} s", timeout.as_secs()))
            .hint("what was made is kept: the same command goes on; --timeout gives it longer")
    };
    wait::within(Instant::now() + timeout, events, warm(loaded, folders, events), late).await
}

/// Makes what `up` with this spec would find missing and needs no cluster for.
///
/// # Errors
/// As those of `up`; here a node image that cannot be baked is one of them.
pub async fn warm(loaded: &Loaded, folders: &Folders, events: &Events) -> anyhow::Result<Warm> {
    let files = folders.environment(loaded.spec.name.as_str());
    let spec = admission::spec(loaded, environment::stored(&files)?)?;
    let engine =
        events.step("engine", None).run(async |_| Ok(Outcome::unchanged(Engine::connect().await?))).await?;
    let inventory = Inventory { executable: gather::executable().await?, ..gather::gather(&engine).await? };
    let plan = plan::plan(&spec, &inventory)?;
    let images = Images::new(&engine, &plan, events);
    let tools = Tools::new(folders.cache.clone(), &plan.mesh.version, events.clone());
    let rendered = plan.clusters.iter().map(|cluster| async {
        let step = events.step("render", Some(&cluster.name));
        step.run(async |_| {
            let istioctl = async || tools.istioctl().await;
            let rendered = render::manifests(&folders.cache, &plan, cluster, istioctl).await?;
            Ok(Outcome { value: (), changed: rendered.changed })
        })
        .await
    });
    let tool = async { tools.kind().await.map(drop) };
    let made = futures::try_join!(images.ensure_baked(), images.ensure_sample(), tool, try_join_all(rendered))?;
    Ok(Warm { engine, plan, node_image: made.0 })
}
