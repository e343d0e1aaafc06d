//! The link between clusters: a small systemd unit on every node (`kind-configs/node/`) that maintains the routes to the
//! peers' pods. A node's file system survives a restart but its routes do not, so the unit restores them.

use anyhow::Context;
use ipnet::Ipv4Net;
use tokio::time::Instant;

use crate::base::error::{self, Error};
use crate::base::event::{Outcome, Step};
use crate::base::wait::{self, Poll};
use crate::host::docker::Engine;
use crate::host::docker::node::{self, NodeFile};
use crate::plan::{Cluster, Plan};
use crate::spec::subnets::overlaps;

/// The configuration of the link.
const CONFIG: &str = "/etc/kindmesh/link.conf";
/// The file that disables links while it exists: it lists clusters, or is empty for all.
pub const CUT: &str = "/etc/kindmesh/cut";
const SCRIPT: (&str, &str) =
    ("/usr/local/bin/kindmesh-link", include_str!("../../kind-configs/node/kindmesh-link"));
/// Gives Services of type LoadBalancer addresses.
const BALANCER: (&str, &str) =
    ("/usr/local/bin/kindmesh-balancer", include_str!("../../kind-configs/node/kindmesh-balancer"));
/// Injects faults into the traffic to other clusters: see [`super::fault`].
const FAULT: (&str, &str) =
    ("/usr/local/bin/kindmesh-fault", include_str!("../../kind-configs/node/kindmesh-fault"));
/// Delays packets for it, if the kernel has no netem.
const DELAY: (&str, &str) =
    ("/usr/local/bin/kindmesh-delay", include_str!("../../kind-configs/node/kindmesh-delay"));
const DELAY_UNIT: (&str, &str) = (
    "/etc/systemd/system/kindmesh-delay@.service",
    include_str!("../../kind-configs/node/kindmesh-delay@.service"),
);
const FAULT_UNIT: (&str, &str) = (
    "/etc/systemd/system/kindmesh-fault@.service",
    include_str!("../../kind-configs/node/kindmesh-fault@.service"),
);
const UNITS: [(&str, &str, &str); 3] = [
    (
        "kindmesh-link.service",
        "/etc/systemd/system/kindmesh-link.service",
        include_str!("../../kind-configs/node/kindmesh-link.service"),
    ),
    (
        "kindmesh-boot.service",
        "/etc/systemd/system/kindmesh-boot.service",
        include_str!("../../kind-configs/node/kindmesh-boot.service"),
    ),
    (
        "kindmesh-balancer.service",
        "/etc/systemd/system/kindmesh-balancer.service",
        include_str!("../../kind-configs/node/kindmesh-balancer.service"),
    ),
];
/// A drop-in for the kubelet's unit.
const KUBELET: (&str, &str) = (
    "/etc/systemd/system/kubelet.service.d/20-kindmesh.conf",
    include_str!("../../kind-configs/node/kubelet.conf"),
);

/// Returns the link's configuration on the nodes of one cluster.
///
/// # Errors
/// A usage error if the cluster exists already.
pub fn config<'a>(plan: &'a Plan, cluster: &'a Cluster) -> Result<String, Error> {
    let kind = cluster.kind()?;
    let network = &plan.docker()?.network.name;
    let mut text = format!("services {}\n", kind.service_subnet);
    text.push_str(&format!("api {} {}\n", kind.api_service(), kind.control_plane()));
    if let Some(range) = kind.balancers {
        text.push_str(&format!("balancers {range} {} {}\n", range.network(), 1_u32 << (32 - range.prefix_len())));
    }
    // Sorted, so that another order in the spec does not restart the units.
    let sorted = |peers: &mut dyn Iterator<Item = &'a Cluster>| {
        let mut peers: Vec<_> = peers.filter_map(|peer| Some((&peer.name, peer.host.kind()?))).collect();
        peers.sort_by_key(|(name, _)| *name);
        peers
    };
    // A cluster that exists is never on the network of one that kind creates, and needs no routes.
    for (name, peer) in sorted(&mut plan.strangers(cluster)) {
        // Of another network, so its pods may have the addresses of this cluster's.
        let overlap = overlaps(peer.pod_subnet, kind.pod_subnet);
        let pods = if overlap { "-".to_owned() } else { peer.pod_subnet.to_string() };
        let balancers = peer.balancers.map_or("-".to_owned(), |range| range.to_string());
        text.push_str(&format!("stranger {name} {pods} {balancers}\n"));
    }
    for (name, peer) in sorted(&mut plan.neighbors(cluster)) {
        // With the network's name as a suffix, so that the host's search domains are not tried.
        let node = format!("{}.{network}", peer.control_plane());
        text.push_str(&format!("peer {name} {node} {}\n", peer.pod_subnet));
    }
    Ok(text)
}

