//! Removes clusters that the spec no longer lists, without a lost call in the others: first no proxy sends them calls any
//! more, then their open connections end, then the routes to them and their nodes are deleted. What says that a cluster
//! exists, on the engine, is deleted last, so that the next `up` completes an interrupted removal.

use std::net::Ipv4Addr;
use std::time::Duration;

use futures::future::try_join_all;
use tokio::time::Instant;

use super::Run;
use super::cluster::Ready;
use crate::base::event::Outcome;
use crate::base::wait::{self, Poll};
use crate::cluster::link;
use crate::cluster::mesh::{gateway, primary, withdraw};
use crate::host::docker::{network, node};
use crate::host::kubeconfig::entries::Mark;
use crate::host::kubeconfig::{self, MERGE_TIMEOUT};
use crate::host::{kind, trust};
use crate::plan::{Docker, Plan, Removed};

/// How long open connections to a removed cluster may take to end. The samples' calls take at most 5 s; longer ones such as
/// WebSockets are closed with the nodes.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

impl Run {
    /// Removes the clusters that the spec no longer lists; `made` are the others.
    pub(super) async fn remove_clusters(&self, made: &[Ready<'_>]) -> anyhow::Result<()> {
        let Some(docker) = self.plan.docker.as_ref().filter(|docker| !docker.removed.is_empty()) else {
            return Ok(());
        };
        try_join_all(made.iter().map(|made| self.withdraw(docker, made))).await?;
        for removed in &docker.removed {
            self.drain(removed).await?;
            self.delete(removed).await?;
        }
        let primaries = made.iter().filter(|made| !made.cluster.is_remote());
        try_join_all(primaries.map(|made| self.withdraw_istiod(made))).await?;
        if !self.plan.has_gateways() {
            try_join_all(made.iter().map(|made| self.delete_gateway(made))).await?;
        }
        for removed in &docker.removed {
            let unregister = self.events.step("unregister", Some(&removed.name));
            unregister.run(async |_| self.forget(removed).await.map(Outcome::changed)).await?;
        }
        Ok(())
    }

    /// Takes the removed clusters out of the mesh as one of the others sees it.
    async fn withdraw(&self, docker: &Docker, made: &Ready<'_>) -> anyhow::Result<()> {
        let step = self.events.step("withdraw", Some(&made.cluster.name));
        step.run(async |step| {
            let removed: Vec<Removed> =
                docker.removed.iter().map(|removed| removed.seen_from(made.cluster)).collect();
            let changed = withdraw::delete_secrets(&made.client, &removed).await?;
            let deadline = self.wait_deadline();
            withdraw::wait(&made.client, made.cluster, &removed, &made.record, step, deadline).await?;
            Ok(Outcome { value: (), changed })
        })
        .await
    }

    /// Waits until calls that a removed cluster is still answering have ended.
    async fn drain(&self, removed: &Removed) -> anyhow::Result<()> {
        let step = self.events.step("drain", Some(&removed.name));
        step.run(async |step| {
            let mut open = 0;
            let deadline = self.waits_until.min(Instant::now() + DRAIN_TIMEOUT);
            let waited = wait::until(step, "open connections to end", deadline, async || {
                open = self.open_connections(removed).await;
                Ok(match open {
                    0 => Poll::Ready(()),
                    _ => Poll::NotYet(format!("{open} are open")),
                })
            });
            if waited.await.is_err() {
                let seconds = DRAIN_TIMEOUT.as_secs();
                step.note(format!("{open} connections to {} were still open after {seconds} s", removed.name));
            }
            Ok(Outcome::unchanged(()))
        })
        .await
    }

    /// Returns the number of connections from other clusters to a removed one, as its nodes track them. A node that does not
    /// respond has none.
    async fn open_connections(&self, removed: &Removed) -> usize {
        let list = ["conntrack", "-L", "-p", "tcp", "--state", "ESTABLISHED"];
        let engine = self.engine();
        let each =
            removed.nodes.iter().zip(engine.iter().cycle()).map(|(name, engine)| node::run(engine, name, &list));
        let said = futures::future::join_all(each).await;
        said.into_iter().flatten().map(|said| count(&said, &self.plan, removed)).sum()
    }

    /// Deletes the routes to a removed cluster, and its nodes.
    async fn delete(&self, removed: &Removed) -> anyhow::Result<()> {
        let (name, engine) = (Some(removed.name.as_str()), &self.on_engine()?.engine);
        let unlink = self.events.step("unlink", name).run(async |_| {
            let each = self.plan.clusters.iter().flat_map(|cluster| {
                let subnets = removed.seen_from(cluster).subnets;
                cluster.nodes().iter().map(move |node| (node, subnets.clone()))
            });
            try_join_all(each.map(async |(node, subnets)| link::forget(engine, node, &subnets).await)).await?;
            Ok(Outcome::changed(()))
        });
        unlink.await?;
        let nodes = self.events.step("nodes", name).run(async |step| {
            let ours = |node: &kind::Attached| node.kind_name == removed.kind_name;
            let changed = kind::remove_nodes(engine, &self.plan.docker()?.network.name, step, ours).await?;
            Ok(Outcome { value: (), changed })
        });
        nodes.await
    }

    /// Deletes a removed cluster's files and its entries in kubeconfigs, then what lists it on the engine.
    async fn forget(&self, removed: &Removed) -> anyhow::Result<()> {
        let (environment, engine) = (&self.plan.environment, &self.on_engine()?.engine);
        self.files.remove_cluster(&removed.name)?;
        trust::remove_intermediate(&self.files.trust(), &removed.name)?;
        kubeconfig::ensure(&self.files, &self.plan)?;
        let mark = Mark { environment: environment.clone(), engine: engine.facts.id.clone() };
        for users in kubeconfig::merged_into(&self.files, &mark) {
            kubeconfig::merge_into(&users, &self.files, environment, MERGE_TIMEOUT, &self.events).await?;
        }
        network::unlist(engine, removed).await
    }

    /// Deletes what exposed the istiod of a cluster to remote clusters that are removed.
    async fn withdraw_istiod(&self, made: &Ready<'_>) -> anyhow::Result<()> {
        let unneeded = primary::unneeded(&made.client, made.cluster).await?;
        if unneeded.is_empty() {
            return Ok(());
        }
        let step = self.events.step("withdraw-istiod", Some(&made.cluster.name));
        step.run(async |_| Ok(Outcome { value: (), changed: primary::delete(&made.client, &unneeded).await? }))
            .await
    }

    /// Deletes the gateway of a cluster, if only one Istio network is left.
    async fn delete_gateway(&self, made: &Ready<'_>) -> anyhow::Result<()> {
        let step = self.events.step("remove-gateway", Some(&made.cluster.name));
        step.run(async |_| Ok(Outcome { value: (), changed: gateway::delete(&made.client).await? })).await
    }
}

/// Counts connections from other clusters to a removed one in the output of conntrack: from their pods, or on other Istio
/// networks from their nodes to its gateway.
fn count(said: &str, plan: &Plan, removed: &Removed) -> usize {
    let from_peer = |line: &&str| {
        let field = |key: &str| -> Option<Ipv4Addr> {
            line.split_whitespace().find_map(|word| word.strip_prefix(key))?.parse().ok()
        };
        let (Some(from), Some(to)) = (field("src="), field("dst=")) else { return false };
        let from_pod = plan.clusters.iter().any(|cluster| cluster.has_pod(from));
        let in_network =
            |address| plan.docker.as_ref().is_some_and(|docker| docker.network.subnet.contains(address));
        removed.owned(to) && !removed.owned(from) && (from_pod || in_network(&to))
    };
    said.lines().filter(from_peer).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan;
    use crate::plan::inventory::Inventory;
    use crate::spec::Spec;

    #[test]
    fn connections_from_other_clusters_are_counted() {
        let spec =
            Spec { samples: crate::spec::Samples { enabled: false, ..Default::default() }, ..Spec::default() };
        let plan = plan::plan(&spec, &Inventory::of_an_empty_machine(None)).unwrap();
        let subnets = ["10.104.0.0/16", "172.30.0.144/29"].map(|subnet| subnet.parse().unwrap()).into();
        let removed = Removed {
            name: "c".into(),
            kind_name: "e-c".into(),
            nodes: Vec::new(),
            subnets,
            register: None,
            marker: None,
        };
        let line = |from: &str, to: &str| {
            format!(
                "tcp 6 86399 ESTABLISHED src={from} dst={to} sport=1 dport=2 src={to} dst={from} sport=2 dport=1\n"
            )
        };
        let said = [
            line("10.100.0.5", "10.104.0.7"),   // from a peer's pod
            line("172.30.0.3", "172.30.0.145"), // from a peer's node to the gateway
            line("10.104.0.9", "10.104.0.7"),   // inside of the cluster
            line("172.30.0.4", "10.104.0.7"),   // from its own kubelet
            line("10.104.0.9", "10.100.0.5"),   // to a peer
        ];
        assert_eq!(count(&said.concat(), &plan, &removed), 2);
    }
}
