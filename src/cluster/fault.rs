//! Faults between clusters: packets that are lost, delayed or limited, and an istiod that is gone. A unit on the nodes
//! (`kind-configs/node/kindmesh-fault`) injects and removes them, so each ends at its time, whatever becomes of the command
//! that asked for it.

use std::fmt;
use std::time::Duration;

use anyhow::Context;
use futures::future::{join_all, try_join_all};
use jiff::Timestamp;
use serde::Serialize;

use crate::base::error::Error;
use crate::base::hint::{clear_hint, kill_istiod_hint};
use crate::host::docker::Engine;
use crate::host::docker::node;
use crate::plan::Plan;

mod file;
mod kind;

pub use file::lines;
pub use kind::{Kind, bandwidth, latency, percent};

/// The directory of the faults on a node.
const DIRECTORY: &str = "/etc/kindmesh/faults";
/// The script that the units run.
const PROGRAM: &str = "/usr/local/bin/kindmesh-fault";
/// Delays packets for it, if the kernel has no netem.
const DELAYER: &str = "/usr/local/bin/kindmesh-delay";
/// The longest fault.
pub const LONGEST: Duration = Duration::from_secs(3600);

/// An active fault.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    /// What happens, with its value.
    #[serde(flatten)]
    pub kind: Kind,
    /// The clusters between which it happens; for istiod, the one cluster.
    pub clusters: Vec<String>,
    /// When it ends.
    pub ends: Timestamp,
}

impl Fault {
    /// Returns a fault that ends after some time.
    pub fn new(kind: Kind, mut clusters: Vec<String>, lasts: Duration) -> Self {
        // It has no direction, so the order in which a user names them must not make two faults of it.
        clusters.sort();
        let now = Timestamp::now().as_second();
        let lasts = i64::try_from(lasts.min(LONGEST).as_secs()).unwrap_or_default();
        // In range: an hour from now.
        let ends = Timestamp::from_second(now + lasts).unwrap_or(Timestamp::MAX);
        Self { kind, clusters, ends }
    }

    /// Returns the name of its file and of its unit's instance.
    fn id(&self) -> String {
        format!("{}-{}", self.kind.name(), self.clusters.join("-"))
    }

    /// Whether it affects traffic between two clusters.
    pub fn is_between(&self, one: &str, other: &str) -> bool {
        self.clusters.len() == 2 && [one, other].iter().all(|name| self.clusters.iter().any(|has| has == name))
    }

    /// Returns the time until its end.
    pub fn left(&self) -> Duration {
        Duration::try_from(self.ends.duration_since(Timestamp::now())).unwrap_or_default()
    }

    /// Returns what it is, and when it ends.
    pub fn described(&self) -> String {
        format!("{self}, {}", self.ending())
    }

    /// Returns when it ends, relative to now: `ends in 23 s`.
    pub fn ending(&self) -> String {
        match self.left().as_secs() {
            0 => "ends now".into(),
            left if left < 120 => format!("ends in {left} s"),
            left => format!("ends in {} min", left.div_ceil(60)),
        }
    }
}

/// `10 % of packets lost between cluster1 and cluster2`.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.clusters.as_slice() {
            [one, other] => write!(f, "{} between {one} and {other}", self.kind),
            some => write!(f, "{} in {}", self.kind, some.join(", ")),
        }
    }
}

/// The nodes of a fault, each with the file that its script reads.
type Nodes<'a> = Vec<(&'a String, String)>;

