//! One cluster, from its creation to running samples: a chain of steps, concurrent with those of other clusters.

use kube::Client;
use kube::api::DynamicObject;
use tokio::time::Instant;

use super::Run;
use crate::base::event::{Outcome, Step};
use crate::base::wait::{self, Poll};
use crate::cluster::kinds::Kinds;
use crate::cluster::mesh::apply::{self, Applier};
use crate::cluster::mesh::{ISTIO_NAMESPACE, cacerts, gateway, istio};
use crate::cluster::refusal::{Record, Retries};
use crate::cluster::rollout::Workload;
use crate::diagnose::diagnosis::{self, gather, waits};
use crate::host::kind;
use crate::plan::{Cluster, Docker, Host};
use crate::spec::Profile;

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
        let applier =
            Applier::new(self.client.clone(), step, deadline).sharing(&self.kinds).recording(&self.record);
        match self.cluster.host {
            Host::Kind(_) => applier,
            Host::Existing(_) => applier.only_ours(),
        }
    }
}

impl Run {
    pub(super) async fn ensure_cluster<'a>(&self, cluster: &'a Cluster) -> anyhow::Result<Ready<'a>> {
        let record = Record::default();
        let (client, rendered) =
            futures::try_join!(self.ensure_api_server(cluster, &record), self.tools.rendered(cluster))?;
        let mut made = Ready { cluster, client, kinds: Kinds::default(), record, trust: String::new() };
        let mesh = async {
            if cluster.is_remote() {
                self.ensure_remote_cluster(&mut made, &rendered).await?;
                return Ok(made);
            }
            made.trust = self.ensure_cacerts(&made).await?;
            let made = made;
            let objects = match cluster.installs_istio() {
                true => istio::objects(&rendered, &made.trust)?,
                false => Vec::new(),
            };
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

    /// Returns a client for the cluster's API server.
    async fn ensure_api_server(&self, cluster: &Cluster, record: &Record) -> anyhow::Result<Client> {
        match &cluster.host {
            Host::Kind(kind) => self.ensure_kubernetes(cluster, kind, record).await,
            Host::Existing(existing) => self.ensure_recorded(cluster, existing, record).await,
        }
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

    /// Applies the cluster's intermediate CA for istiod, and returns its revision.
    async fn ensure_cacerts(&self, made: &Ready<'_>) -> anyhow::Result<String> {
        let cluster = made.cluster;
        let step = self.events.step("cacerts", Some(&cluster.name));
        step.run(async |step| {
            if cluster.has_cacerts() {
                return Ok(Outcome::unchanged(cacerts::revision_of_others(&made.client).await?));
            }
            let environment = &self.plan.environment;
            let intermediate = self.authority()?.intermediate(&self.files.trust(), environment, &cluster.name)?;
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

    /// Applies the CoreDNS settings of a disposable cluster that kind creates.
    pub(super) async fn ensure_dns(&self, made: &Ready<'_>) -> anyhow::Result<()> {
        match (&made.cluster.host, &self.plan.docker) {
            (Host::Kind(_), Some(Docker { profile: Profile::Disposable, .. })) => {
                self.ensure_objects(made, "dns", apply::objects(kind::COREDNS)?).await
            }
            _ => Ok(()),
        }
    }

    /// Applies objects in a step with this ID, if there are any.
    pub(super) async fn ensure_objects(
        &self,
        made: &Ready<'_>,
        step: &'static str,
        objects: Vec<DynamicObject>,
    ) -> anyhow::Result<()> {
        if objects.is_empty() {
            return Ok(());
        }
        let step = self.events.step(step, Some(&made.cluster.name));
        step.run(async |step| {
            let changed = made.applier(step, self.wait_deadline()).apply(objects).await?;
            Ok(Outcome { value: (), changed })
        })
        .await
    }

    /// Applies the east-west gateway, if there are several networks and it is not that of an Istio that is used as it is, and waits until it is ready and has its address. Its pod
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
            if made.cluster.installs_istio() {
                objects.extend(gateway::objects()?);
            }
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
            if let (Host::Kind(kind), false) = (&made.cluster.host, istio::exists(&made.client).await?) {
                let engine = &self.on_engine()?.engine;
                let waited = kind::wait_for_api_service(engine, kind, step, deadline).await;
                let look = async || gather::node_in_cluster(engine, kind.control_plane(), &made.client).await;
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
