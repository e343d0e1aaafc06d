//! The proof: a call that crosses, from every cluster with a caller.

use super::Run;
use super::cluster::Made;
use crate::call::Answer;
use crate::event::Outcome;
use crate::prove;
use crate::workloads;

impl Run {
    /// Calls from every caller until the answer is what the pattern promises.
    pub(super) async fn prove(&self, made: &[Made<'_>]) -> anyhow::Result<Vec<(String, Answer)>> {
        let Some(samples) = &self.plan.samples else { return Ok(Vec::new()) };
        let mut calls = Vec::new();
        for from in made.iter().filter(|made| samples.callers.contains(&made.cluster.name)) {
            let name = &from.cluster.name;
            let step = self.events.step("endpoints", Some(name));
            step.run(async |step| {
                workloads::wait_for_endpoints(&from.client, &self.plan, samples, step, self.wait_deadline())
                    .await?;
                Ok(Outcome::unchanged(()))
            })
            .await?;
            let step = self.events.step("call", Some(name));
            let answer = step
                .run(async |step| {
                    let deadline = self.wait_deadline();
                    let answer = prove::crosses(&from.client, name, samples, "up", step, deadline).await?;
                    Ok(Outcome::unchanged(answer))
                })
                .await?;
            calls.push((name.clone(), answer));
        }
        Ok(calls)
    }
}
