//! Where checks run: their own namespace in every cluster, with probes in and outside the mesh. It contains
//! nothing of a user's, and everything is deleted with the namespace.

use std::time::Duration;

use anyhow::Context;
use futures::future::{join_all, try_join_all};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, DynamicObject};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::probe::Prober;
use crate::base::error::Error;
use crate::base::event::{Events, Outcome, Step};
use crate::base::names::{PART_OF_LABEL, PORT};
use crate::base::wait::{self, Poll};
use crate::cluster::environment::Environment;
use crate::cluster::lease;
use crate::cluster::mesh::apply::{self, Applier};
use crate::cluster::mesh::envoy;
use crate::cluster::objects;
use crate::cluster::probes::Probe;
use crate::cluster::refusal::{Record, Retries};
use crate::cluster::rollout::Workload;
use crate::cluster::workloads;
use crate::cluster::{kinds, pods};
use crate::diagnose::diagnosis::waits;
use crate::spec;

const SERVICES: &str = include_str!("../../../mesh-manifests/verify/services.yaml");
/// The namespace in the manifests.
const WRITTEN_NAMESPACE: &str = "kindmesh-verify";
/// The value of the part-of label of everything that checks create.
const PART_OF: &str = "kindmesh-verify";
/// The annotation with the side where an object takes effect, if its kind does not decide: `caller` or `producer`.
const SIDE: &str = "kindmesh/side";
/// Longer than any realistic run, although `--timeout` may be up to a day.
const LEASE: Duration = Duration::from_secs(1800);
/// How long the caller's proxy may take to receive the probes' endpoints. About 0.2 s after they are ready, seconds under load.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(10);

/// The label of the probes for failover.
const FAILOVER: Option<(&str, &str)> = Some(("kindmesh/failover", "yes"));

const CALLER: Probe = Probe { name: "caller", replicas: 1, meshed: true, label: None };
const STRANGER: Probe = Probe { name: "stranger", replicas: 1, meshed: true, label: None };
const NEAR: Probe = Probe { name: "near", replicas: 1, meshed: true, label: FAILOVER };
const PRODUCER: Probe = Probe { name: "producer", replicas: 2, meshed: true, label: FAILOVER };
const GUARDED: Probe = Probe { name: "guarded", replicas: 1, meshed: true, label: None };
/// Outside the mesh.
const PLAIN: Probe = Probe { name: "plain", replicas: 1, meshed: false, label: None };

/// A cluster with its clients.
pub(super) struct Cluster {
    pub spec: spec::Cluster,
    pub context: String,
    /// The name of the cluster whose istiod its proxies use: its own, unless it is a remote cluster. Istio's objects take effect there.
    pub control_plane: String,
    /// Its Istio network; none for the one that clusters of a flat mesh share.
    pub network: Option<String>,
    pub client: Client,
    record: Record,
    roles: Vec<Probe>,
}

impl Cluster {
    pub fn name(&self) -> &str {
        self.spec.name.as_str()
    }

    /// Whether its proxies use the istiod of another cluster.
    pub fn is_remote(&self) -> bool {
        self.control_plane != self.name()
    }
}

/// The namespaces and probes of the checks.
pub(super) struct TestNamespaces {
    pub namespace: String,
    pub clusters: Vec<Cluster>,
    caller: usize,
    producer: usize,
    image: String,
    /// Serializes the checks that restrict who may call `guarded`.
    pub guarded: tokio::sync::Mutex<()>,
}

impl TestNamespaces {
    /// Connects to the clusters; creates nothing yet.
    pub async fn open(environment: Environment) -> anyhow::Result<Self> {
        let samples = &environment.spec.samples;
        if !samples.enabled {
            return Err(Error::usage("this environment has no samples, and checks use their image")
                .hint("set samples.enabled: true in its spec, then kindmesh up")
                .into());
        }
        let mut clusters = Vec::new();
        for spec in &environment.spec.clusters {
            clusters.push(Cluster {
                spec: spec.clone(),
                context: environment.context(spec.name.as_str()),
                control_plane: environment.spec.control_plane_of(spec).name.to_string(),
                network: environment.spec.network_of(spec).map(str::to_owned),
                client: environment.client(spec.name.as_str()).await?,
                record: environment.record(spec.name.as_str()),
                roles: vec![PLAIN],
            });
        }
        let calls = |cluster: &Cluster| samples.caller.clusters.iter().any(|name| name.as_str() == cluster.name());
        let caller = clusters.iter().position(calls).unwrap_or(0);
        let produces = |(index, cluster): &(usize, &Cluster)| {
            *index != caller && samples.producer.clusters.iter().any(|name| name.as_str() == cluster.name())
        };
        let other = (0..clusters.len()).find(|index| *index != caller);
        let producer = clusters.iter().enumerate().find(produces).map(|(index, _)| index).or(other);
        let producer = producer
            .ok_or_else(|| Error::usage("this environment has one cluster: no cross-cluster call is possible"))?;
        clusters[caller].roles.extend([CALLER, STRANGER, NEAR]);
        clusters[producer].roles.extend([PRODUCER, GUARDED]);
        let image = workloads::sample_image(&clusters[caller].client, &environment).await?;
        let namespace = format!("kindmesh-verify-{:x}", jiff::Timestamp::now().as_millisecond());
        Ok(Self { namespace, clusters, caller, producer, image, guarded: tokio::sync::Mutex::default() })
    }

