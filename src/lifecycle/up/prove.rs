//! The final check: a cross-cluster call from every cluster with a caller.

use super::Run;
use super::cluster::Ready;
use crate::base::event::Outcome;
use crate::cluster::call::Answer;
use crate::cluster::workloads;
use crate::diagnose::diagnosis::{self, gather};
use crate::lifecycle::prove;

impl Run {
    /// Calls from every caller until a response is valid.
    pub(super) async fn prove(&self, made: &[Ready<'_>]) -> anyhow::Result<Vec<(String, Answer)>> {
        let Some(samples) = &self.plan.samples else { return Ok(Vec::new()) };
        let mut calls = Vec::new();
        for from in made.iter().filter(|made| samples.callers.contains(&made.cluster.name)) {
            let name = &from.cluster.name;
            let step = self.events.step("endpoints", Some(name));
            let look = async || {
                let all: Vec<_> = made.iter().map(|made| (made.cluster.name.as_str(), &made.client)).collect();
                gather::call(self.engine(), &self.plan, &from.client, &all).await
            };
            step.run(async |step| {
                let (plan, record, deadline) = (&self.plan, &from.record, self.wait_deadline());
                let waited = async {
                    workloads::wait_for_endpoints(
                        &from.client,
                        plan,
                        from.cluster,
                        samples,
                        record,
                        step,
                        deadline,
                    )
                    .await?;
                    for to in made {
                        let way = (from.cluster, to.cluster);
                        let by = (self.engine(), &to.client);
                        workloads::wait_for_gateway(by, way, samples, &to.record, step, deadline).await?;
                    }
                    anyhow::Ok(())
                };
                let waited = waited.await;
                diagnosis::explained(waited, look).await?;
                Ok(Outcome::unchanged(()))
            })
            .await?;
            let step = self.events.step("call", Some(name));
            let answer = step
                .run(async |step| {
                    let (record, deadline) = (&from.record, self.wait_deadline());
                    let answer = prove::crosses(&from.client, name, samples, "up", record, step, deadline).await;
                    Ok(Outcome::unchanged(diagnosis::explained(answer, look).await?))
                })
                .await?;
            calls.push((name.clone(), answer));
        }
        Ok(calls)
    }
}
