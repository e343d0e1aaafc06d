//! The sample services of a cluster.

use super::Run;
use super::cluster::Ready;
use crate::base::event::Outcome;
use crate::base::names;
use crate::cluster::rollout::Workload;
use crate::cluster::workloads;
use crate::diagnose::diagnosis::waits;

impl Run {
    /// Applies the samples of this cluster, and deletes those that the spec no longer places in it.
    pub(super) async fn ensure_samples(&self, made: &Ready<'_>) -> anyhow::Result<()> {
        let Some(cluster) = self.spec.clusters.iter().find(|c| c.name.as_str() == made.cluster.name) else {
            return Ok(());
        };
        let step = self.events.step("samples", Some(&made.cluster.name));
        step.run(async |step| {
            let wanted = match &self.plan.samples {
                Some(samples) => workloads::objects(samples, &self.spec, cluster, &made.trust)?,
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
