//! Outages: a cluster or a zone whose nodes are killed, and started again by the command that killed them, or if that was
//! killed, too, by the next one. Faults of the network are in [`crate::cluster::fault`].

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context;
use futures::future::{join_all, try_join_all};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use tokio::time::Instant;

use crate::base::error::Error;
use crate::base::event::{Events, Outcome, Step};
use crate::base::hint::{start_hint, up_hint};
use crate::base::interrupt::Interrupt;
use crate::base::names::kind_name;
use crate::cluster::environment::Environment;
use crate::cluster::fault;
use crate::host::docker::{Engine, node};
use crate::host::inventory as gather;
use crate::host::outage::{self, Held, Outage};
use crate::host::state::Directories;
use crate::lifecycle::{locked, start};
use crate::plan::inventory::Inventory;
use crate::plan::{Cluster, Plan};

/// The label of a node with its zone.
const ZONE: &str = "topology.kubernetes.io/zone";
/// How long an environment may take to work again: far longer than any observed start, for slow hosts.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(180);

/// What is killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Every node of a cluster.
    Cluster(String),
    /// Every node of a zone, in any cluster.
    Zone(String),
}

/// The environment and the surroundings of an outage.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    /// The engine.
    pub engine: &'a Engine,
    /// The environment.
    pub environment: &'a Environment,
    /// kindmesh's directories.
    pub folders: &'a Directories,
    /// Where the steps are reported.
    pub events: &'a Events,
}

