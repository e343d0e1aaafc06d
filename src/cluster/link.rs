//! The link between clusters: a small systemd unit on every node (`kind-configs/node/`) that keeps the routes to
//! the peers' pods. The node's file system survives a restart, its routes do not; so the link heals by itself.

use anyhow::Context;
use tokio::time::Instant;

use crate::base::error;
use crate::base::event::{Outcome, Step};
use crate::base::wait::{self, Poll};
use crate::host::docker::Engine;
use crate::host::docker::node::{self, NodeFile};
use crate::plan::{Cluster, Plan};

/// What to keep.
const CONFIG: &str = "/etc/kindmesh/link.conf";
/// Cuts links on purpose while it exists: lists clusters, or is empty for all.
pub const CUT: &str = "/etc/kindmesh/cut";
const SCRIPT: (&str, &str) =
    ("/usr/local/bin/kindmesh-link", include_str!("../../kind-configs/node/kindmesh-link"));
const UNITS: [(&str, &str, &str); 2] = [
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
];
/// An addition to the kubelet's unit.
const KUBELET: (&str, &str) = (
    "/etc/systemd/system/kubelet.service.d/20-kindmesh.conf",
    include_str!("../../kind-configs/node/kubelet.conf"),
);

/// The link's configuration on the nodes of one cluster.
pub fn config(plan: &Plan, cluster: &Cluster) -> String {
    let mut text = format!("services {}\n", cluster.service_subnet);
    text.push_str(&format!("api {} {}\n", cluster.api_service(), cluster.control_plane()));
    // In an order that does not change when the spec's does: else the units would start anew for nothing.
    let mut peers: Vec<_> = plan.peers(cluster).collect();
    peers.sort_by(|a, b| a.name.cmp(&b.name));
    for peer in peers {
        // With the network's name behind it, so that no search domain of the host is tried.
        let node = format!("{}.{}", peer.control_plane(), plan.network.name);
        text.push_str(&format!("peer {} {node} {}\n", peer.name, peer.pod_subnet));
    }
    text
}

/// The files of the link on the nodes of one cluster.
pub fn files(plan: &Plan, cluster: &Cluster) -> Vec<NodeFile> {
    let file = |path, content: &str, mode| NodeFile { path, content: content.into(), mode };
    let mut files = vec![file(SCRIPT.0, SCRIPT.1, 0o755), file(CONFIG, &config(plan, cluster), 0o644)];
    files.extend(UNITS.map(|(_, path, content)| file(path, content, 0o644)));
    files.push(file(KUBELET.0, KUBELET.1, 0o644));
    files
}

/// Puts the link's files on a node and starts its units, unless they are there and run.
///
/// # Errors
/// The engine's, or systemd's with what it said.
pub async fn ensure(engine: &Engine, plan: &Plan, cluster: &Cluster, node: &str) -> anyhow::Result<Outcome<()>> {
    let what = || format!("setting up the link on node {node}");
    let files = files(plan, cluster);
    if is_as_wanted(engine, node, &files).await.with_context(what)? {
        return Ok(Outcome::unchanged(()));
    }
    node::put(engine, node, &files).await.with_context(what)?;
    let units = UNITS.map(|(unit, _, _)| unit);
    let script = format!(
        "systemctl daemon-reload && systemctl enable --quiet {0} && systemctl restart {0}",
        units.join(" ")
    );
    node::run(engine, node, &["sh", "-c", &script]).await.with_context(what)?;
    Ok(Outcome::changed(()))
}

/// The ways to the pods of every other cluster, as the nodes of a cluster have them.
///
/// # Errors
/// When a node has none to one of them, with whether it was cut on purpose, or does not answer.
pub async fn routes(engine: &Engine, plan: &Plan, cluster: &Cluster) -> anyhow::Result<Vec<String>> {
    let mut routes = Vec::new();
    for node in &cluster.nodes {
        for peer in plan.peers(cluster) {
            let subnet = peer.pod_subnet.to_string();
            let said = node::run(engine, node, &["ip", "-4", "route", "show", "exact", &subnet]).await?;
            let Some(via) = said.split_once(" via ").and_then(|(_, rest)| rest.split_whitespace().next()) else {
                let cut = node::try_exec(engine, node, &["test", "-e", CUT]).await?.status == 0;
                let why = if cut { "cut on purpose" } else { "no route" };
                anyhow::bail!("{node} to the pods of {}: {why}", peer.name);
            };
            routes.push(format!("{} via {via}", peer.name));
        }
    }
    routes.sort();
    routes.dedup();
    Ok(routes)
}

