//! A test's own namespace in every cluster, in the mesh, with a caller in each.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use futures::future::{join_all, try_join_all};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, DynamicObject, ListParams, LogParams};
use serde_json::Value;
use tokio::time::Instant;

use super::answer::logged;
use super::{Answer, LEASE, Mesh, PART_OF, Poll, Request, ServedBy, Side};
use crate::base::error::Error;
use crate::base::event::Events;
use crate::base::names::PORT;
use crate::base::wait;
use crate::base::yaml::Places;
use crate::cluster::lease;
use crate::cluster::mesh::apply::{self, Applier, kind};
use crate::cluster::mesh::{PodConnection, envoy};
use crate::cluster::pods;
use crate::cluster::probes::Probe;
use crate::cluster::refusal::Retries;
use crate::lifecycle::deploy::manifests::{self, Found, Manifest};
use crate::lifecycle::deploy::place::pod_template;
use crate::lifecycle::deploy::stubs::STUB_IN;
use crate::lifecycle::deploy::{self, Deployed, Options, Origin};
use crate::sample::Probed;

/// The caller's Deployment, service account and label `app`.
pub(super) const CALLER: &str = "kindmesh-caller";
/// How long a namespace, and what is applied to it, may take to be ready.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// How long endpoint updates may take to reach every proxy: about 0.2 s, a second under load.
const ENDPOINT_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a proxy may take to write its access log: it does so every second.
const LOG_TIMEOUT: Duration = Duration::from_secs(5);

/// A namespace of the same name in every cluster, for one test.
#[derive(Debug, Clone)]
pub struct Namespace {
    pub(super) mesh: Mesh,
    pub(super) name: String,
    pub(super) alone: bool,
}

