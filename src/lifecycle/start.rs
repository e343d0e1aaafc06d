//! Starts a paused or stopped environment, and returns when a cross-cluster call succeeds. The environment
//! recovers on its own (docs/architecture.md); this only waits for it.

use std::time::{Duration, Instant};

use futures::future::try_join_all;
use serde::Serialize;

use crate::base::error::Error;
use crate::base::event::{Event, Events, Outcome, round};
use crate::base::hint::up_hint;
use crate::base::wait;
use crate::cluster::call::Answer;
use crate::cluster::environment::Environment;
use crate::cluster::mesh::{ISTIO_NAMESPACE, istio};
use crate::cluster::refusal::Reason;
use crate::cluster::rollout::Workload;
use crate::cluster::workloads;
use crate::diagnose::diagnosis::waits;
use crate::host::docker::Engine;
use crate::host::kind::{Existing, Kind};
use crate::host::kubeconfig;
use crate::host::outage;
use crate::host::state::Directories;
use crate::lifecycle::locked;
use crate::lifecycle::prove;
use crate::plan::{Cluster, Plan};

/// Options of a start.
#[derive(Debug, Clone)]
pub struct Options {
    /// The timeout of the whole run.
    pub timeout: Duration,
}

impl Default for Options {
    /// Far longer than any observed start, for slow hosts.
    fn default() -> Self {
        Self { timeout: Duration::from_secs(180) }
    }
}

/// A started environment.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Started {
    /// Whether any node had to be started.
    pub changed: bool,
    /// The verified calls, one from each cluster with a caller.
    pub calls: Vec<(String, Answer)>,
    /// The duration, in seconds.
    pub seconds: f64,
}

/// Starts every frozen or stopped node. Then waits until calls succeed from every cluster with a caller, or,
/// without samples, until every istiod is connected to its peers.
///
/// # Errors
/// If the environment does not exist, is on another engine, or does not work in time.
pub async fn start(
    engine: &Engine,
    opened: &Environment,
    folders: &Directories,
    options: &Options,
    events: &Events,
) -> anyhow::Result<Started> {
    let started = Instant::now();
    let deadline = tokio::time::Instant::now() + options.timeout;
    let work = run(engine, opened, folders, deadline, events);
    let late = || {
        Error::environment(format!("not started after {} s", options.timeout.as_secs()))
            .hint(format!("{} repairs it; --timeout allows more time", up_hint(opened.name())))
    };
    let mut done = wait::within(deadline, events, work, late).await?;
    done.seconds = round(started.elapsed());
    events.send(Event::Ready {
        seconds: done.seconds,
        environment: opened.name().to_owned(),
        kubeconfig: opened.files.kubeconfig().display().to_string(),
    });
    Ok(done)
}

async fn run(
    engine: &Engine,
    opened: &Environment,
    folders: &Directories,
    deadline: tokio::time::Instant,
    events: &Events,
) -> anyhow::Result<Started> {
    let (_lock, inventory) = locked::exclusive(engine, folders, opened.name(), events).await?;
    outage::none_held(&opened.files)?;
    let found = inventory.environments.get(opened.name()).cloned().unwrap_or_default();
    let plan = opened.plan(engine, inventory)?;
    let start = Start { engine, opened, plan: &plan, deadline, events };
    let changed = start.nodes(&found).await?;
    outage::forget_orphans(&opened.files)?;
    let calls = start.works().await?;
    Ok(Started { changed, calls, seconds: 0.0 })
}

/// Waits until an environment whose nodes run works: see [`start`].
///
/// # Errors
/// If it does not by the deadline.
pub(crate) async fn works(
    engine: &Engine,
    opened: &Environment,
    plan: &Plan,
    deadline: tokio::time::Instant,
    events: &Events,
) -> anyhow::Result<()> {
    Start { engine, opened, plan, deadline, events }.works().await.map(drop)
}

/// Starts the nodes, without waiting for a call; returns whether any had to be started.
///
/// # Errors
/// If a node cannot be started, or a cluster is incomplete.
pub(crate) async fn nodes(
    engine: &Engine,
    opened: &Environment,
    plan: &Plan,
    found: &crate::plan::inventory::Environment,
    deadline: tokio::time::Instant,
    events: &Events,
) -> anyhow::Result<bool> {
    Start { engine, opened, plan, deadline, events }.nodes(found).await
}