/// Cuts the link of a node to all other clusters, or restores it, and waits until the unit has followed; says whether
/// that changed anything.
///
/// # Errors
/// The engine's, or when the unit does not follow by the deadline.
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
    for node in &cluster.nodes {
        changed |= node::run(engine, node, &["sh", "-c", &script]).await?.contains("changed");
    }
    let what = if cut { "the link to be cut" } else { "the link to be there" };
    wait::until(step, what, deadline, async || {
        Ok(match routes(engine, plan, cluster).await {
            Ok(_) if cut => Poll::NotYet("the routes are there".into()),
            Err(error) if !cut => Poll::NotYet(error::brief(error)),
            _ => Poll::Ready(()),
        })
    })
    .await?;
    Ok(changed)
}

/// Whether the link of any node of a cluster is cut on purpose.
///
/// # Errors
/// The engine's.
pub async fn is_cut(engine: &Engine, cluster: &Cluster) -> anyhow::Result<bool> {
    for node in &cluster.nodes {
        if node::try_exec(engine, node, &["test", "-e", CUT]).await?.status == 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Compares the files by digest and asks systemd for the unit that follows, in one command.
async fn is_as_wanted(engine: &Engine, node: &str, files: &[NodeFile]) -> anyhow::Result<bool> {
    use sha2::{Digest, Sha256};
    let sums: Vec<String> = files
        .iter()
        .map(|file| format!("{}  {}", crate::base::digest::hex(&Sha256::digest(&file.content)), file.path))
        .collect();
    let script = format!(
        "printf '%s\\n' '{}' | sha256sum --check --status && systemctl is-active --quiet {}",
        sums.join("' '"),
        UNITS[0].0
    );
    Ok(node::try_exec(engine, node, &["sh", "-c", &script]).await?.status == 0)
}

/// Says that the cut was a test's, which restores it.
const CUT_BY_TEST: &str = "/etc/kindmesh/cut-by-test";

/// Cuts the link between two clusters, on the nodes of both, until it is restored.
///
/// # Errors
/// The engine's.
pub async fn cut(engine: &Engine, one: &Cluster, other: &Cluster) -> anyhow::Result<()> {
    for (here, there) in [(one, other), (other, one)] {
        for node in &here.nodes {
            let name = &there.name;
            let script = format!(
                "mkdir -p /etc/kindmesh && touch {CUT_BY_TEST} && {{ grep -qxF {name} {CUT} 2>/dev/null || echo {name} >>{CUT}; }}"
            );
            node::run(engine, node, &["sh", "-c", &script])
                .await
                .with_context(|| format!("cutting the link of {node} to {name}"))?;
        }
    }
    Ok(())
}

/// Restores every link of a cluster that [`cut`] cut; says whether there was any.
///
/// # Errors
/// The engine's.
pub async fn restore(engine: &Engine, cluster: &Cluster) -> anyhow::Result<bool> {
    let mut any = false;
    for node in &cluster.nodes {
        let script = format!("test -e {CUT_BY_TEST} && rm -f {CUT} {CUT_BY_TEST}");
        let said = node::try_exec(engine, node, &["sh", "-c", &script]).await?;
        any |= said.status == 0;
    }
    Ok(any)
}

/// Whether a node has a way to the pods of a cluster.
///
/// # Errors
/// The engine's.
pub async fn leads(engine: &Engine, node: &str, to: &Cluster) -> anyhow::Result<bool> {
    let subnet = to.pod_subnet.to_string();
    let said = node::run(engine, node, &["ip", "-4", "route", "show", "exact", &subnet]).await?;
    Ok(said.contains(" via "))
}
