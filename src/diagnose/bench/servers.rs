//! The namespaces of a measurement, and fortio in them: a load generator in one cluster, and a server for each path, each with a
//! proxy and without.

use std::time::Duration;

use anyhow::Context;
use futures::future::{join_all, try_join_all};
use kube::api::DynamicObject;
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::time::Instant;

use super::{Figures, Options, Path, Route, fortio};
use crate::base::error::Error;
use crate::base::event::{Events, Outcome, Step};
use crate::base::wait::{self, Poll};
use crate::cluster::environment::Environment;
use crate::cluster::lease;
use crate::cluster::mesh::apply::{self, Applier};
use crate::cluster::refusal::Record;
use crate::cluster::rollout::Workload;
use crate::cluster::{exec, pods};
use crate::diagnose::diagnosis::waits;

const POD: &str = include_str!("../../../mesh-manifests/bench/pod.yaml");
const SERVICE: &str = include_str!("../../../mesh-manifests/bench/service.yaml");
const STRICT: &str = include_str!("../../../mesh-manifests/bench/strict.yaml");
/// The value of the part-of label of everything that a measurement creates.
const PART_OF: &str = "kindmesh-bench";
/// The name of the load generator.
const LOAD: &str = "load";
/// The container of fortio.
const CONTAINER: &str = "app";
/// How much longer than planned a load may take.
const GRACE: Duration = Duration::from_secs(30);
/// The lease beyond the loads: longer than any realistic setup, although `--timeout` may be up to a day.
const LEASE: Duration = Duration::from_secs(1800);
/// The timeout of the one call that shows that a path works.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A cluster, and the names of the workloads in it.
struct Cluster {
    name: String,
    client: Client,
    record: Record,
    pods: Vec<&'static str>,
    services: Vec<&'static str>,
}

/// The namespaces of a measurement.
pub(super) struct Servers {
    namespace: String,
    clusters: Vec<Cluster>,
    image: String,
}

/// Returns the name of a workload, with a proxy or without.
fn named(name: &str, meshed: bool) -> String {
    if meshed { name.to_owned() } else { format!("{name}-plain") }
}

impl Servers {
    /// Connects to the clusters of these paths; creates nothing yet.
    pub async fn open(environment: &Environment, routes: &[Route], image: &str) -> anyhow::Result<Self> {
        let used = |spec: &&crate::spec::Cluster| {
            routes.iter().any(|route| [&route.from, &route.to].iter().any(|name| **name == spec.name.as_str()))
        };
        // Requiring mutual TLS in a remote cluster takes effect in its primary.
        let control_planes: Vec<&str> = environment
            .spec
            .clusters
            .iter()
            .filter(used)
            .map(|spec| environment.spec.control_plane_of(spec).name.as_str())
            .collect();
        let mut clusters = Vec::new();
        for spec in &environment.spec.clusters {
            let name = spec.name.as_str();
            let sends = routes.iter().any(|route| route.from == name);
            let serves: Vec<_> = routes.iter().filter(|route| route.to == name).map(|r| r.path.as_str()).collect();
            if !sends && serves.is_empty() && !control_planes.contains(&name) {
                continue;
            }
            let services = routes.iter().filter(|route| route.from == name || route.to == name);
            clusters.push(Cluster {
                name: name.to_owned(),
                client: environment.client(name).await?,
                record: environment.record(name),
                services: services.map(|route| route.path.as_str()).collect(),
                pods: sends.then_some(LOAD).into_iter().chain(serves).collect(),
            });
        }
        let namespace = format!("kindmesh-bench-{:x}", jiff::Timestamp::now().as_millisecond());
        Ok(Self { namespace, clusters, image: image.to_owned() })
    }

    /// Deletes what killed runs left, creates this run's namespaces and waits for the pods.
    pub async fn create(&self, events: &Events, deadline: Instant) -> anyhow::Result<()> {
        events
            .step("probes", None)
            .run(async |step| {
                try_join_all(self.clusters.iter().map(|cluster| self.create_in(cluster, step, deadline))).await?;
                Ok(Outcome::changed(()))
            })
            .await
    }

    async fn create_in(&self, cluster: &Cluster, step: &Step, deadline: Instant) -> anyhow::Result<()> {
        lease::sweep(&cluster.client, PART_OF).await;
        let mut objects = vec![lease::namespace(&self.namespace, PART_OF, LEASE)?];
        objects.extend(self.objects(STRICT, None)?);
        for service in &cluster.services {
            objects.extend(self.objects(SERVICE, Some(service))?);
        }
        let workloads: Vec<_> = cluster.pods.iter().flat_map(|pod| self.workloads(cluster, pod)).collect();
        for (name, meshed) in &workloads {
            for mut object in self.objects(POD, Some(name))? {
                self.adapt(&mut object, name, *meshed);
                objects.push(object);
            }
        }
        Applier::new(cluster.client.clone(), step, deadline).recording(&cluster.record).apply(objects).await?;
        for (name, _) in &workloads {
            let workload = Workload::deployment(&self.namespace, name);
            let ready = waits::workload(&cluster.client, &workload, &cluster.record, step, deadline).await;
            ready.with_context(|| format!("starting {name}, image {}, in {}", self.image, cluster.name))?;
        }
        Ok(())
    }

