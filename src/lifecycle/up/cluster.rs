//! One cluster, from its creation to running samples: a chain of steps, concurrent with those of other clusters.

use std::time::Duration;

use anyhow::Context;
use futures::future::try_join_all;
use kube::Client;
use kube::api::DynamicObject;
use tokio::time::Instant;

use super::Run;
use crate::base::event::{Outcome, Step};
use crate::base::wait::{self, Poll};
use crate::cluster::client;
use crate::cluster::kinds::Kinds;
use crate::cluster::link;
use crate::cluster::mesh::apply::{self, Applier};
use crate::cluster::mesh::{ISTIO_NAMESPACE, cacerts, gateway, istio, render};
use crate::cluster::refusal::{Reason, Record, Retries};
use crate::cluster::rollout::Workload;
use crate::diagnose::diagnosis::{self, gather, waits};
use crate::host::docker::{image, node};
use crate::host::kind::{self, Existing, Kind};
use crate::host::trust::Intermediate;
use crate::plan::Cluster;
use crate::spec::Profile;

/// How long an API server may take to become ready after its node has started.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A cluster whose API server is ready.
pub(super) struct Ready<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) client: Client,
    /// The kinds that its API server serves.
    kinds: Kinds,
    /// The known reasons for temporary refusals.
    pub(super) record: Record,
    /// The version of the CA that its istiod signs with; pods are annotated with it.
    pub(super) trust: String,
}

impl Ready<'_> {
    /// Returns an applier for a step.
    pub(super) fn applier<'a>(&self, step: &'a Step, deadline: Instant) -> Applier<'a> {
        Applier::new(self.client.clone(), step, deadline).sharing(&self.kinds).recording(&self.record)
    }
}

