//! Tests from inside whether clusters that exist and the others reach each other, before any istiod gets a remote secret.

use futures::future::try_join_all;
use kube::Client;

use super::Run;
use super::remote_secrets::Peer;
use crate::base::error::Error;
use crate::base::event::{Outcome, Step};
use crate::cluster::mesh::apply::Applier;
use crate::cluster::mesh::reach;
use crate::cluster::refusal::Record;
use crate::cluster::rollout::Workload;
use crate::diagnose::diagnosis::waits;
use crate::plan::{Cluster, Host};

/// The number of attempts: the first request of a new pod may be lost.
const ATTEMPTS: u8 = 3;

/// A cluster that is tested.
struct Tested<'a> {
    cluster: &'a Cluster,
    client: &'a Client,
    record: Record,
    peers: Vec<Peer<'a>>,
}

impl Run {
    /// If any clusters exist, tests whether each cluster reaches the API servers of its peers and, on a shared network, their pods. Then
    /// istiods may get remote secrets. Each cluster is tested once: one that has its remote secrets has passed.
    pub(super) async fn ensure_reaching(&self) -> anyhow::Result<()> {
        if !self.connected.is_empty() {
            let step = self.events.step("reach", None);
            step.run(async |step| {
                let changed = self.reach(step).await?;
                Ok(Outcome { value: (), changed })
            })
            .await?;
        }
        let _ = self.reached.set(());
        Ok(())
    }

    async fn reach(&self, step: &Step) -> anyhow::Result<bool> {
        let all = try_join_all(self.plan.clusters.iter().map(|cluster| self.untested(cluster, step))).await?;
        let all: Vec<Tested<'_>> = all.into_iter().flatten().collect();
        let Some(samples) = self.plan.samples.as_ref().filter(|_| !all.is_empty()) else {
            if !all.is_empty() {
                step.note("not tested whether clusters reach each other: without samples, no image is known");
            }
            return Ok(false);
        };
        let started = all.iter().map(async |tested| {
            if let Some(loaded) = self.sample_loaded.get(&tested.cluster.name) {
                loaded.wait().await;
            }
            let objects = reach::objects(&samples.image)?;
            let pods: Vec<_> = objects.iter().filter_map(Workload::of).collect();
            let deadline = self.wait_deadline();
            let applier = Applier::new(tested.client.clone(), step, deadline).recording(&tested.record);
            applier.only_ours().apply(objects).await?;
            for pod in &pods {
                waits::workload(tested.client, pod, &tested.record, step, deadline).await?;
            }
            anyhow::Ok((tested.cluster.name.as_str(), reach::address(tested.client).await?))
        });
        let result = async {
            let addresses = try_join_all(started).await?;
            try_join_all(all.iter().map(|tested| self.test(tested, &addresses))).await
        };
        let result = result.await;
        // Also after a failure: they would only be in the way.
        let deleted = try_join_all(all.iter().map(|tested| reach::delete(tested.client))).await;
        result?;
        deleted?;
        Ok(true)
    }

    /// Returns a cluster that has no remote secrets yet; none that has no istiod to read its peers.
    async fn untested<'a>(&'a self, cluster: &'a Cluster, step: &Step) -> anyhow::Result<Option<Tested<'a>>> {
        let Some(published) = self.readers.get(&cluster.name).filter(|_| !cluster.is_remote()) else {
            return Ok(None);
        };
        let client = &published.wait().await.client;
        let peers = self.peers(cluster).await;
        let secrets: Vec<_> = peers.iter().map(Peer::secret).collect::<Result<_, _>>()?;
        let record = Record::default();
        let mut applier = Applier::new(client.clone(), step, self.wait_deadline());
        let there = applier.are_applied(&secrets).await?;
        Ok((!there).then_some(Tested { cluster, client, record, peers }))
    }

    async fn test(&self, tested: &Tested<'_>, addresses: &[(&str, String)]) -> anyhow::Result<()> {
        let (here, client) = (tested.cluster, tested.client);
        // kind's clusters always reach each other.
        let exists = |cluster: &Cluster| cluster.host.existing().is_some();
        for peer in tested.peers.iter().filter(|peer| exists(here) || exists(peer.cluster)) {
            if let Some(why) = attempts(async || reach::api_server(client, peer.url, peer.reader).await).await? {
                let (here, there, url) = (&here.name, &peer.cluster.name, peer.url);
                let what = format!("pods of {here} do not reach the API server of {there} at {url}: {why}");
                return Err(Error::prerequisite(what).hint(self.fix(tested.cluster, peer.cluster)).into());
            }
        }
        let neighbors = self.plan.neighbors(here).filter(|_| exists(here));
        let neighbors = neighbors.filter_map(|peer| addresses.iter().find(|(name, _)| *name == peer.name));
        for (peer, address) in neighbors {
            if let Some(why) = attempts(async || reach::pod(client, address).await).await? {
                let what = format!("pods of {} do not reach pods of {peer}, such as {address}: {why}", here.name);
                let fix =
                    "make routes between them, or give each cluster a network of its own: clusters[].network";
                return Err(Error::prerequisite(what).hint(fix).into());
            }
        }
        Ok(())
    }

    /// Returns how to let pods of a cluster reach the API server of another one.
    fn fix(&self, from: &Cluster, to: &Cluster) -> String {
        let index = self.spec.clusters.iter().position(|cluster| cluster.name.as_str() == to.name);
        let url = format!(
            "set clusters[{}].apiServer to a URL that pods of {} reach, and that the certificate of the API server names",
            index.unwrap_or_default(),
            from.name
        );
        let containers = |of: &Cluster| format!("if the nodes of {} are containers of this engine", of.name);
        match (&from.host, &to.host, &self.plan.docker) {
            (Host::Existing(_), Host::Kind(_), Some(docker)) => {
                let network = &docker.network.name;
                format!(
                    "{}: docker network connect {network} NODE, for each node; otherwise make routes to that network",
                    containers(from)
                )
            }
            (Host::Kind(kind), Host::Existing(_), _) => {
                let connect = |node: &String| format!("docker network connect NETWORK-OF-{} {node}", to.name);
                let connect: Vec<_> = kind.nodes.iter().map(connect).collect();
                format!("{url}; {}: {}", containers(to), connect.join(" && "))
            }
            _ => url,
        }
    }
}

/// Asks until the answer is good, a few times. Returns the last answer.
async fn attempts(ask: impl AsyncFn() -> anyhow::Result<Option<String>>) -> anyhow::Result<Option<String>> {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        last = ask().await?;
        if last.is_none() {
            break;
        }
    }
    Ok(last)
}
