//! The status of an environment, layer by layer. A layer is inspected only if the one below it works.

use std::fmt;
use std::time::Duration;

use futures::future::join_all;
use kube::Client;
use serde::Serialize;

use crate::base::error;
use crate::base::hint;
use crate::base::names;
use crate::cluster::call;
use crate::cluster::environment::{self, Environment};
use crate::cluster::fault::{self, Fault, Kind};
use crate::cluster::link;
use crate::cluster::mesh::{ISTIO_NAMESPACE, gateway, istio, primary, remote};
use crate::cluster::rollout::{Rollout, Workload};
use crate::host::docker::{Engine, node};
use crate::host::outage::{self, Recorded};
use crate::host::trust;
use crate::plan::inventory::{self, Inventory};
use crate::plan::{Cluster, Plan};
use crate::sample::Protocol;

/// The state of an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// Everything works.
    Ready,
    /// Everything exists, but something does not work.
    Degraded,
    /// Something does not work yet, but recovers by itself.
    Healing,
    /// The nodes are frozen.
    Paused,
    /// The nodes are stopped.
    Stopped,
    /// Parts are missing.
    Partial,
    /// It does not exist.
    Absent,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Ready => "ready",
            Phase::Degraded => "degraded",
            Phase::Healing => "healing",
            Phase::Paused => "paused",
            Phase::Stopped => "stopped",
            Phase::Partial => "partial",
            Phase::Absent => "absent",
        })
    }
}

/// A layer of one cluster, or of the whole environment.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Layer {
    /// `engine`, `nodes`, `link`, `api`, `istiod`, `remoteClusters`, `gateway`, `workloads` or `call`.
    pub layer: &'static str,
    /// The cluster; none for the whole environment.
    pub cluster: Option<String>,
    /// Whether it works.
    pub ok: bool,
    /// The evidence.
    pub detail: String,
    /// The fix.
    pub hint: Option<String>,
}

/// A cluster of the environment.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// Its name in the mesh.
    pub name: String,
    /// Its context in the environment's kubeconfig.
    pub context: String,
    /// Its existing nodes.
    pub nodes: Vec<inventory::Node>,
}

/// The status of an environment.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The version of this format.
    pub schema_version: u8,
    /// The environment's name.
    pub environment: String,
    /// Its state.
    pub phase: Phase,
    /// The layers, from the bottom up.
    pub layers: Vec<Layer>,
    /// The clusters.
    pub clusters: Vec<ClusterStatus>,
    /// The active faults.
    pub faults: Vec<Fault>,
    /// The nodes that are killed on purpose.
    pub outages: Vec<Recorded>,
}

/// How long after its nodes started an environment counts as healing, not degraded. Measured: 52 s.
const HEALING_TIME: Duration = Duration::from_secs(120);

/// Returns the phase that the nodes show: `ready` if all are running.
pub fn phase_of_nodes(found: &inventory::Environment) -> Phase {
    let complete = found.network.is_some()
        && !found.clusters.is_empty()
        && found.clusters.keys().all(|cluster| found.nodes_of(cluster).next().is_some());
    let all = |state: &str| found.nodes.iter().all(|node| node.state == state);
    if !complete {
        Phase::Partial
    } else if all("running") {
        Phase::Ready
    } else if all("paused") {
        Phase::Paused
    } else if all("exited") {
        Phase::Stopped
    } else {
        Phase::Degraded
    }
}

/// Returns the command that resumes or starts an environment, if it is paused or stopped.
pub fn way_back(name: &str, phase: Phase) -> Option<String> {
    match phase {
        Phase::Paused => Some(hint::resume_hint(name)),
        Phase::Stopped => Some(hint::start_hint(name)),
        _ => None,
    }
}

/// Inspects every layer. `within` is the timeout of each request, `inventory` the engine's current inventory. There is no engine if
/// all clusters exist already.
///
/// # Errors
/// If the environment is not in the inventory, or cannot be planned.
pub async fn status(
    engine: Option<&Engine>,
    inventory: Inventory,
    opened: &Environment,
    within: Duration,
) -> anyhow::Result<Status> {
    status_with(engine, inventory, opened, within, true).await
}

