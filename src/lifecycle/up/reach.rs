//! Tests from inside whether clusters that exist reach the others, before any istiod gets a remote secret.

use futures::future::try_join_all;
use kube::Client;

use super::Run;
use crate::base::error::Error;
use crate::base::event::{Outcome, Step};
use crate::cluster::mesh::apply::Applier;
use crate::cluster::mesh::reach;
use crate::cluster::mesh::remote::{self, Reader};
use crate::cluster::refusal::Record;
use crate::cluster::rollout::Workload;
use crate::diagnose::diagnosis::waits;
use crate::plan::Cluster;

/// The number of attempts: the first request of a new pod may be lost.
const ATTEMPTS: u8 = 3;

/// A cluster that is tested.
struct Tested<'a> {
    cluster: &'a Cluster,
    client: &'a Client,
    record: Record,
    /// Its peers, with what is needed to read them.
    peers: Vec<(&'a Cluster, &'a Reader)>,
}

impl Run {
    /// Tests whether clusters that exist reach the API servers of their peers and, on a shared network, their pods. Then istiods may
    /// get remote secrets. Each cluster is tested once: one that has its remote secrets has passed.
    pub(super) async fn ensure_reaching(&self) -> anyhow::Result<()> {
        if !self.clients.is_empty() {
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

    /// Returns a cluster that exists and that has no remote secrets yet.
    async fn untested<'a>(&'a self, cluster: &'a Cluster, step: &Step) -> anyhow::Result<Option<Tested<'a>>> {
        let Some((client, _)) = self.clients.get(&cluster.name) else { return Ok(None) };
        let mut peers = Vec::new();
        for peer in self.plan.peers(cluster) {
            if let Some(reader) = self.readers.get(&peer.name) {
                peers.push((peer, reader.wait().await));
            }
        }
        let secrets = peers.iter().map(|(peer, reader)| remote::secret(peer, reader));
        let secrets: Vec<_> = secrets.collect::<Result<_, _>>()?;
        let record = Record::default();
        let mut applier = Applier::new(client.clone(), step, self.wait_deadline());
        let there = applier.are_applied(&secrets).await?;
        Ok((!there).then_some(Tested { cluster, client, record, peers }))
    }

    async fn test(&self, tested: &Tested<'_>, addresses: &[(&str, String)]) -> anyhow::Result<()> {
        let (here, client) = (&tested.cluster.name, tested.client);
        for (peer, reader) in &tested.peers {
            let url = &peer.api_server;
            if let Some(why) = attempts(async || reach::api_server(client, url, reader).await).await? {
                let index = self.spec.clusters.iter().position(|cluster| cluster.name.as_str() == peer.name);
                let fix = format!(
                    "set clusters[{}].apiServer to a URL that pods of {here} reach, and that the certificate of the API server names",
                    index.unwrap_or_default()
                );
                let what = format!("pods of {here} do not reach the API server of {} at {url}: {why}", peer.name);
                return Err(Error::prerequisite(what).hint(fix).into());
            }
        }
        let neighbors = self.plan.neighbors(tested.cluster);
        let neighbors = neighbors.filter_map(|peer| addresses.iter().find(|(name, _)| *name == peer.name));
        for (peer, address) in neighbors {
            if let Some(why) = attempts(async || reach::pod(client, address).await).await? {
                let what = format!("pods of {here} do not reach pods of {peer}, such as {address}: {why}");
                let fix =
                    "make routes between them, or give each cluster a network of its own: clusters[].network";
                return Err(Error::prerequisite(what).hint(fix).into());
            }
        }
        Ok(())
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