    /// Returns the caller's cluster.
    pub fn caller(&self) -> &Cluster {
        &self.clusters[self.caller]
    }

    /// Returns the cluster whose istiod a cluster's proxies use.
    pub fn control_plane_of<'a>(&'a self, cluster: &'a Cluster) -> &'a Cluster {
        self.clusters.iter().find(|other| other.name() == cluster.control_plane).unwrap_or(cluster)
    }

    /// Whether calls go through an east-west gateway: the producer is on another network than the caller.
    pub fn is_apart(&self) -> bool {
        self.caller().network != self.producer().network
    }

    /// Returns the producer's cluster.
    pub fn producer(&self) -> &Cluster {
        &self.clusters[self.producer]
    }

    /// Deletes what killed runs left, creates this run's namespaces and waits for the probes.
    pub async fn make(&self, events: &Events, deadline: Instant) -> anyhow::Result<()> {
        events
            .step("probes", None)
            .run(async |step| {
                try_join_all(self.clusters.iter().map(|cluster| self.make_in(cluster, step, deadline))).await?;
                self.settle(step, deadline).await?;
                Ok(Outcome::changed(()))
            })
            .await
    }

    async fn make_in(&self, cluster: &Cluster, step: &Step, deadline: Instant) -> anyhow::Result<()> {
        lease::sweep(&cluster.client, PART_OF).await;
        let mut objects = vec![lease::namespace(&self.namespace, PART_OF, LEASE)?];
        objects.extend(self.select(apply::objects(SERVICES)?, cluster)?);
        for role in &cluster.roles {
            objects.extend(role.objects(&self.namespace, &self.image, &cluster.spec)?);
        }
        Applier::new(cluster.client.clone(), step, deadline).recording(&cluster.record).apply(objects).await?;
        for role in &cluster.roles {
            let probe = Workload::deployment(&self.namespace, role.name);
            let ready = waits::workload(&cluster.client, &probe, &cluster.record, step, deadline).await;
            ready.with_context(|| format!("starting probe {} in {}", role.name, cluster.name()))?;
        }
        Ok(())
    }

    /// Waits some time until the caller's proxy has every endpoint of every Service: their EndpointSlices are written
    /// one after another. If it never has, the checks report it.
    async fn settle(&self, step: &Step, deadline: Instant) -> anyhow::Result<()> {
        let services = apply::objects(SERVICES)?;
        let produced = services.iter().filter(|service| {
            let app = service.data.pointer("/spec/selector/app").and_then(Value::as_str);
            app == Some(PRODUCER.name) && !service.annotations().contains_key(SIDE)
        });
        let name = |service: &DynamicObject| {
            let port = service.data.pointer("/spec/ports/0/port").and_then(Value::as_u64);
            let port = port.and_then(|port| u16::try_from(port).ok()).unwrap_or(PORT);
            envoy::outbound(port, &self.host(&service.name_any()))
        };
        let names: Vec<String> = produced.map(name).collect();
        // The gateway is one endpoint for all.
        let expected = if self.is_apart() { 1 } else { usize::from(PRODUCER.replicas) };
        let lacks = |clusters: &str, name: &&String| envoy::healthy(clusters, name).len() < expected;
        let deadline = deadline.min(Instant::now() + SETTLE_TIMEOUT);
        let what = "the caller's proxy to receive the endpoints";
        let mut retries = Retries::new(&self.caller().record);
        let _ = wait::until(step, what, deadline, async || match self.proxy_says("clusters").await {
            Ok(clusters) => Ok(match names.iter().find(|name| lacks(&clusters, name)) {
                None => Poll::Ready(()),
                Some(name) => Poll::NotYet(format!("endpoints of {name} are missing")),
            }),
            Err(error) => retries.failed(what, error),
        })
        .await;
        Ok(())
    }