/// Returns the nodes of a fault that lasts for some time.
fn nodes<'a>(plan: &'a Plan, fault: &Fault, lasts: Duration) -> anyhow::Result<Nodes<'a>> {
    let clusters = fault
        .clusters
        .iter()
        .map(|name| plan.cluster(name).with_context(|| format!("no cluster {name}")))
        .collect::<anyhow::Result<Vec<_>>>()?;
    if let (Kind::KillIstiod, [cluster]) = (&fault.kind, clusters.as_slice())
        && let Some(primary) = &cluster.primary
    {
        return Err(Error::usage(format!(
            "cluster {} has no istiod: its proxies use that of {primary}",
            cluster.name
        ))
        .hint(kill_istiod_hint(&plan.environment, primary))
        .into());
    }
    Ok(match (&fault.kind, clusters.as_slice()) {
        // Only a control plane has the credentials for its API server.
        (Kind::KillIstiod, [cluster]) => {
            vec![(&cluster.kind()?.nodes[0], lines(fault, lasts, plan, cluster, cluster)?)]
        }
        (_, [one, other]) => {
            let mut nodes = Vec::new();
            for (here, there) in [(*one, *other), (*other, *one)] {
                let lines = lines(fault, lasts, plan, here, there)?;
                nodes.extend(here.kind()?.nodes.iter().map(|node| (node, lines.clone())));
            }
            nodes
        }
        _ => anyhow::bail!("a fault is between two clusters, or of one istiod"),
    })
}

/// Fails if a node cannot do a fault. Changes nothing.
///
/// # Errors
/// As for [`inject`].
#[cfg(feature = "cli")]
pub async fn possible(engine: &Engine, plan: &Plan, fault: &Fault) -> anyhow::Result<()> {
    for (node, _) in nodes(plan, fault, Duration::ZERO)? {
        able(engine, node, &fault.kind).await?;
    }
    Ok(())
}

/// Injects a fault on the nodes of its clusters, and returns when it is in effect. A fault of the same kind between the same
/// clusters is replaced.
///
/// # Errors
/// If a node's kernel cannot do it, with what it reports; otherwise the engine's errors. Then no node has it.
pub async fn inject(engine: &Engine, plan: &Plan, fault: &Fault) -> anyhow::Result<()> {
    // At least a second: what has begun must be seen.
    let nodes = nodes(plan, fault, fault.left().max(Duration::from_secs(1)))?;
    for node in nodes.iter().map(|(node, _)| node) {
        able(engine, node, &fault.kind).await?;
    }
    let id = fault.id();
    // All of them: a command in a node goes on when it is no longer waited for.
    let started = join_all(nodes.iter().map(|(node, lines)| start(engine, node, &id, lines))).await;
    let started = started.into_iter().collect::<anyhow::Result<()>>();
    if started.is_err() {
        // On the others it would last until its end.
        for (node, _) in &nodes {
            let _ = node::try_exec(engine, node, &[PROGRAM, "clear", &id]).await;
        }
    }
    started
}

/// Ends one fault on the nodes of its clusters, before its time. Nodes that do not run have none.
///
/// # Errors
/// The engine's errors, or that a node cannot remove it.
#[cfg(feature = "cli")]
pub async fn end(engine: &Engine, plan: &Plan, fault: &Fault) -> anyhow::Result<()> {
    let id = fault.id();
    let nodes = nodes(plan, fault, Duration::ZERO)?;
    let ended = join_all(nodes.iter().map(async |(node, _)| {
        if !node::is_running(engine, node).await {
            return Ok(());
        }
        let ended = node::run(engine, node, &[PROGRAM, "clear", &id]).await;
        ended.map(drop).with_context(|| format!("ending the fault on node {node}"))
    }));
    ended.await.into_iter().collect()
}

/// Fails if a node has no program for faults, or its kernel lacks what a fault needs. The kernel loads a module for it if
/// it can.
async fn able(engine: &Engine, node: &str, kind: &Kind) -> anyhow::Result<()> {
    let delays = matches!(kind, Kind::Delay { .. } | Kind::Jitter { .. });
    let program = if delays { DELAYER } else { PROGRAM };
    if node::try_exec(engine, node, &["test", "-x", program]).await?.status != 0 {
        return Err(Error::environment(format!("node {node} has no {program}: an earlier kindmesh set it up"))
            .hint("update the nodes: kindmesh up")
            .into());
    }
    if !delays {
        return Ok(());
    }
    let said = node::try_exec(engine, node, &[PROGRAM, "delays"]).await?;
    if said.status == 0 {
        return Ok(());
    }
    let requires = "requires netem in the engine's kernel, or NFQUEUE there and Perl on node";
    Err(Error::prerequisite(format!("{} {requires} {node}", kind.name()))
        .evidence(said.stderr)
        .hint(
            "on the engine's host, run: modprobe sch_netem (Ubuntu: after apt install linux-modules-extra-$(uname -r)), \
             or modprobe -a nfnetlink_queue xt_NFQUEUE; loss and bandwidth work without them",
        )
        .into())
}

