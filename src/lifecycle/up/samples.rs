//! What joins the clusters, and the samples in them.

use super::Run;
use super::cluster::Made;
use crate::base::event::Outcome;
use crate::base::names;
use crate::cluster::mesh::remote;
use crate::cluster::rollout::Workload;
use crate::cluster::workloads;
use crate::diagnose::diagnosis::waits;

impl Run {
    /// This cluster's istiod reads every other cluster.
    pub(super) async fn ensure_remote_clusters(&self, made: &Made<'_>) -> anyhow::Result<()> {
        let name = &made.cluster.name;
        let mut peers = Vec::new();
        for peer in self.plan.peers(made.cluster) {
            if let Some(reader) = self.readers.get(&peer.name) {
                peers.push((peer, reader.wait().await));
            }
        }
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

    /// The samples that belong in this cluster run; those that no longer do are gone.
    pub(super) async fn ensure_samples(&self, made: &Made<'_>) -> anyhow::Result<()> {
        let Some(cluster) = self.spec.clusters.iter().find(|c| c.name.as_str() == made.cluster.name) else {
            return Ok(());
        };
        let step = self.events.step("samples", Some(&made.cluster.name));
        step.run(async |step| {
            let wanted = match &self.plan.samples {
                Some(samples) => workloads::objects(samples, cluster, &made.trust)?,
                None => Vec::new(),
            };
            let deployments = workloads::deployments(&wanted);
            let mut applier = made.applier(step, self.wait_deadline());
            let mut changed = applier.apply(wanted.clone()).await?;
            let label = format!("{}={}", names::PART_OF_LABEL, names::PART_OF);
            changed |= applier.prune(&workloads::kinds(), &label, &wanted).await?;
            for (namespace, name) in deployments {
                let sample = Workload::deployment(&namespace, &name);
                waits::workload(&made.client, &sample, &made.record, step, self.wait_deadline()).await?;
            }
            Ok(Outcome { value: (), changed })
        })
        .await
    }
}