impl Namespace {
    pub(super) async fn make(mesh: &Mesh, alone: bool) -> anyhow::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let (now, count) = (jiff::Timestamp::now().as_millisecond(), COUNT.fetch_add(1, Ordering::Relaxed));
        let name = format!("test-{now:x}-{:x}-{count}", std::process::id());
        let this = Self { mesh: mesh.clone(), name, alone };
        let _lock = mesh.lock_shared().await?;
        try_join_all(mesh.sides.iter().map(|side| this.make_in(side)))
            .await
            .context("creating the test's namespace")?;
        Ok(this)
    }

    async fn make_in(&self, side: &Side) -> anyhow::Result<()> {
        lease::sweep(&side.client, PART_OF).await;
        let mut objects = vec![lease::namespace(&self.name, PART_OF, LEASE)?];
        let caller = Probe { name: CALLER, replicas: 1, meshed: true, label: None };
        objects.extend(caller.objects(&self.name, &self.mesh.image, &side.spec)?);
        let step = Events::silent().step("testing", Some(&side.name));
        let applier = Applier::new(side.client.clone(), &step, Instant::now() + READY_TIMEOUT);
        applier.recording(&self.mesh.environment.record(&side.name)).apply(objects).await.map(drop)
    }

    /// Deletes it in every cluster, without waiting for the deletion to complete.
    pub(super) async fn remove(&self) -> anyhow::Result<()> {
        let _lock = self.mesh.lock_shared().await?;
        let gone = join_all(self.mesh.sides.iter().map(|side| lease::delete(&side.client, &self.name))).await;
        gone.into_iter().collect()
    }

    /// Returns its name, which is the same in every cluster.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the mesh it is in.
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// Applies manifests (YAML, with any number of documents) to this namespace of one cluster, whatever namespace
    /// they name, with the images of the local engine; each Service gets a stub in every other cluster, so that
    /// its name resolves there. Returns when all pods are ready and every cluster's proxies know the endpoints.
    ///
    /// # Errors
    /// A usage error for an invalid manifest; otherwise what keeps the pods from being ready.
    pub async fn apply(&self, cluster: &str, manifests: &str) -> anyhow::Result<Deployed> {
        let mut objects = apply::objects(manifests)?;
        for service in objects.iter_mut().filter(|object| kind(object) == "Service") {
            service.annotations_mut().entry(STUB_IN.to_owned()).or_insert_with(|| "*".to_owned());
        }
        self.apply_found(given(objects), Some(cluster)).await
    }

    /// The same without stubs: a Service exists only in this cluster.
    ///
    /// # Errors
    /// As for [`Namespace::apply`].
    pub async fn apply_only(&self, cluster: &str, manifests: &str) -> anyhow::Result<Deployed> {
        self.apply_found(given(apply::objects(manifests)?), Some(cluster)).await
    }

    /// Deploys a directory of manifests like `kindmesh deploy`, into this namespace: placed by annotations, with
    /// the necessary stub Services.
    ///
    /// # Errors
    /// A usage error for manifests without a placement; otherwise what keeps the pods from being ready.
    pub async fn deploy(&self, folder: impl AsRef<Path>) -> anyhow::Result<Deployed> {
        self.apply_found(manifests::read(folder.as_ref(), &self.name).await?, None).await
    }

    async fn apply_found(&self, mut found: Found, to: Option<&str>) -> anyhow::Result<Deployed> {
        let places = &self.mesh.environment.spec.deploy;
        let owned = |(name, at): (&String, &Vec<crate::spec::Label>)| {
            (name.clone(), at.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let options = Options {
            to: to.map(str::to_owned),
            places: places.iter().map(owned).collect(),
            namespace: self.name.clone(),
            force_namespace: true,
            prune: false,
            wait: true,
            deadline: Instant::now() + READY_TIMEOUT,
        };
        let origin = Origin { label: self.name.clone(), path: "a test".into(), prune: false };
        let services = served(&found.manifests);
        // Everything is applied to the test's namespace, not to one from the manifests.
        found.manifests.retain(|manifest| kind(&manifest.object) != "Namespace");
        let environment = &self.mesh.environment;
        let lock = self.mesh.lock_shared().await?;
        let deployed = deploy::deploy_manifests(environment, found, &origin, &options, &Events::silent()).await?;
        drop(lock);
        for (service, port) in services {
            let applied = deployed.applied.iter().map(|applied| &applied.object);
            let in_clusters: Vec<&str> = applied
                .filter(|object| object.kind == "Service" && object.name == service)
                .map(|object| object.cluster.as_str())
                .collect();
            try_join_all(self.mesh.sides.iter().map(|side| self.known(side, &service, port, &in_clusters)))
                .await?;
        }
        Ok(deployed)
    }

    /// Waits until the proxy of a cluster's caller knows a healthy endpoint of a Service in each of some clusters;
    /// without such a Service, there is none to know.
    async fn known(&self, side: &Side, service: &str, port: u16, clusters: &[&str]) -> anyhow::Result<()> {
        let api: Api<k8s_openapi::api::core::v1::Service> = Api::namespaced(side.client.clone(), &self.name);
        if api.get_opt(service).await?.is_none() {
            return Ok(());
        }
        let what = format!("the proxy in {} to know the endpoints of {service}", side.name);
        let record = self.mesh.environment.record(&side.name);
        let mut retries = Retries::new(&record);
        self.until(&what, ENDPOINT_TIMEOUT, async || {
            let known = match self.endpoints(&side.name, service, port).await {
                Ok(known) => known,
                Err(error) => return retries.failed(&what, error),
            };
            let lacks = clusters.iter().find(|cluster| !known.iter().any(|one| self.is_in(one, cluster)));
            Ok(match lacks {
                None => Poll::Ready(()),
                Some(cluster) => Poll::NotYet(format!("it knows {known:?}, none in {cluster}")),
            })
        })
        .await
    }

    /// Whether an endpoint, `ADDRESS:PORT`, is a pod of a cluster.
    pub(super) fn is_in(&self, endpoint: &str, cluster: &str) -> bool {
        let ip = endpoint.rsplit_once(':').and_then(|(ip, _)| ip.parse::<Ipv4Addr>().ok());
        self.mesh.plan.cluster(cluster).zip(ip).is_some_and(|(cluster, ip)| cluster.owns(ip))
    }

    /// Returns the healthy endpoints of a Service in the proxy of a cluster's caller: `ADDRESS:PORT`, sorted.
    ///
    /// # Errors
    /// If the caller does not become ready, or its proxy does not respond.
    pub async fn endpoints(&self, cluster: &str, service: &str, port: u16) -> anyhow::Result<Vec<String>> {
        let side = self.mesh.side(cluster)?;
        let pod = self.caller(side).await?.name_any();
        let host = format!("{service}.{}.svc.cluster.local", self.name);
        let mut known = envoy::healthy_endpoints(&side.client, &self.name, &pod, &host, port).await?;
        known.sort();
        Ok(known)
    }

    /// Sends a GET to a URL, `http://HOST[:PORT][/PATH]`, from a workload of this namespace in a cluster.
    ///
    /// # Errors
    /// If there is no response, as for a name that does not resolve.
    pub async fn call(&self, cluster: &str, url: &str) -> anyhow::Result<Answer> {
        self.send(cluster, &Request::get(url)).await
    }

    /// Sends a request from a workload of this namespace in a cluster, whose identity is the service account
    /// `kindmesh-caller`.
    ///
    /// # Errors
    /// As for [`Namespace::call`].
    pub async fn send(&self, cluster: &str, request: &Request) -> anyhow::Result<Answer> {
        let mut answers = self.send_times(cluster, request, 1).await?;
        answers.pop().context("no response")
    }

    /// Sends a request several times, one after another: faster than single calls, since the access log is read
    /// once.
    ///
    /// # Errors
    /// As for [`Namespace::call`], at the first failure.
    pub async fn send_times(&self, cluster: &str, request: &Request, times: u32) -> anyhow::Result<Vec<Answer>> {
        let side = self.mesh.side(cluster)?;
        let pod = self.caller(side).await?.name_any();
        let mut connection = PodConnection::open(&side.client, &self.name, &pod, PORT).await?;
        let mut answers = Vec::new();
        for _ in 0..times {
            let id = request_id();
            let probed: Probed = connection.post("/probe/request", &[], &request.probe(&id)?).await?;
            let Some(status) = probed.status else {
                return Err(self.unanswered(cluster, request.url(), &probed).into());
            };
            answers.push(Answer {
                status,
                body: probed.body,
                millis: probed.millis,
                request_id: id,
                served_by: ServedBy::default(),
            });
        }
        self.look_up(side, &pod, &mut answers).await?;
        Ok(answers)
    }

    fn unanswered(&self, cluster: &str, url: &str, probed: &Probed) -> Error {
        let why = probed.error.as_deref().unwrap_or("no reason given");
        let name = self.mesh.environment.name();
        Error::environment(format!("the call from {cluster} to {url} got no response: {why}"))
            .evidence(format!("after {} ms", probed.millis))
            .hint(format!("find out why: kindmesh why {cluster} {url} --namespace {} --name {name}", self.name))
    }

    /// Finds out who responded, from the access log of the caller's proxy.
    async fn look_up(&self, side: &Side, pod: &str, answers: &mut [Answer]) -> anyhow::Result<()> {
        let api: Api<Pod> = Api::namespaced(side.client.clone(), &self.name);
        let parameters = LogParams {
            container: Some(envoy::CONTAINER.into()),
            since_seconds: Some(i64::from(u16::try_from(answers.len()).unwrap_or(u16::MAX)) + 120),
            ..LogParams::default()
        };
        let what = "the caller's proxy to write its access log";
        let step = Events::silent().step("testing", None);
        let found = wait::until(&step, what, Instant::now() + LOG_TIMEOUT, async || {
            let log = api.logs(pod, &parameters).await?;
            let found: Option<Vec<ServedBy>> =
                answers.iter().map(|answer| logged(&log, &answer.request_id)).collect();
            Ok(found.map_or_else(|| Poll::NotYet("the requests are not in it".into()), Poll::Ready))
        })
        .await;
        // A call without a proxy, or a log of another format: the responses are valid, without who responded.
        let Ok(found) = found else { return Ok(()) };
        let pods = self.pods_by_address().await?;
        for (answer, served_by) in answers.iter_mut().zip(found) {
            answer.served_by = served_by;
            let Some(ip) = answer.served_by.ip() else { continue };
            match pods.get(&ip.to_string()) {
                Some((cluster, pod)) => {
                    answer.served_by.cluster.clone_from(cluster);
                    answer.served_by.pod.clone_from(pod);
                }
                None => {
                    let of = self.mesh.plan.clusters.iter().find(|cluster| cluster.owns(ip));
                    answer.served_by.cluster = of.map(|cluster| cluster.name.clone()).unwrap_or_default();
                }
            }
        }
        Ok(())
    }

    /// Returns this namespace's pods by their addresses: cluster and name.
    async fn pods_by_address(&self) -> anyhow::Result<BTreeMap<String, (String, String)>> {
        let mut pods = BTreeMap::new();
        for side in &self.mesh.sides {
            let api: Api<Pod> = Api::namespaced(side.client.clone(), &self.name);
            for pod in api.list(&ListParams::default()).await?.items {
                if let Some(ip) = pod.status.as_ref().and_then(|status| status.pod_ip.clone()) {
                    pods.insert(ip, (side.name.clone(), pod.name_any()));
                }
            }
        }
        Ok(pods)
    }

    /// Returns the caller's pod of a cluster, when it is ready.
    pub(super) async fn caller(&self, side: &Side) -> anyhow::Result<Pod> {
        let selector = format!("app={CALLER}");
        let what = format!("the caller in {} to be ready", side.name);
        self.until(&what, READY_TIMEOUT, async || {
            let mut found = pods::list(&side.client, &self.name, &selector).await?;
            let blocked = pods::blocked(&found);
            found.retain(pods::is_ready);
            Ok(found.pop().map_or(Poll::NotYet(blocked), Poll::Ready))
        })
        .await
    }

    /// Waits until a condition holds. It returns [`Poll::NotYet`] with its status; an error ends the wait.
    ///
    /// # Errors
    /// The condition's own error; or, if it does not hold in time, what was waited for and the last status.
    pub async fn until<T>(
        &self,
        what: &str,
        within: Duration,
        condition: impl AsyncFnMut() -> anyhow::Result<Poll<T>>,
    ) -> anyhow::Result<T> {
        let step = Events::silent().step("testing", None);
        wait::until(&step, what, Instant::now() + within, condition).await
    }

    /// Waits until a condition holds in every cluster at the same time.
    ///
    /// # Errors
    /// As for [`Namespace::until`].
    pub async fn until_everywhere(
        &self,
        what: &str,
        within: Duration,
        mut condition: impl AsyncFnMut(&Side) -> anyhow::Result<Poll<()>>,
    ) -> anyhow::Result<()> {
        let step = Events::silent().step("testing", None);
        wait::until(&step, what, Instant::now() + within, async || {
            let mut missing = Vec::new();
            for side in &self.mesh.sides {
                if let Poll::NotYet(because) = condition(side).await? {
                    missing.push(format!("{}: {because}", side.name));
                }
            }
            Ok(if missing.is_empty() { Poll::Ready(()) } else { Poll::NotYet(missing.join("; ")) })
        })
        .await
    }
}

/// A request's ID. It must not look like a UUID: Envoy changes one digit of those.
fn request_id() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let (now, count) = (jiff::Timestamp::now().as_nanosecond(), COUNT.fetch_add(1, Ordering::Relaxed));
    format!("kindmesh-{now:x}-{count}")
}