async fn start(engine: &Engine, node: &str, id: &str, lines: &str) -> anyhow::Result<()> {
    let what = || format!("injecting the fault on node {node}");
    let unit = unit(id);
    // One command at a time, and none while the fault that it replaces ends.
    let script = format!(
        "exec 9>/run/{unit}.lock && flock 9 && systemctl stop {unit} && {PROGRAM} end {id} 9>&- && \
         mkdir -p {DIRECTORY} && printf %s '{lines}' >{DIRECTORY}/{id} && systemctl start {unit} || \
         {{ journalctl --unit {unit} --lines 5 --output cat >&2; exit 1; }}"
    );
    node::run(engine, node, &["sh", "-c", &script]).await.map(drop).with_context(what)
}

fn unit(id: &str) -> String {
    format!("kindmesh-fault@{id}.service")
}

/// Returns the active faults of an environment, each once. Nodes that do not run have none.
///
/// # Errors
/// The engine's errors.
pub async fn active(engine: &Engine, plan: &Plan) -> anyhow::Result<Vec<Fault>> {
    let nodes = plan.clusters.iter().flat_map(|cluster| cluster.nodes());
    let found = try_join_all(nodes.map(async |node| on_node(engine, node).await)).await?;
    let mut faults: Vec<Fault> = Vec::new();
    for fault in found.into_iter().flatten() {
        if !faults.iter().any(|known| known.id() == fault.id()) {
            faults.push(fault);
        }
    }
    faults.sort_by_key(Fault::id);
    Ok(faults)
}

/// Returns the faults of one node; none if it does not run.
async fn on_node(engine: &Engine, node: &str) -> anyhow::Result<Vec<Fault>> {
    let script = format!(
        "cd {DIRECTORY} 2>/dev/null || exit 0; for file in *; do [ ! -f \"$file\" ] || {{ cat \"$file\"; echo; }}; done"
    );
    match node::try_exec(engine, node, &["sh", "-c", &script]).await {
        Ok(said) => Ok(file::read(&said.stdout)),
        Err(_) if !node::is_running(engine, node).await => Ok(Vec::new()),
        Err(error) => Err(error.context(format!("reading the faults of node {node}"))),
    }
}

/// Fails if any fault is active: what works is not known then.
///
/// # Errors
/// An environment error with the command that ends them; otherwise the engine's errors.
pub async fn none_active(engine: &Engine, plan: &Plan) -> anyhow::Result<()> {
    let faults = active(engine, plan).await?;
    if faults.is_empty() {
        return Ok(());
    }
    let mut error = Error::environment(format!("environment \"{}\" has active faults", plan.environment));
    for fault in &faults {
        error = error.evidence(fault.described());
    }
    Err(error.hint(format!("end them: {}", clear_hint(&plan.environment))).into())
}

/// Ends every fault, and returns those that were active.
///
/// # Errors
/// The engine's errors, or that a node cannot remove one.
pub async fn clear(engine: &Engine, plan: &Plan) -> anyhow::Result<Vec<Fault>> {
    let faults = active(engine, plan).await?;
    let nodes = plan.clusters.iter().flat_map(|cluster| cluster.nodes());
    try_join_all(nodes.map(async |node| {
        if !node::is_running(engine, node).await {
            return Ok(());
        }
        let script = format!("[ ! -d {DIRECTORY} ] || exec {PROGRAM} clear");
        let cleared = node::run(engine, node, &["sh", "-c", &script]).await;
        cleared.map(drop).with_context(|| format!("ending the faults of node {node}"))
    }))
    .await?;
    Ok(faults)
}