/// Returns the link's files on the nodes of one cluster.
///
/// # Errors
/// A usage error if the cluster exists already.
pub fn files(plan: &Plan, cluster: &Cluster) -> Result<Vec<NodeFile>, Error> {
    let file = |path, content: &str, mode| NodeFile { path, content: content.into(), mode };
    let mut files = Vec::from([SCRIPT, BALANCER, FAULT, DELAY].map(|(path, content)| file(path, content, 0o755)));
    files.push(file(CONFIG, &config(plan, cluster)?, 0o644));
    files.extend(UNITS.map(|(_, path, content)| file(path, content, 0o644)));
    files.extend([FAULT_UNIT, DELAY_UNIT, KUBELET].map(|(path, content)| file(path, content, 0o644)));
    Ok(files)
}

/// Copies the link's files to a node and starts its units, unless they are up to date and running.
///
/// # Errors
/// The engine's, or systemd's with its output.
pub async fn ensure(engine: &Engine, plan: &Plan, cluster: &Cluster, node: &str) -> anyhow::Result<Outcome<()>> {
    let what = || format!("setting up the link on node {node}");
    let files = files(plan, cluster)?;
    let kind = cluster.kind()?;
    let balances = kind.balancers.is_some() && node == kind.control_plane();
    if is_up_to_date(engine, node, &files, balances).await.with_context(what)? {
        return Ok(Outcome::unchanged(()));
    }
    node::copy_files(engine, node, &files).await.with_context(what)?;
    let units = UNITS.map(|(unit, _, _)| unit);
    let script = format!(
        "systemctl daemon-reload && systemctl enable --quiet {0} && systemctl restart {0}",
        units.join(" ")
    );
    node::run(engine, node, &["sh", "-c", &script]).await.with_context(what)?;
    Ok(Outcome::changed(()))
}

/// Removes the routes and rules for the subnets of a removed cluster from a node whose configuration no longer lists it.
///
/// # Errors
/// The engine's.
pub async fn forget(engine: &Engine, node: &str, subnets: &[Ipv4Net]) -> anyhow::Result<()> {
    let subnets: Vec<_> = subnets.iter().map(ToString::to_string).collect();
    let command: Vec<_> = [SCRIPT.0, "forget"].into_iter().chain(subnets.iter().map(String::as_str)).collect();
    node::run(engine, node, &command).await.with_context(|| format!("removing routes on node {node}"))?;
    Ok(())
}

/// Returns the routes from the nodes of a cluster to the pods of its peers on the same network, and the peers that are reached
/// through their gateways.
///
/// # Errors
/// If a node has no route to one of them, and whether the link is disabled; or if the node does not respond.
pub async fn routes(engine: &Engine, plan: &Plan, cluster: &Cluster) -> anyhow::Result<Vec<String>> {
    let mut routes = Vec::new();
    for node in cluster.nodes() {
        for peer in plan.strangers(cluster).filter(|peer| peer.host.kind().is_some()) {
            let open = is_open(engine, node, cluster, peer).await?;
            anyhow::ensure!(open, "{node} to the gateway of {}: link disabled", peer.name);
            routes.push(format!("{} through its gateway", peer.name));
        }
        for peer in plan.neighbors(cluster) {
            let subnet = peer.kind()?.pod_subnet.to_string();
            let said = node::run(engine, node, &["ip", "-4", "route", "show", "exact", &subnet]).await?;
            let Some(via) = said.split_once(" via ").and_then(|(_, rest)| rest.split_whitespace().next()) else {
                let cut = node::try_exec(engine, node, &["test", "-e", CUT]).await?.status == 0;
                let why = if cut { "link disabled" } else { "no route" };
                anyhow::bail!("{node} to the pods of {}: {why}", peer.name);
            };
            routes.push(format!("{} via {via}", peer.name));
        }
    }
    routes.sort();
    routes.dedup();
    Ok(routes)
}

