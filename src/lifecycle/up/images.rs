//! The images in the engine, and the node images for new nodes: built at most once in a run, for the first cluster that needs
//! one.

use std::collections::BTreeMap;

use anyhow::Context;
use tokio::sync::OnceCell;

use crate::base::error::Error;
use crate::base::event::{Events, Outcome};
use crate::host::docker::{Engine, bake, image, sample_image};
use crate::plan::{Plan, Samples};

pub(super) struct Images {
    engine: Engine,
    events: Events,
    /// The node images of the spec, each with the images that its nodes need.
    wanted: Vec<(String, Vec<String>)>,
    stable: Vec<String>,
    to_pull: Vec<String>,
    /// The samples whose image kindmesh builds.
    built: Option<Samples>,
    pulled: OnceCell<()>,
    sample: OnceCell<()>,
    /// The images for new nodes, by node image of the spec.
    baked: OnceCell<BTreeMap<String, String>>,
}

impl Images {
    pub(super) fn new(engine: &Engine, plan: &Plan, events: &Events) -> Self {
        Self {
            engine: engine.clone(),
            events: events.clone(),
            wanted: plan
                .node_images()
                .into_iter()
                .map(|name| (name.to_owned(), plan.stable_images_on(name)))
                .collect(),
            stable: plan.stable_images(),
            to_pull: plan.pulled_images(),
            built: plan.samples.clone().filter(|samples| samples.build),
            pulled: OnceCell::new(),
            sample: OnceCell::new(),
            baked: OnceCell::new(),
        }
    }

    /// Returns the image for new nodes of a node image of the spec: that image with the images that its nodes need. A failed
    /// build only costs time: it is reported, and images are loaded into each node instead.
    pub(super) async fn ensure_baked(&self, node_image: &str) -> anyhow::Result<String> {
        let baked = self.ensure_all_baked().await?.get(node_image);
        baked.cloned().with_context(|| format!("the plan has no node image {node_image}"))
    }

    /// Returns the images for new nodes, by node image of the spec.
    pub(super) async fn ensure_all_baked(&self) -> anyhow::Result<&BTreeMap<String, String>> {
        self.baked.get_or_try_init(|| self.bake()).await
    }

    async fn bake(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let mut baked = BTreeMap::new();
        for (node_image, images) in &self.wanted {
            // With an image from an archive, the images that it was built from are not needed.
            if let Some(brought) = bake::from_archive(&self.engine, node_image, images).await? {
                baked.insert(node_image.clone(), brought);
            }
        }
        let missing: Vec<_> = self.wanted.iter().filter(|(name, _)| !baked.contains_key(name)).collect();
        if missing.is_empty() {
            return Ok(baked);
        }
        self.ensure_pulled().await?;
        let step = self.events.step("bake", None);
        step.run(async |step| {
            let mut changed = false;
            for (node_image, images) in missing {
                let image = match bake::ensure(&self.engine, node_image, images, step).await {
                    Ok(made) => {
                        changed |= made.changed;
                        made.value
                    }
                    Err(error) => {
                        step.note(format!("loading images into each node instead, which takes longer: {error:#}"));
                        node_image.clone()
                    }
                };
                baked.insert(node_image.clone(), image);
            }
            Ok(Outcome { value: baked, changed })
        })
        .await
    }

    /// Ensures that the engine has the images that a node is missing.
    pub(super) async fn ensure(&self, images: &[String]) -> anyhow::Result<()> {
        let (stable, built): (Vec<_>, Vec<_>) = images.iter().partition(|image| self.stable.contains(image));
        let pulled = async { if stable.is_empty() { Ok(()) } else { self.ensure_pulled().await } };
        let sample = async { if built.is_empty() { Ok(()) } else { self.ensure_sample().await } };
        futures::try_join!(pulled, sample).map(drop)
    }

    /// Ensures that the engine has all images that kindmesh does not build.
    async fn ensure_pulled(&self) -> anyhow::Result<()> {
        let pull = || async {
            let step = self.events.step("pull", None);
            step.run(async |step| match image::ensure(&self.engine, &self.to_pull, step).await {
                Err(error) => Err(self.with_archives(error).await),
                pulled => pulled,
            })
            .await
        };
        self.pulled.get_or_try_init(pull).await.copied()
    }

    /// After loading an archive, the user expects no pull, so the error says what the archive was for.
    async fn with_archives(&self, error: anyhow::Error) -> anyhow::Error {
        let archives = bake::archives(&self.engine).await.unwrap_or_default();
        match error.downcast::<Error>() {
            Ok(error) => archives
                .iter()
                .fold(error, |error, (node, images)| {
                    let wanted =
                        |(node, images): &(String, Vec<String>)| format!("{node} with {}", images.join(", "));
                    let wanted = self.wanted.iter().map(wanted).collect::<Vec<_>>().join("; ");
                    error.evidence(format!(
                        "an archive was loaded for {node} with {}, but this spec requires {wanted}",
                        images.replace(',', ", ")
                    ))
                })
                .into(),
            Err(error) => error,
        }
    }

    /// Builds the sample image, unless the spec sets one.
    pub(super) async fn ensure_sample(&self) -> anyhow::Result<()> {
        let Some(samples) = &self.built else { return Ok(()) };
        let build = || async {
            let step = self.events.step("image", None);
            step.run(async |_| {
                let executable = sample_image::executable().await.ok_or_else(no_executable)?;
                sample_image::ensure(&self.engine, samples, &executable).await
            })
            .await
        };
        self.sample.get_or_try_init(build).await.copied()
    }
}

fn no_executable() -> Error {
    Error::prerequisite("no kindmesh executable to build the sample image from")
        .hint("set KINDMESH_EXE to the path of a kindmesh executable")
}