/// Returns objects that were not read from a file as manifests.
fn given(objects: Vec<DynamicObject>) -> Found {
    let file = || "the test's manifests".to_owned();
    let manifest = |object| Manifest { object, file: file(), places: Places::default() };
    Found { manifests: objects.into_iter().map(manifest).collect(), notes: Vec::new() }
}

/// Returns the Services that pods of the same manifests are behind, each with its first port.
fn served(manifests: &[Manifest]) -> Vec<(String, u16)> {
    let objects = || manifests.iter().map(|manifest| &manifest.object);
    let runs = |service: &DynamicObject| {
        let Some(Value::Object(selector)) = service.data.pointer("/spec/selector") else { return false };
        objects().any(|object| {
            let labels =
                pod_template(object).and_then(|path| object.data.pointer(&format!("{path}/metadata/labels")));
            let some = object.data.pointer("/spec/replicas").and_then(Value::as_i64) != Some(0);
            let fits = |labels: &Value| selector.iter().all(|(key, value)| labels.get(key) == Some(value));
            some && labels.is_some_and(fits)
        })
    };
    let headless =
        |service: &DynamicObject| service.data.pointer("/spec/clusterIP").is_some_and(|ip| ip == "None");
    let services = objects().filter(|object| kind(object) == "Service" && runs(object) && !headless(object));
    services
        .filter_map(|service| {
            let port = service.data.pointer("/spec/ports/0/port")?.as_u64()?;
            Some((service.name_any(), u16::try_from(port).ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_with_pods_in_the_manifests_are_awaited() {
        let service = |name: &str, more: &str| {
            format!(
                "{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{selector: {{app: {name}}}, \
                 ports: [{{port: 80}}]{more}}}}}\n---\n"
            )
        };
        let pods = |name: &str, replicas: u8| {
            format!(
                "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: {name}}}, spec: {{replicas: {replicas}, \
                 template: {{metadata: {{labels: {{app: {name}, x: y}}}}, spec: {{containers: [{{name: a}}]}}}}}}}}\n---\n"
            )
        };
        let yaml = [
            service("a", "") + &pods("a", 1),
            service("drained", "") + &pods("drained", 0),
            service("headless", ", clusterIP: None") + &pods("headless", 1),
            service("alone", ""),
        ];
        assert_eq!(served(&given(apply::objects(&yaml.concat()).unwrap()).manifests), [("a".to_owned(), 80)]);
    }

    #[test]
    fn ids_differ_and_are_no_uuids() {
        let ids = [(); 2].map(|()| request_id());
        assert!(ids[0] != ids[1] && ids.iter().all(|id| id.len() != 36), "{ids:?}");
    }
}