/// Disables or enables the link from a cluster to its peers, and waits until the routes have changed. Reports whether
/// that changed anything.
///
/// # Errors
/// The engine's, or if the routes have not changed by the deadline.
pub async fn set_cut(
    engine: &Engine,
    plan: &Plan,
    cluster: &Cluster,
    cut: bool,
    step: &Step,
    deadline: Instant,
) -> anyhow::Result<bool> {
    let script = match cut {
        true => format!("[ -e {CUT} ] && [ ! -s {CUT} ] || {{ : >{CUT} && echo changed; }}"),
        false => format!("[ ! -e {CUT} ] || {{ rm {CUT} && echo changed; }}"),
    };
    let mut changed = false;
    for node in cluster.nodes() {
        changed |= node::run(engine, node, &["sh", "-c", &script]).await?.contains("changed");
    }
    let what = if cut { "the link to be disabled" } else { "the link to be enabled" };
    wait::until(step, what, deadline, async || {
        Ok(match routes(engine, plan, cluster).await {
            Ok(_) if cut => Poll::NotYet("the routes still exist".into()),
            Err(error) if !cut => Poll::NotYet(error::brief(error)),
            _ => Poll::Ready(()),
        })
    })
    .await?;
    Ok(changed)
}

/// Reports whether the link of any node of a cluster is disabled.
///
/// # Errors
/// The engine's.
pub async fn is_cut(engine: &Engine, cluster: &Cluster) -> anyhow::Result<bool> {
    for node in cluster.nodes() {
        if node::try_exec(engine, node, &["test", "-e", CUT]).await?.status == 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Reports whether the files match by digest, all units are enabled and those that keep running are active, with one command.
/// On a node that `balances`, kindmesh-balancer does.
async fn is_up_to_date(engine: &Engine, node: &str, files: &[NodeFile], balances: bool) -> anyhow::Result<bool> {
    use sha2::{Digest, Sha256};
    let sums: Vec<String> = files
        .iter()
        .map(|file| format!("{}  {}", crate::base::digest::hex(&Sha256::digest(&file.content)), file.path))
        .collect();
    let [link, _, balancer] = UNITS.map(|(unit, _, _)| unit);
    let active = if balances { format!("{link} {balancer}") } else { link.to_owned() };
    let script = format!(
        "printf '%s\\n' '{}' | sha256sum --check --status && for unit in {active}; do systemctl is-active --quiet $unit || exit; done && systemctl is-enabled --quiet {}",
        sums.join("' '"),
        UNITS.map(|(unit, _, _)| unit).join(" ")
    );
    Ok(node::try_exec(engine, node, &["sh", "-c", &script]).await?.status == 0)
}

/// Reports whether a node of a cluster reaches a peer: it has a route to its pods, or if the peer is on another network, the way to
/// its gateway is not disabled.
///
/// # Errors
/// The engine's.
pub async fn is_open(engine: &Engine, node: &str, from: &Cluster, to: &Cluster) -> anyhow::Result<bool> {
    let kind = to.kind()?;
    let subnet = if from.network == to.network { Some(kind.pod_subnet) } else { kind.balancers };
    let Some(subnet) = subnet.map(|subnet| subnet.to_string()) else { return Ok(false) };
    let said = node::run(engine, node, &["ip", "-4", "route", "show", "exact", &subnet]).await?;
    Ok(if from.network == to.network { said.contains(" via ") } else { !said.contains("unreachable") })
}
