//! Connects the clusters: each istiod gets a remote secret for every peer, to read that cluster's API server.

use super::Run;
use super::cluster::Ready;
use crate::base::event::Outcome;
use crate::cluster::mesh::remote;
use crate::diagnose::diagnosis::waits;

impl Run {
    /// Publishes what peers need to read this cluster.
    pub(super) async fn ensure_reader(&self, made: &Ready<'_>) -> anyhow::Result<()> {
        let step = self.events.step("reader", Some(&made.cluster.name));
        let reader = step
            .run(async |step| {
                let reader = remote::reader(&made.client, &made.record, step, self.wait_deadline()).await?;
                Ok(Outcome::unchanged(reader))
            })
            .await?;
        if let Some(known) = self.readers.get(&made.cluster.name) {
            let _ = known.set(reader);
        }
        Ok(())
    }

    /// Gives this cluster's istiod access to every peer, remote clusters included.
    pub(super) async fn ensure_remote_clusters(&self, made: &Ready<'_>) -> anyhow::Result<()> {
        let name = &made.cluster.name;
        let mut peers = Vec::new();
        for peer in self.plan.peers(made.cluster) {
            if let Some(reader) = self.readers.get(&peer.name) {
                peers.push((peer, reader.wait().await));
            }
        }
        self.reached.wait().await;
        let step = self.events.step("remote-secrets", Some(name));
        step.run(async |step| {
            let secrets: Vec<_> =
                peers.iter().map(|(peer, reader)| remote::secret(peer, reader)).collect::<Result<_, _>>()?;
            let changed = made.applier(step, self.wait_deadline()).apply(secrets).await?;
            Ok(Outcome { value: (), changed })
        })
        .await?;
        let step = self.events.step("sync", Some(name));
        step.run(async |step| {
            let peers: Vec<&str> = peers.iter().map(|(peer, _)| peer.name.as_str()).collect();
            waits::synced(&made.client, &peers, &made.record, step, self.wait_deadline()).await?;
            Ok(Outcome::unchanged(()))
        })
        .await
    }
}