impl Scene<'_> {
    /// Kills nodes, keeps them down, and starts them again: when the time is over, or at an interrupt. Returns when the
    /// environment works again.
    ///
    /// # Errors
    /// A usage error for a cluster or zone without nodes; otherwise the engine's errors, or if the environment does not work
    /// in time. Killed nodes are started again in any case.
    pub async fn outage(&self, target: &Target, lasts: Duration, interrupt: &Interrupt) -> anyhow::Result<()> {
        // Armed with the lock: until then, there is nothing to clean up.
        let mut armed = None;
        let held = self.begin(target, lasts, || armed = Some(interrupt.arm("starting the killed nodes"))).await?;
        self.wait(&held.outage, interrupt).await?;
        self.end(held).await
    }

    /// Kills the nodes of a target. They stay down until [`Scene::end`]. `arm` is called under the lock, before
    /// anything is killed.
    ///
    /// # Errors
    /// As for [`Scene::outage`].
    pub async fn begin(&self, target: &Target, lasts: Duration, arm: impl FnOnce()) -> anyhow::Result<Held> {
        let name = self.environment.name();
        // Before the lock: API servers of other nodes may not respond.
        let nodes = self.nodes(target).await?;
        let (_lock, inventory) = locked::exclusive(self.engine, self.folders, name, self.events).await?;
        let found = inventory.environments.get(name).cloned().unwrap_or_default();
        let ends = Timestamp::now() + jiff::SignedDuration::try_from(lasts.min(fault::LONGEST))?;
        let (fault, subject) = match target {
            Target::Cluster(name) => ("kill-cluster", name),
            Target::Zone(name) => ("kill-zone", name),
        };
        let runs = |node: &&String| found.nodes.iter().any(|has| has.name == **node && has.state == "running");
        let names: Vec<String> = nodes.iter().map(|(_, node)| node).filter(runs).cloned().collect();
        if names.is_empty() {
            return Err(Error::environment(format!("no node of {subject} is running"))
                .hint(format!("start them: {}", start_hint(name)))
                .into());
        }
        let clusters: BTreeSet<String> = nodes.into_iter().map(|(cluster, _)| cluster).collect();
        let outage = Outage {
            fault: fault.into(),
            subject: subject.clone(),
            clusters: clusters.into_iter().collect(),
            nodes: names,
            ends,
        };
        arm();
        let held = outage.record(&self.environment.files)?;
        let step = self.events.step("kill", None);
        let killed = step
            .run(async |_| {
                // All of them: otherwise one could die after the others have been started again.
                let killed = join_all(held.outage.nodes.iter().map(|name| node::kill(self.engine, name))).await;
                killed.into_iter().collect::<anyhow::Result<()>>()?;
                Ok(Outcome::changed(()))
            })
            .await;
        match killed {
            Ok(()) => Ok(held),
            Err(error) => {
                self.revive(&held.outage, &gather::gather(self.engine).await?).await?;
                held.end()?;
                Err(error)
            }
        }
    }

    /// Starts the nodes of an outage, and returns when the environment works again. While other faults are active, it only waits
    /// for the nodes.
    ///
    /// # Errors
    /// As for [`Scene::outage`].
    async fn end(&self, held: Held) -> anyhow::Result<()> {
        self.start(held).await?;
        self.works().await
    }

    /// Starts the nodes of an outage, without waiting until the environment works.
    ///
    /// # Errors
    /// The engine's errors.
    pub async fn start(&self, held: Held) -> anyhow::Result<()> {
        let (_lock, inventory) =
            locked::exclusive(self.engine, self.folders, self.environment.name(), self.events).await?;
        self.revive(&held.outage, &inventory).await?;
        held.end()
    }

    /// Waits until the environment works, unless another fault may be the reason that it does not.
    ///
    /// # Errors
    /// The engine's errors, or if the environment does not work in time.
    pub async fn works(&self) -> anyhow::Result<()> {
        let plan = &self.environment.plan(self.engine, gather::gather(self.engine).await?)?;
        if !outage::all(&self.environment.files).is_empty() || !fault::active(self.engine, plan).await?.is_empty()
        {
            return Ok(());
        }
        let deadline = Instant::now() + RECOVERY_TIMEOUT;
        start::works(self.engine, self.environment, plan, deadline, self.events).await
    }

    async fn revive(&self, outage: &Outage, found: &Inventory) -> anyhow::Result<()> {
        let step = self.events.step("start", None);
        step.run(async |_| {
            let name = self.environment.name();
            let all = found.environments.get(name).into_iter().flat_map(|found| &found.nodes);
            let ours = all.filter(|node| outage.nodes.contains(&node.name));
            let remedy = up_hint(name);
            let started = try_join_all(ours.map(|node| node::start(self.engine, node, &remedy))).await?;
            Ok(Outcome { value: (), changed: started.contains(&true) })
        })
        .await
    }

    /// Ends outages whose commands were killed, and returns when the environment works again.
    ///
    /// # Errors
    /// The engine's errors, or if the environment does not work in time.
    pub async fn end_orphans(&self) -> anyhow::Result<()> {
        let (lock, inventory) =
            locked::exclusive(self.engine, self.folders, self.environment.name(), self.events).await?;
        // Under the lock: another command may have ended them meanwhile.
        let orphans = outage::all(&self.environment.files).into_iter().filter(|found| found.orphaned);
        for found in orphans {
            let Outage { fault, subject, .. } = &found.outage;
            self.events.note(format!("kindmesh fault {fault} {subject} was killed: starting its nodes again"));
            self.revive(&found.outage, &inventory).await?;
        }
        outage::forget_orphans(&self.environment.files)?;
        drop(lock);
        self.works().await
    }

    /// Waits until the end of an outage, or for an interrupt.
    async fn wait(&self, outage: &Outage, interrupt: &Interrupt) -> anyhow::Result<()> {
        let step = self.events.step("outage", None);
        step.run(async |step| {
            tokio::select! {
                () = counting_down(outage, step) => {}
                () = interrupt.requested() => {}
            }
            Ok(Outcome::unchanged(()))
        })
        .await
    }

    /// Returns the nodes of a target, each with its cluster.
    async fn nodes(&self, target: &Target) -> anyhow::Result<Vec<(String, String)>> {
        let plan = self.environment.plan(self.engine, gather::gather(self.engine).await?)?;
        match target {
            Target::Cluster(name) => {
                self.environment.cluster(name)?;
                let cluster = plan.cluster(name).with_context(|| format!("no cluster {name}"))?;
                Ok(cluster.nodes().iter().map(|node| (name.clone(), node.clone())).collect())
            }
            Target::Zone(zone) => {
                let zones = try_join_all(plan.clusters.iter().map(|cluster| self.zones(&plan, cluster))).await?;
                let all: Vec<_> = zones.into_iter().flatten().collect();
                let known: BTreeSet<&str> = all.iter().map(|(_, _, zone)| zone.as_str()).collect();
                if !known.contains(zone.as_str()) {
                    let known: Vec<_> = known.into_iter().collect();
                    return Err(Error::usage(format!("no node is in zone {zone}"))
                        .hint(format!("use one of {}", known.join(", ")))
                        .into());
                }
                let in_it = all.into_iter().filter(|(_, _, is)| is == zone);
                Ok(in_it.map(|(cluster, node, _)| (cluster, node)).collect())
            }
        }
    }

    /// Returns the nodes of a cluster: cluster, container, zone.
    async fn zones(&self, plan: &Plan, cluster: &Cluster) -> anyhow::Result<Vec<(String, String, String)>> {
        let client = self.environment.client(&cluster.name).await?;
        let listed = Api::<Node>::all(client).list(&ListParams::default()).await;
        let listed = listed.with_context(|| format!("listing the nodes of {}", cluster.name))?;
        // A cluster from a template has the node names of the environment that the template was made of.
        let original = kind_name(plan.identity(), &cluster.name);
        let own = &cluster.kind()?.name;
        let found = listed.items.into_iter().filter_map(|node| {
            let zone = node.labels().get(ZONE)?.clone();
            let container = format!("{own}{}", node.name_any().strip_prefix(&original)?);
            Some((cluster.name.clone(), container, zone))
        });
        Ok(found.collect())
    }
}

async fn counting_down(outage: &Outage, step: &Step) {
    loop {
        let left = outage.ends.duration_since(Timestamp::now());
        if !left.is_positive() {
            return;
        }
        step.waiting(
            &format!("the end of {} {}", outage.fault, outage.subject),
            &format!("{} s left", left.as_secs()),
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