struct Start<'a> {
    engine: &'a Engine,
    opened: &'a Environment,
    plan: &'a Plan,
    deadline: tokio::time::Instant,
    events: &'a Events,
}

impl Start<'_> {
    /// Starts all nodes.
    async fn nodes(&self, found: &crate::plan::inventory::Environment) -> anyhow::Result<bool> {
        let (environment, docker) = (self.opened.name(), self.plan.docker()?);
        let kind = Kind { engine: self.engine, environment, docker, files: &self.opened.files };
        let step = self.events.step("start", None);
        step.run(async |step| {
            let clusters: Vec<_> = self.plan.kind_clusters().map(|(cluster, _)| cluster).collect();
            let revived = clusters.iter().map(|cluster| kind.start(cluster, found));
            let revived = try_join_all(revived).await?;
            let clusters = clusters.into_iter().zip(&revived);
            if let Some((incomplete, _)) = clusters.clone().find(|(_, revived)| **revived == Existing::Incomplete)
            {
                let message = format!("cluster {} is incomplete", incomplete.name);
                return Err(Error::environment(message).hint(up_hint(self.opened.name())).into());
            }
            for (cluster, _) in clusters.filter(|(_, revived)| **revived == Existing::Started) {
                self.opened.record(&cluster.name).note(Reason::ApiServer);
            }
            let moved =
                try_join_all(self.plan.kind_clusters().map(|(cluster, _)| kind.follow_port(cluster))).await?;
            if moved.contains(&true) {
                let path = kubeconfig::ensure(&self.opened.files, self.plan)?;
                step.note(format!("an API server has another port now: {} is updated", path.display()));
            }
            let changed = revived.contains(&Existing::Started);
            Ok(Outcome { value: changed, changed })
        })
        .await
    }

    /// Waits until calls succeed from every cluster with a caller, or, without samples, until every istiod is connected to its
    /// peers.
    async fn works(&self) -> anyhow::Result<Vec<(String, Answer)>> {
        let Some(samples) = &self.plan.samples else {
            try_join_all(self.plan.clusters.iter().map(|cluster| self.mesh(cluster))).await?;
            return Ok(Vec::new());
        };
        let callers = self.plan.clusters.iter().filter(|cluster| samples.callers.contains(&cluster.name));
        try_join_all(callers.map(|cluster| self.call(cluster, samples))).await
    }

    /// Waits for a cross-cluster call from this cluster.
    async fn call(&self, from: &Cluster, samples: &crate::plan::Samples) -> anyhow::Result<(String, Answer)> {
        let (client, record) = (self.opened.client(&from.name).await?, self.opened.record(&from.name));
        let step = self.events.step("call", Some(&from.name));
        let answer = step
            .run(async |step| {
                for to in self.plan.strangers(from) {
                    let (client, record) = (self.opened.client(&to.name).await?, self.opened.record(&to.name));
                    let by = (Some(self.engine), &client);
                    workloads::wait_for_gateway(by, (from, to), samples, &record, step, self.deadline).await?;
                }
                let crosses = prove::crosses(&client, &from.name, samples, "start", &record, step, self.deadline);
                let answer = crosses.await?;
                Ok(Outcome::unchanged(answer))
            })
            .await?;
        Ok((from.name.clone(), answer))
    }

    /// Waits until this cluster's istiod is ready and connected to its peers. A remote cluster has none.
    async fn mesh(&self, cluster: &Cluster) -> anyhow::Result<()> {
        if cluster.is_remote() {
            return Ok(());
        }
        let (client, record) = (self.opened.client(&cluster.name).await?, self.opened.record(&cluster.name));
        let step = self.events.step("istiod", Some(&cluster.name));
        step.run(async |step| {
            let istiod = Workload::deployment(ISTIO_NAMESPACE, istio::ISTIOD);
            waits::workload(&client, &istiod, &record, step, self.deadline).await?;
            Ok(Outcome::unchanged(()))
        })
        .await?;
        let step = self.events.step("sync", Some(&cluster.name));
        step.run(async |step| {
            let peers: Vec<&str> = self.plan.peers(cluster).map(|peer| peer.name.as_str()).collect();
            waits::synced(&client, &peers, &record, step, self.deadline).await?;
            Ok(Outcome::unchanged(()))
        })
        .await
    }
}
