//! What only a cluster needs that kind creates: its nodes, the routes between them, and the images on them. The nodes of a cluster
//! that exists pull their images.

use std::time::Duration;

use anyhow::Context;
use futures::future::try_join_all;
use kube::Client;

use super::{OnEngine, Run};
use crate::base::event::Outcome;
use crate::base::wait::{self, Poll};
use crate::cluster::client;
use crate::cluster::link;
use crate::cluster::refusal::{Reason, Record, Retries};
use crate::diagnose::diagnosis::{self, gather, waits};
use crate::host::docker::{image, node};
use crate::host::kind::{Existing, Kind};
use crate::plan::{Cluster, KindCluster};

/// How long an API server may take to become ready after its node has started.
const START_TIMEOUT: Duration = Duration::from_secs(60);

impl Run {
    /// Starts the nodes, or creates them, and waits for the API server.
    pub(super) async fn ensure_kubernetes(
        &self,
        cluster: &Cluster,
        planned: &KindCluster,
        record: &Record,
    ) -> anyhow::Result<Client> {
        let OnEngine { engine, existing, images, templates, .. } = self.on_engine()?;
        let (environment, docker) = (self.plan.environment.as_str(), self.plan.docker()?);
        let kind = Kind { engine, environment, docker, files: &self.files };
        let step = self.events.step("cluster", Some(&cluster.name));
        step.run(async |step| {
            let revived = match templates.replaces() {
                true => Existing::Incomplete,
                false => kind.start(cluster, existing).await?,
            };
            if revived == Existing::Incomplete {
                let (tool, image) =
                    futures::try_join!(self.tools.kind(), images.ensure_baked(&planned.node_image))?;
                kind.write_config(cluster, &image)?;
                if !self.restore(cluster, &image, step).await? {
                    let created = kind.create(cluster, &tool, &image, step);
                    waits::creation(engine, (cluster.name.as_str(), planned.control_plane()), created).await?;
                    templates.created();
                }
            }
            let kubeconfig = kind.ensure_kubeconfig(cluster, async || self.tools.kind().await).await?.value;
            let client = client::connect(&kubeconfig).await?;
            let started = revived != Existing::Running;
            let what = "the API server to respond";
            let mut retries = Retries::new(record);
            let waited = wait::until(step, what, self.wait_deadline(), async || {
                let Err(error) = client.apiserver_version().await else { return Ok(Poll::Ready(())) };
                // The node was started just now, or by a killed `up` or `start`.
                let runs_for = node::runs_for(engine, planned.control_plane()).await;
                if runs_for.is_some_and(|time| time < START_TIMEOUT) {
                    record.note(Reason::ApiServer);
                }
                retries.failed(what, error)
            })
            .await;
            diagnosis::explained(waited, async || gather::node(engine, planned.control_plane()).await).await?;
            if started {
                record.note(Reason::ApiServer);
            }
            Ok(Outcome { value: client, changed: started })
        })
        .await
    }

    pub(super) async fn ensure_link(&self, cluster: &Cluster) -> anyhow::Result<()> {
        if cluster.host.existing().is_some() {
            return Ok(());
        }
        let engine = &self.on_engine()?.engine;
        let step = self.events.step("link", Some(&cluster.name));
        step.run(async |_| {
            let nodes = cluster.nodes().iter().map(|node| link::ensure(engine, &self.plan, cluster, node));
            let changed = try_join_all(nodes).await?.iter().any(|outcome| outcome.changed);
            Ok(Outcome { value: (), changed })
        })
        .await
    }

    /// Loads the mesh's images into the nodes.
    pub(super) async fn ensure_images(&self, cluster: &Cluster) -> anyhow::Result<()> {
        if cluster.host.existing().is_some() {
            return Ok(());
        }
        let step = self.events.step("images", Some(&cluster.name));
        step.run(async |_| self.bring(cluster, self.mesh_images_of(cluster)?).await).await
    }

    fn mesh_images_of(&self, cluster: &Cluster) -> anyhow::Result<&image::Load> {
        let load = self.on_engine()?.mesh_images.get(&cluster.istio_images);
        load.with_context(|| format!("no images of Istio {}", cluster.istio_version))
    }

    /// Loads the sample image into the nodes; only the samples wait for it.
    pub(super) async fn ensure_sample_image(&self, cluster: &Cluster) -> anyhow::Result<()> {
        if self.plan.samples.is_none() || cluster.host.existing().is_some() {
            return Ok(());
        }
        let step = self.events.step("sample-image", Some(&cluster.name));
        step.run(async |_| self.bring(cluster, &self.on_engine()?.sample_images).await).await?;
        if let Some(loaded) = self.sample_loaded.get(&cluster.name) {
            let _ = loaded.set(());
        }
        Ok(())
    }

    /// Loads images into the nodes of a cluster. The engine needs them only if a node lacks one.
    async fn bring(&self, cluster: &Cluster, load: &image::Load) -> anyhow::Result<Outcome> {
        let OnEngine { engine, images, .. } = self.on_engine()?;
        let on_node = async |node: &String| {
            let missing = load.missing_on(engine, node).await?;
            images.ensure(&missing).await?;
            load.bring(engine, node, missing).await
        };
        let brought = try_join_all(cluster.nodes().iter().map(on_node)).await?;
        Ok(Outcome { value: (), changed: brought.iter().any(|outcome| outcome.changed) })
    }
}
