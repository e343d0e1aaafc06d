//! The proof: a call that crosses, from every cluster with a caller.

use super::Run;
use super::cluster::Made;
use crate::call::{Answer, Caller, Request};
use crate::diagnosis::{self, gather};
use crate::event::Outcome;
use crate::plan::Samples;
use crate::wait::{self, Poll};
use crate::workloads;

impl Run {
    /// Calls from every caller until the answer is what the pattern promises.
    pub(super) async fn prove(&self, made: &[Made<'_>]) -> anyhow::Result<Vec<(String, Answer)>> {
        let Some(samples) = &self.plan.samples else { return Ok(Vec::new()) };
        let mut calls = Vec::new();
        for from in made.iter().filter(|made| samples.callers.contains(&made.cluster.name)) {
            let step = self.events.step("endpoints", Some(&from.cluster.name));
            let look = async || {
                let all: Vec<_> = made.iter().map(|made| (made.cluster.name.as_str(), &made.client)).collect();
                gather::call(&self.engine, &self.plan, &from.client, &all).await
            };
            step.run(async |step| {
                let (plan, deadline) = (&self.plan, self.wait_deadline());
                let waited = workloads::wait_for_endpoints(&from.client, plan, samples, step, deadline).await;
                diagnosis::explained(waited, look).await?;
                Ok(Outcome::unchanged(()))
            })
            .await?;
            let step = self.events.step("call", Some(&from.cluster.name));
            let answer = step
                .run(async |step| {
                    let request = Request {
                        id: format!("up-{}", from.cluster.name),
                        payload: "hello".into(),
                        delay: 0,
                        response_code: 200,
                        fresh_connection: true,
                    };
                    let what = "a call to cross";
                    let waited = wait::until(step, what, self.wait_deadline(), async || {
                        let answer = async {
                            Caller::connect(&from.client, &samples.namespace).await?.call(&request).await
                        };
                        Ok(match answer.await {
                            Ok(answer) => match flaw(&answer, samples) {
                                None => Poll::Ready(Outcome::unchanged(answer)),
                                Some(flaw) => Poll::NotYet(flaw),
                            },
                            Err(error) => Poll::NotYet(format!("{error:#}")),
                        })
                    })
                    .await;
                    diagnosis::explained(waited, look).await
                })
                .await?;
            calls.push((from.cluster.name.clone(), answer));
        }
        Ok(calls)
    }
}

/// What is wrong with an answer: it has to be a success, from a cluster with producers, and the producer must have
/// been told who called.
fn flaw(answer: &Answer, samples: &Samples) -> Option<String> {
    if answer.status_code != 200 {
        let reason = answer.reason.as_deref().unwrap_or("no reason given");
        return Some(format!("{} {}: {reason}", diagnosis::ANSWERED, answer.status_code));
    }
    let served_by = answer.served_by().unwrap_or_default();
    if !samples.producers.iter().any(|cluster| cluster == served_by) {
        return Some(format!("\"{served_by}\" answered, which has no producer"));
    }
    let identity = format!("spiffe://cluster.local/ns/{}/sa/{}", samples.namespace, workloads::CALLER_NAME);
    match answer.identity() {
        Some(found) if found == identity => None,
        Some(found) => Some(format!("the producer was told that {found} called, not {identity}")),
        None => Some("the producer was not told who called: no mutual TLS".into()),
    }
}