/// Like [`status`], with or without a call. The call counts in statistics like any other.
///
/// # Errors
/// As for [`status`].
pub async fn status_with(
    engine: Option<&Engine>,
    inventory: Inventory,
    opened: &Environment,
    within: Duration,
    call: bool,
) -> anyhow::Result<Status> {
    let name = opened.name().to_owned();
    let found = inventory.environments.get(&name).cloned();
    if engine.is_some() && found.is_none() {
        return Err(environment::absent(&name).into());
    }
    let plan = opened.plan_with(engine, inventory)?;
    let mut phase = found.as_ref().map_or(Phase::Ready, phase_of_nodes);
    let found = found.unwrap_or_default();
    let repair = way_back(&name, phase).unwrap_or_else(|| hint::up_hint(&name));
    let outages = outage::all(&opened.files);
    // Without them, each layer says what does not work.
    let faults = match (phase, engine) {
        (Phase::Ready | Phase::Degraded, Some(engine)) => {
            tokio::time::timeout(within, fault::active(engine, &plan)).await
        }
        _ => Ok(Ok(Vec::new())),
    };
    let faults = faults.map_or_else(|_| Vec::new(), Result::unwrap_or_default);
    let on_purpose = OnPurpose { environment: &name, faults: &faults, outages: &outages };
    let look = Look { engine, opened, plan: &plan, found: &found, within, repair: &repair, call, on_purpose };
    let mut layers: Vec<Layer> = engine.map(of_engine).into_iter().collect();
    layers.extend(join_all(plan.clusters.iter().map(|cluster| look.cluster(cluster))).await.into_iter().flatten());
    if phase == Phase::Ready && layers.iter().any(|layer| !layer.ok) {
        let on_purpose = !faults.is_empty() || !outages.is_empty();
        phase = if !on_purpose && look.just_started().await { Phase::Healing } else { Phase::Degraded };
    }
    let clusters = plan.clusters.iter().map(|cluster| ClusterStatus {
        name: cluster.name.clone(),
        context: cluster.context.clone(),
        nodes: found.nodes_of(&cluster.name).cloned().collect(),
    });
    let clusters = clusters.collect();
    Ok(Status { schema_version: 1, environment: name, phase, layers, clusters, faults, outages })
}

fn of_engine(engine: &Engine) -> Layer {
    let facts = &engine.facts;
    Layer {
        layer: "engine",
        cluster: None,
        ok: true,
        detail: format!(
            "Docker {} at {}, {} CPUs, {:.1} GB, cgroup v{}",
            facts.version,
            engine.endpoint.host,
            facts.cpus,
            facts.memory as f64 / 1e9,
            facts.cgroup_version
        ),
        hint: None,
    }
}

/// What does not work because a user asked for it.
#[derive(Clone, Copy)]
struct OnPurpose<'a> {
    environment: &'a str,
    faults: &'a [Fault],
    outages: &'a [Recorded],
}

impl OnPurpose<'_> {
    /// Returns what explains why a layer of a cluster does not work, and the command that ends it.
    fn explains(&self, layer: &str, cluster: &str) -> Option<(String, String)> {
        // Without a peer's nodes, neither routes nor remote clusters nor calls work here.
        let hits = |found: &&Recorded| found.is_in(cluster) || matches!(layer, "link" | "remoteClusters" | "call");
        if let Some(found) = self.outages.iter().find(hits) {
            let end = match found.orphaned {
                true => hint::start_hint(self.environment),
                false => format!("press Ctrl-C in kindmesh fault {}", found.outage.fault),
            };
            return Some((found.described(), end));
        }
        let explains = |fault: &&Fault| {
            fault.clusters.iter().any(|name| name == cluster)
                && match layer {
                    "link" => fault.kind.is_total(),
                    "istiod" => fault.kind == Kind::KillIstiod,
                    "remoteClusters" => matches!(fault.kind, Kind::KillIstiod | Kind::Partition),
                    "nodes" | "api" => false,
                    _ => true,
                }
        };
        let fault = self.faults.iter().find(explains)?;
        Some((fault.described(), hint::clear_hint(self.environment)))
    }
}

struct Look<'a> {
    engine: Option<&'a Engine>,
    opened: &'a Environment,
    plan: &'a Plan,
    found: &'a inventory::Environment,
    within: Duration,
    repair: &'a str,
    call: bool,
    on_purpose: OnPurpose<'a>,
}