    /// Returns the objects of a check's manifest that take effect in a cluster: routing in the caller's,
    /// authorization in the producer's, Services in both, unless an annotation says otherwise. Istio's objects take effect in the
    /// cluster of the istiod that configures the proxies.
    pub fn select(&self, objects: Vec<DynamicObject>, cluster: &Cluster) -> anyhow::Result<Vec<DynamicObject>> {
        let is_caller = cluster.name() == self.caller().name();
        let is_producer = cluster.name() == self.producer().name();
        let configures = |other: &Cluster| other.control_plane == cluster.name();
        let mut selected = Vec::new();
        for mut object in objects {
            let kind = object.types.as_ref().map(|types| types.kind.clone()).unwrap_or_default();
            let is_istios = object.types.as_ref().is_some_and(|types| types.api_version.contains(".istio.io/"));
            let (is_caller, is_producer) = match is_istios {
                true => (configures(self.caller()), configures(self.producer())),
                false => (is_caller, is_producer),
            };
            let acts = match (object.annotations().get(SIDE).map(String::as_str), kind.as_str()) {
                (Some("caller"), _) => is_caller,
                (Some("producer"), _) => is_producer,
                (Some("both"), _) | (None, "Service") => is_caller || is_producer,
                (Some(other), _) => anyhow::bail!("{SIDE} is \"{other}\", but must be caller, producer or both"),
                (None, "PeerAuthentication" | "AuthorizationPolicy" | "RequestAuthentication") => is_producer,
                (None, _) => is_caller,
            };
            if acts {
                object.metadata.namespace = Some(self.namespace.clone());
                object.labels_mut().insert(PART_OF_LABEL.to_owned(), PART_OF.to_owned());
                // Identities and hosts contain the namespace.
                let text = object.data.to_string().replace(WRITTEN_NAMESPACE, &self.namespace);
                object.data = serde_json::from_str(&text)?;
                selected.push(object);
            }
        }
        Ok(selected)
    }

    /// Applies objects of a check's manifest in the clusters where they take effect.
    pub async fn apply(&self, objects: &[DynamicObject], deadline: Instant) -> anyhow::Result<()> {
        let step = Events::silent().step("verify", None);
        for cluster in &self.clusters {
            let selected = self.select(objects.to_vec(), cluster)?;
            if !selected.is_empty() {
                let applier = Applier::new(cluster.client.clone(), &step, deadline);
                applier.recording(&cluster.record).apply(selected).await?;
            }
        }
        Ok(())
    }

    /// Deletes an object of a check's manifest where it takes effect.
    pub async fn unapply(&self, object: &DynamicObject) -> anyhow::Result<()> {
        for cluster in &self.clusters {
            for object in self.select(vec![object.clone()], cluster)? {
                let api = kinds::api_of(&cluster.client, &object)?;
                objects::delete_if_exists(&api, &object.name_any(), &DeleteParams::default()).await?;
            }
        }
        Ok(())
    }

    /// Returns the ready pods of a role, in whichever cluster it runs.
    pub async fn pods(&self, cluster: &Cluster, role: &str) -> anyhow::Result<Vec<Pod>> {
        Ok(pods::ready(&cluster.client, &self.namespace, &format!("app={role}")).await?)
    }

    /// Connects to the first pod of a role.
    pub async fn prober(&self, cluster: &Cluster, role: &str) -> anyhow::Result<Prober> {
        let pods = self.pods(cluster, role).await?;
        let pod = pods.first().with_context(|| format!("no pod of {role} is ready in {}", cluster.name()))?;
        Prober::open(&cluster.client, &self.namespace, pod).await
    }

    /// Connects to the caller.
    pub async fn calling(&self) -> anyhow::Result<Prober> {
        self.prober(self.caller(), CALLER.name).await
    }

    /// Returns a Service's full name.
    pub fn host(&self, service: &str) -> String {
        format!("{service}.{}.svc.cluster.local", self.namespace)
    }

    /// Returns the healthy endpoints of a Service in the caller's proxy, sorted.
    pub async fn endpoints(&self, service: &str) -> anyhow::Result<Vec<String>> {
        let clusters = self.proxy_says("clusters").await?;
        let mut known = envoy::healthy(&clusters, &self.proxy_cluster(service));
        known.sort();
        Ok(known)
    }

    /// Returns Envoy's cluster name of a Service.
    pub fn proxy_cluster(&self, service: &str) -> String {
        envoy::outbound(PORT, &self.host(service))
    }

    /// Returns a page of the caller's proxy's administration interface.
    pub async fn proxy_says(&self, page: &str) -> anyhow::Result<String> {
        let pods = self.pods(self.caller(), CALLER.name).await?;
        let pod = pods.first().context("the caller is not ready")?.name_any();
        envoy::page(&self.caller().client, &self.namespace, &pod, page).await
    }

    /// Returns the start of a kubectl command for this run's namespace.
    pub fn kubectl(&self, cluster: &Cluster) -> String {
        format!("kubectl --context {} -n {}", cluster.context, self.namespace)
    }

    /// Scales a role.
    pub async fn scale(&self, cluster: &Cluster, role: &str, replicas: u8) -> anyhow::Result<()> {
        let api: Api<Deployment> = Api::namespaced(cluster.client.clone(), &self.namespace);
        let patch = kube::api::Patch::Merge(json!({"spec": {"replicas": replicas}}));
        api.patch_scale(role, &kube::api::PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// Deletes this run's namespaces and waits until they are gone.
    pub async fn remove(&self) -> anyhow::Result<()> {
        let gone = join_all(self.clusters.iter().map(|cluster| self.remove_from(cluster))).await;
        gone.into_iter().collect()
    }

    async fn remove_from(&self, cluster: &Cluster) -> anyhow::Result<()> {
        lease::delete(&cluster.client, &self.namespace).await?;
        lease::gone(&cluster.client, &self.namespace, cluster.name()).await
    }
}