    /// Returns the variants of a workload: with a proxy, and without unless only a gateway leads to it.
    fn workloads(&self, cluster: &Cluster, name: &str) -> Vec<(String, bool)> {
        debug_assert!(cluster.pods.contains(&name), "{name} is not in {}", cluster.name);
        let both = if name == Path::Gateway.as_str() { &[true][..] } else { &[true, false] };
        both.iter().map(|meshed| (named(name, *meshed), *meshed)).collect()
    }

    fn objects(&self, manifest: &str, name: Option<&str>) -> anyhow::Result<Vec<DynamicObject>> {
        let mut objects = apply::objects(manifest)?;
        for object in &mut objects {
            object.metadata.namespace = Some(self.namespace.clone());
            if let Some(name) = name {
                object.metadata.name = Some(name.to_owned());
                if let Some(app) = object.data.pointer_mut("/spec/selector/app") {
                    *app = json!(name);
                }
            }
        }
        Ok(objects)
    }

    fn adapt(&self, object: &mut DynamicObject, name: &str, meshed: bool) {
        let Some(spec) = object.data.pointer_mut("/spec") else { return };
        spec["selector"]["matchLabels"]["app"] = json!(name);
        let labels = &mut spec["template"]["metadata"]["labels"];
        labels["app"] = json!(name);
        labels["sidecar.istio.io/inject"] = json!(meshed.to_string());
        spec["template"]["spec"]["containers"][0]["image"] = json!(self.image);
    }

    fn cluster(&self, name: &str) -> anyhow::Result<&Cluster> {
        self.clusters.iter().find(|cluster| cluster.name == name).with_context(|| format!("no cluster {name}"))
    }

    /// Returns the name and the address of the pod of a workload.
    async fn pod(&self, cluster: &Cluster, name: &str) -> anyhow::Result<(String, String)> {
        let found = pods::ready(&cluster.client, &self.namespace, &format!("app={name}")).await?;
        let pod = found.first().with_context(|| format!("no pod of {name} is ready in {}", cluster.name))?;
        let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
        Ok((pod.name_any(), address.with_context(|| format!("pod {} has no address", pod.name_any()))?))
    }

    /// Sends one load, and returns its figures. Without mutual TLS, it is sent to the pod's address, from a pod without a proxy:
    /// only the mesh knows Services of peers.
    pub async fn measure(
        &self,
        route: &Route,
        mtls: bool,
        options: &Options,
        deadline: Instant,
    ) -> anyhow::Result<Figures> {
        let (from, to) = (self.cluster(&route.from)?, self.cluster(&route.to)?);
        let (pod, _) = self.pod(from, &named(LOAD, mtls)).await?;
        let host = match mtls {
            true => route.path.as_str().to_owned(),
            false => fortio::url_host(&self.pod(to, &named(route.path.as_str(), false)).await?.1),
        };
        let what = format!("a call from {} to {host} in {}", route.from, route.to);
        // Endpoints of a peer reach the proxy shortly after their pods are ready. Loads before this one took their own time.
        let until = deadline.max(Instant::now() + GRACE);
        let silent = Events::silent().step("measure", None);
        wait::until(&silent, &what, until, async || {
            Ok(match self.run(from, &pod, &fortio::one_call(&host, options.protocol), CALL_TIMEOUT).await {
                Ok(said) => match fortio::figures(&said, options.protocol) {
                    Ok(figures) if figures.failed == 0 => Poll::Ready(()),
                    Ok(figures) => Poll::NotYet(format!("{:?}", figures.results)),
                    Err(error) => Poll::NotYet(format!("{error:#}")),
                },
                Err(error) => Poll::NotYet(last_line(&error)),
            })
        })
        .await?;
        let limit = Duration::from_secs(u64::from(options.seconds)) + GRACE;
        let said = self.run(from, &pod, &fortio::load(&host, options), limit).await;
        let said = said.with_context(|| format!("the load from {} to {host} in {}", route.from, route.to))?;
        fortio::figures(&said, options.protocol)
    }

    async fn run(&self, from: &Cluster, pod: &str, command: &[String], limit: Duration) -> anyhow::Result<String> {
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        exec::exec_once(&from.client, &self.namespace, pod, CONTAINER, &command, limit).await
    }

    /// Deletes the namespaces and waits until they are gone.
    pub async fn remove(&self) -> anyhow::Result<()> {
        let removed = self.clusters.iter().map(async |cluster| {
            lease::delete(&cluster.client, &self.namespace).await?;
            lease::gone(&cluster.client, &self.namespace, &cluster.name).await
        });
        join_all(removed).await.into_iter().collect()
    }
}

/// Returns an error in one line, with the end of its evidence.
fn last_line(error: &anyhow::Error) -> String {
    let evidence = crate::base::error::find(error)
        .and_then(|Error { evidence, .. }| evidence.last()?.lines().last().map(str::to_owned));
    evidence.map_or_else(|| format!("{error:#}"), |line| format!("{error:#}: {line}"))
}