impl Run {
    pub(super) async fn ensure_cluster<'a>(&self, cluster: &'a Cluster) -> anyhow::Result<Ready<'a>> {
        let record = Record::default();
        let (client, rendered) =
            futures::try_join!(self.ensure_kubernetes(cluster, &record), self.ensure_rendered(cluster))?;
        let mut made = Ready { cluster, client, kinds: Kinds::default(), record, trust: String::new() };
        let mesh = async {
            if cluster.is_remote() {
                self.ensure_remote_cluster(&mut made, &rendered).await?;
                return Ok(made);
            }
            made.trust = self.ensure_cacerts(&made).await?;
            let made = made;
            let objects = istio::objects(&rendered, &made.trust)?;
            let (gateway, objects): (Vec<_>, Vec<_>) = objects.into_iter().partition(gateway::is_part);
            futures::try_join!(
                self.ensure_dns(&made),
                self.ensure_mesh(&made, objects),
                self.ensure_sample_image(cluster)
            )?;
            // Sample pods require istiod's injection webhook, and istiod validates routing objects.
            let control_plane = async {
                let exposed = async {
                    self.ensure_gateway(&made, gateway).await?;
                    self.ensure_exposed(&made).await
                };
                futures::try_join!(self.ensure_remote_clusters(&made), exposed)?;
                self.announce(&made);
                anyhow::Ok(())
            };
            futures::try_join!(control_plane, self.ensure_samples(&made))?;
            anyhow::Ok(made)
        };
        let (made, ()) = futures::try_join!(mesh, self.ensure_link(cluster))?;
        Ok(made)
    }

    /// Applies istiod with its prerequisites, and waits until it is ready.
    async fn ensure_mesh(&self, made: &Ready<'_>, objects: Vec<DynamicObject>) -> anyhow::Result<()> {
        let (pods, objects): (Vec<_>, Vec<_>) = objects.into_iter().partition(istio::runs_pods);
        let (kinds, rest): (Vec<_>, Vec<_>) = objects.into_iter().partition(istio::is_of_own_kinds);
        futures::try_join!(self.ensure_objects(made, "istio", rest), self.ensure_images(made.cluster))?;
        // The reader token is published before istiod runs, so that peers do not wait for this istiod. The CRDs are
        // applied while istiod starts, which picks them up; they cost the API server more than everything else.
        futures::try_join!(
            self.ensure_reader(made),
            self.ensure_istiod(made, pods),
            self.ensure_objects(made, "kinds", kinds)
        )?;
        Ok(())
    }

    /// Starts the nodes, or creates them, and waits for the API server.
    async fn ensure_kubernetes(&self, cluster: &Cluster, record: &Record) -> anyhow::Result<Client> {
        let kind = Kind { engine: &self.engine, plan: &self.plan, files: &self.files };
        let step = self.events.step("cluster", Some(&cluster.name));
        step.run(async |step| {
            let revived = match self.templates.replaces() {
                true => Existing::Incomplete,
                false => kind.start(cluster, &self.existing).await?,
            };
            if revived == Existing::Incomplete {
                let (tool, image) =
                    futures::try_join!(self.tools.kind(), self.images.ensure_baked(&cluster.kind.node_image))?;
                kind.write_config(cluster, &image)?;
                if !self.restore(cluster, &image, step).await? {
                    if let Err(error) = kind.create(cluster, &tool, &image, step).await {
                        let look = gather::node(&self.engine, cluster.kind.control_plane()).await;
                        return Err(diagnosis::explain(error, &look));
                    }
                    self.templates.created();
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
                let runs_for = node::runs_for(&self.engine, cluster.kind.control_plane()).await;
                if runs_for.is_some_and(|time| time < START_TIMEOUT) {
                    record.note(Reason::ApiServer);
                }
                retries.failed(what, error)
            })
            .await;
            diagnosis::explained(waited, async || gather::node(&self.engine, cluster.kind.control_plane()).await)
                .await?;
            if started {
                record.note(Reason::ApiServer);
            }
            Ok(Outcome { value: client, changed: started })
        })
        .await
    }

    async fn ensure_link(&self, cluster: &Cluster) -> anyhow::Result<()> {
        let step = self.events.step("link", Some(&cluster.name));
        step.run(async |_| {
            let nodes = cluster.nodes().iter().map(|node| link::ensure(&self.engine, &self.plan, cluster, node));
            let changed = try_join_all(nodes).await?.iter().any(|outcome| outcome.changed);
            Ok(Outcome { value: (), changed })
        })
        .await
    }

    /// Loads the mesh's images into the nodes.
    pub(super) async fn ensure_images(&self, cluster: &Cluster) -> anyhow::Result<()> {
        let step = self.events.step("images", Some(&cluster.name));
        step.run(async |_| self.bring(cluster, self.mesh_images_of(cluster)?).await).await
    }

    fn mesh_images_of(&self, cluster: &Cluster) -> anyhow::Result<&image::Load> {
        let load = self.mesh_images.get(&cluster.istio_images);
        load.with_context(|| format!("no images of Istio {}", cluster.istio_version))
    }

    /// Loads the sample image into the nodes; only the samples wait for it.
    pub(super) async fn ensure_sample_image(&self, cluster: &Cluster) -> anyhow::Result<()> {
        if self.plan.samples.is_none() {
            return Ok(());
        }
        let step = self.events.step("sample-image", Some(&cluster.name));
        step.run(async |_| self.bring(cluster, &self.sample_images).await).await
    }

    /// Loads images into the nodes of a cluster. The engine needs them only if a node lacks one.
    async fn bring(&self, cluster: &Cluster, load: &image::Load) -> anyhow::Result<Outcome> {
        let on_node = async |node: &String| {
            let missing = load.missing_on(&self.engine, node).await?;
            self.images.ensure(&missing).await?;
            load.bring(&self.engine, node, missing).await
        };
        let brought = try_join_all(cluster.nodes().iter().map(on_node)).await?;
        Ok(Outcome { value: (), changed: brought.iter().any(|outcome| outcome.changed) })
    }

    /// Applies the cluster's intermediate CA for istiod, and returns its revision.
    async fn ensure_cacerts(&self, made: &Ready<'_>) -> anyhow::Result<String> {
        let cluster = made.cluster;
        let step = self.events.step("cacerts", Some(&cluster.name));
        step.run(async |step| {
            let environment = &self.plan.environment;
            let intermediate =
                Intermediate::ensure(&self.files.trust(), &self.root, environment, &cluster.name)?.value;
            let what = "secret cacerts";
            let mut retries = Retries::new(&made.record);
            let prepared = wait::until(step, what, self.wait_deadline(), async || {
                match cacerts::prepare(&made.client, &cluster.network, &intermediate).await {
                    Ok(prepared) => Ok(Poll::Ready(prepared)),
                    Err(error) => retries.failed(what, error),
                }
            });
            let prepared = prepared.await?;
            let changed = made.applier(step, self.wait_deadline()).apply(prepared.objects).await?;
            Ok(Outcome { value: prepared.revision, changed })
        })
        .await
    }

    /// Applies the CoreDNS settings of a disposable cluster.
    pub(super) async fn ensure_dns(&self, made: &Ready<'_>) -> anyhow::Result<()> {
        match self.plan.profile {
            Profile::Disposable => self.ensure_objects(made, "dns", apply::objects(kind::COREDNS)?).await,
            Profile::Standard => Ok(()),
        }
    }

    /// Renders Istio's manifests; requires no cluster.
    async fn ensure_rendered(&self, cluster: &Cluster) -> anyhow::Result<String> {
        let step = self.events.step("render", Some(&cluster.name));
        step.run(async |_| {
            render::manifests(&self.cache, cluster, async || self.tools.istioctl(&cluster.istio_version).await)
                .await
        })
        .await
    }

    /// Applies objects in a step with this ID.
    pub(super) async fn ensure_objects(
        &self,
        made: &Ready<'_>,
        step: &'static str,
        objects: Vec<DynamicObject>,
    ) -> anyhow::Result<()> {
        let step = self.events.step(step, Some(&made.cluster.name));
        step.run(async |step| {
            let changed = made.applier(step, self.wait_deadline()).apply(objects).await?;
            Ok(Outcome { value: (), changed })
        })
        .await
    }

    /// Applies the east-west gateway, if there are several networks, and waits until it is ready and has its address. Its pod
    /// needs a config map of istiod, which also validates the object that opens its port.
    pub(super) async fn ensure_gateway(
        &self,
        made: &Ready<'_>,
        mut objects: Vec<DynamicObject>,
    ) -> anyhow::Result<()> {
        if !self.plan.has_gateways() {
            return Ok(());
        }
        let step = self.events.step("gateway", Some(&made.cluster.name));
        step.run(async |step| {
            let deadline = self.wait_deadline();
            objects.extend(gateway::objects()?);
            let changed = made.applier(step, deadline).apply(objects).await?;
            gateway::wait_for_address(&made.client, made.cluster, &made.record, step, deadline).await?;
            let workload = Workload::deployment(ISTIO_NAMESPACE, gateway::NAME);
            waits::workload(&made.client, &workload, &made.record, step, deadline).await?;
            Ok(Outcome { value: (), changed })
        })
        .await
    }

    /// Applies istiod and waits until it is ready. It is not created before the API server responds at its Service
    /// address.
    async fn ensure_istiod(&self, made: &Ready<'_>, pods: Vec<DynamicObject>) -> anyhow::Result<()> {
        let step = self.events.step("istiod", Some(&made.cluster.name));
        step.run(async |step| {
            let deadline = self.wait_deadline();
            if !istio::exists(&made.client).await? {
                let waited = kind::wait_for_api_service(&self.engine, made.cluster, step, deadline).await;
                let node = made.cluster.kind.control_plane();
                let look = async || gather::node_in_cluster(&self.engine, node, &made.client).await;
                diagnosis::explained(waited, look).await?;
            }
            let changed = made.applier(step, deadline).apply(pods).await?;
            let istiod = Workload::deployment(ISTIO_NAMESPACE, istio::ISTIOD);
            waits::workload(&made.client, &istiod, &made.record, step, deadline).await?;
            Ok(Outcome { value: (), changed })
        })
        .await
    }
}