impl Look<'_> {
    /// Returns the layers of one cluster, up to the first that does not work.
    async fn cluster(&self, cluster: &Cluster) -> Vec<Layer> {
        let mut layers = Vec::new();
        // Nodes and routes of a cluster that exists are not ours.
        let engine = self.engine.filter(|_| cluster.host.kind().is_some());
        if engine.is_some() {
            let nodes = self.layer("nodes", cluster, self.nodes(cluster)).await;
            let running = nodes.ok;
            layers.push(nodes);
            if !running {
                return layers;
            }
        }
        let link = async { Some(self.layer("link", cluster, self.link(engine?, cluster)).await) };
        let (link, api) = futures::join!(link, self.layer("api", cluster, self.api(cluster)));
        let answers = api.ok;
        layers.extend(link.into_iter().chain([api]));
        let client = match self.opened.client(&cluster.name).await {
            Ok(client) if answers => client,
            _ => return layers,
        };
        let (istiod, remote, workloads) = futures::join!(
            self.layer("istiod", cluster, self.istiod(cluster, &client)),
            async {
                // Only an istiod has remote clusters.
                if cluster.is_remote() {
                    return None;
                }
                Some(self.layer("remoteClusters", cluster, self.remote_clusters(cluster, &client)).await)
            },
            self.layer("workloads", cluster, self.workloads(cluster, &client))
        );
        layers.push(istiod);
        layers.extend(remote);
        if self.plan.has_gateways() {
            layers.push(self.layer("gateway", cluster, self.gateway(cluster, &client)).await);
        }
        layers.push(workloads);
        let calls = self.plan.samples.as_ref().is_some_and(|samples| samples.callers.contains(&cluster.name));
        if self.call && calls && layers.iter().all(|layer| layer.ok) {
            layers.push(self.layer("call", cluster, self.call(&client)).await);
        }
        layers
    }

    async fn layer(
        &self,
        layer: &'static str,
        cluster: &Cluster,
        look: impl Future<Output = anyhow::Result<String>>,
    ) -> Layer {
        let result = match tokio::time::timeout(self.within, look).await {
            Ok(result) => result,
            Err(_) => Err(anyhow::anyhow!("no response within {} s", self.within.as_secs())),
        };
        let on_purpose = || {
            // Without the istiod of its primary, a remote cluster has none.
            let primary = || cluster.primary.as_ref().filter(|_| layer == "istiod");
            let own = self.on_purpose.explains(layer, &cluster.name);
            own.or_else(|| self.on_purpose.explains(layer, primary()?))
        };
        let (ok, detail, hint) = match (result, on_purpose()) {
            // A cut link still has its routes.
            (Ok(_), Some((fault, end))) if layer == "link" => (false, fault, Some(end)),
            (Ok(detail), _) => (true, detail, None),
            (Err(error), Some((fault, end))) => (false, format!("{}: {fault}", error::brief(error)), Some(end)),
            (Err(error), None) => (false, error::brief(error), Some(self.repair.to_owned())),
        };
        Layer { layer, cluster: Some(cluster.name.clone()), ok, detail, hint }
    }

    async fn nodes(&self, cluster: &Cluster) -> anyhow::Result<String> {
        for name in cluster.nodes() {
            match self.found.nodes_of(&cluster.name).find(|node| &node.name == name) {
                None => anyhow::bail!("node {name} is missing"),
                Some(node) if node.state != "running" => anyhow::bail!("node {name} is {}", node.state),
                Some(_) => {}
            }
        }
        Ok(format!("{} of {} running", cluster.nodes().len(), cluster.nodes().len()))
    }

    async fn link(&self, engine: &Engine, cluster: &Cluster) -> anyhow::Result<String> {
        Ok(link::routes(engine, self.plan, cluster).await?.join(", "))
    }

    async fn api(&self, cluster: &Cluster) -> anyhow::Result<String> {
        let version = self.opened.client(&cluster.name).await?.apiserver_version().await?;
        Ok(format!("Kubernetes {}", version.git_version))
    }

    async fn istiod(&self, cluster: &Cluster, client: &Client) -> anyhow::Result<String> {
        let version = &cluster.istio_version;
        let Some(address) = cluster.istiod_address else {
            deployment(client, ISTIO_NAMESPACE, istio::ISTIOD).await?;
            return Ok(format!("Istio {version}"));
        };
        let primary = self.plan.control_plane_of(cluster);
        if !cluster.is_remote() {
            deployment(client, ISTIO_NAMESPACE, istio::ISTIOD).await?;
            let has = primary::address(client).await?;
            anyhow::ensure!(
                has == Some(address),
                "remote clusters do not reach it: it is not exposed at {address}"
            );
            return Ok(format!("Istio {version}, exposed to remote clusters at {address}"));
        }
        let root = trust::root_certificate(&self.opened.files.trust())?;
        if let Some(why) = primary::unserved(client, cluster, &root).await? {
            anyhow::bail!("{why}");
        }
        let of_primary = self.opened.client(&primary.name).await?;
        let missing = remote::unsynced(&of_primary, &[&cluster.name]).await?;
        anyhow::ensure!(missing.is_empty(), "istiod of {}: {}", primary.name, missing.join(", "));
        Ok(format!("Istio {version}, istiod of {} at {address}", primary.name))
    }

    async fn remote_clusters(&self, cluster: &Cluster, client: &Client) -> anyhow::Result<String> {
        let peers: Vec<&str> = self.plan.peers(cluster).map(|peer| peer.name.as_str()).collect();
        let missing = remote::unsynced(client, &peers).await?;
        anyhow::ensure!(missing.is_empty(), "{}", missing.join(", "));
        Ok(format!("{} synced", peers.join(", ")))
    }

    async fn gateway(&self, cluster: &Cluster, client: &Client) -> anyhow::Result<String> {
        deployment(client, ISTIO_NAMESPACE, gateway::NAME).await?;
        let addresses = gateway::addresses(client, cluster.gateways()).await?;
        anyhow::ensure!(!addresses.is_empty(), "its Service has no address");
        Ok(format!("at {}, port {}", addresses.join(", "), gateway::PORT))
    }

    async fn workloads(&self, cluster: &Cluster, client: &Client) -> anyhow::Result<String> {
        let Some(samples) = &self.plan.samples else { return Ok("no samples".into()) };
        let mut ready = Vec::new();
        for (name, clusters) in
            [(names::CALLER_NAME, &samples.callers), (names::PRODUCER_NAME, &samples.producers)]
        {
            if clusters.contains(&cluster.name) {
                deployment(client, &samples.namespace, name).await?;
                ready.push(name);
            }
        }
        Ok(if ready.is_empty() {
            "no samples in this cluster".into()
        } else {
            format!("{} ready", ready.join(", "))
        })
    }

    async fn call(&self, client: &Client) -> anyhow::Result<String> {
        let namespace = self.opened.spec.samples.namespace.as_str();
        let request = call::Request {
            id: "status".into(),
            payload: String::new(),
            delay: 0,
            response_code: 200,
            fail_attempts: None,
            fresh_connection: true,
            protocol: Protocol::Http,
        };
        let answer = call::Caller::connect(client, namespace).await?.call(&request).await?;
        let reason = answer.reason.clone().unwrap_or_default();
        anyhow::ensure!(answer.status_code == 200, "status {}: {reason}", answer.status_code);
        Ok(format!(
            "answered in {} in {} ms",
            answer.served_by().unwrap_or_default(),
            answer.round_trip_time_millis
        ))
    }

    /// Whether a node started less than [`HEALS_WITHIN`] ago.
    async fn just_started(&self) -> bool {
        let Some(engine) = self.engine else { return false };
        for node in &self.found.nodes {
            if node::runs_for(engine, &node.name).await.is_some_and(|time| time < HEALING_TIME) {
                return true;
            }
        }
        false
    }
}

async fn deployment(client: &Client, namespace: &str, name: &str) -> anyhow::Result<()> {
    let workload = Workload::deployment(namespace, name);
    let found = workload.get(client).await?;
    let found = found.ok_or_else(|| anyhow::anyhow!("{name} does not exist"))?;
    match Rollout::of(workload.kind, &found).lacks() {
        None => Ok(()),
        Some(why) => anyhow::bail!("{name}: {why}"),
    }
}
