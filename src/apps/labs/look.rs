//! Runs checks: sends their calls, reads their objects, links and nodes.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::clusters::Clusters;
use super::exercise::{Calls, Checkpoint, Object};
use super::expectation::{Expectation, Seen};
use crate::base::event::{Events, Step};
use crate::base::names;
use crate::base::names::PORT;
use crate::base::wait::{self, Poll};
use crate::cluster::call::{Caller, Request};
use crate::cluster::exec::exec;
use crate::cluster::link;
use crate::cluster::mesh::envoy;
use crate::cluster::policies::Side;
use crate::cluster::workloads;
use crate::host::docker::Engine;
use crate::host::inventory as gather;
use crate::plan::Plan;
use crate::sample::Protocol;

/// How long after its preceding calls a check is evaluated: Envoy notifies its workers of an ejection within a
/// second.
const SETTLE_TIME: Duration = Duration::from_secs(2);
/// The minimum time limit for an exercise to fail as described: a producer can stay ejected for up to a minute.
const MIN_FAIL_TIMEOUT: Duration = Duration::from_secs(60);
/// A check ends when its result is still that of the start after this time: a change takes effect within a second or two.
const UNCHANGED_AFTER: Duration = Duration::from_secs(5);
/// The timeout of one call: longer than the caller's own timeout of 30 s.
const CALL_TIMEOUT: Duration = Duration::from_secs(35);
/// The timeout of a plain-text request, in seconds.
const PLAIN_TEXT_TIMEOUT: &str = "5";
/// The timeout of anything else.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The result of a check.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tried {
    /// The claim.
    pub claim: String,
    /// Whether it holds; none if it did not run, because a previous check failed.
    pub works: Option<bool>,
    /// The expected result, described.
    pub expected: String,
    /// The last result, described.
    pub seen: String,
    /// Whether the result is that of the start.
    pub as_at_first: bool,
}

/// Runs the checks of an exercise on its environment.
pub(super) struct Look<'a> {
    pub clusters: &'a Clusters<'a>,
    pub engine: &'a Engine,
    pub plan: &'a Plan,
}

impl Look<'_> {
    /// Runs checks one after another until each has the result of the start, or its time is over.
    pub async fn at_first(&self, checkpoints: &[Checkpoint], step: &Step) -> Vec<Tried> {
        let mut tried = Vec::new();
        for checkpoint in checkpoints {
            let seen = self.until(checkpoint, &checkpoint.at_first, false, step).await;
            tried.push(self.tried(checkpoint, &checkpoint.at_first, Some(&seen)));
        }
        tried
    }

    /// Runs checks one after another until each holds, or its time is over.
    pub async fn works(&self, checkpoints: &[Checkpoint], step: &Step) -> Vec<Tried> {
        let mut tried: Vec<Tried> = Vec::new();
        for checkpoint in checkpoints {
            let seen = match checkpoint.after_others && tried.iter().any(|tried| tried.works != Some(true)) {
                true => None,
                false => Some(self.until(checkpoint, &checkpoint.works, true, step).await),
            };
            tried.push(self.tried(checkpoint, &checkpoint.works, seen.as_ref()));
        }
        tried
    }

    fn tried(&self, checkpoint: &Checkpoint, expected: &Expectation, seen: Option<&Seen>) -> Tried {
        let places = &self.clusters.places;
        Tried {
            claim: checkpoint.claim.clone(),
            works: seen.map(|seen| checkpoint.works.holds(seen, places)),
            expected: expected.describe(places),
            seen: seen.map(Seen::describe).unwrap_or_default(),
            as_at_first: seen.is_some_and(|seen| checkpoint.at_first.holds(seen, places)),
        }
    }

    /// Retries until the result is as expected, the check's time is over, or nothing changes; returns the last
    /// result.
    async fn until(&self, checkpoint: &Checkpoint, expected: &Expectation, early: bool, step: &Step) -> Seen {
        let places = &self.clusters.places;
        let within = Duration::from_secs(checkpoint.within);
        // What a previous exercise broke may still be recovering.
        let within = if early { within } else { within.max(MIN_FAIL_TIMEOUT) };
        let deadline = Instant::now() + within;
        // What the previous checks repaired may still look as at the start.
        let may_stand_still = !early || checkpoint.after_others || checkpoint.at_first == checkpoint.works;
        let mut moved = Instant::now();
        let mut last = Seen::Nothing("no response in time".into());
        let _ = wait::until(step, &checkpoint.claim, deadline, async || {
            last = self.round(checkpoint, expected, early).await;
            if !checkpoint.at_first.holds(&last, places) {
                moved = Instant::now();
            }
            Ok(match expected.holds(&last, places) {
                true => Poll::Ready(()),
                false if !may_stand_still && moved.elapsed() > UNCHANGED_AFTER => Poll::Ready(()),
                false => Poll::NotYet(last.describe()),
            })
        })
        .await;
        last
    }

    /// Sends the preceding calls, and then evaluates; with preceding calls, retries for as long as their effect
    /// may take, but with `early` only until the result is as expected.
    async fn round(&self, checkpoint: &Checkpoint, expected: &Expectation, early: bool) -> Seen {
        let Some(before) = &checkpoint.before else { return self.see(checkpoint).await };
        if let Err(error) = self.calls(before).await {
            return Seen::Nothing(format!("{error:#}"));
        }
        let silent = Events::silent().step("lab", None);
        let mut last = Seen::Nothing("no response in time".into());
        let _ = wait::until(&silent, "an effect", Instant::now() + SETTLE_TIME, async || {
            last = self.see(checkpoint).await;
            let done = early && expected.holds(&last, &self.clusters.places);
            Ok(if done { Poll::Ready(()) } else { Poll::NotYet(last.describe()) })
        })
        .await;
        last
    }

    /// Evaluates once.
    async fn see(&self, checkpoint: &Checkpoint) -> Seen {
        let seen = match checkpoint {
            Checkpoint { call: Some(calls), .. } => self.calls(calls).await,
            Checkpoint { plain_text: Some(from), .. } => self.plain_text(from.side).await,
            Checkpoint { object: Some(object), .. } => self.object(object).await,
            Checkpoint { link: Some(_), .. } => Ok(self.link().await),
            Checkpoint { nodes: Some(of), .. } => self.nodes(of.side).await,
            _ => Err(anyhow::anyhow!("the check does not specify what to inspect")),
        };
        seen.unwrap_or_else(|error| Seen::Nothing(format!("{error:#}")))
    }

    async fn calls(&self, calls: &Calls) -> anyhow::Result<Seen> {
        let (client, namespace) = (self.clusters.client(calls.side), self.clusters.namespace());
        let connecting = Caller::connect_to(client, namespace, &calls.from);
        let mut caller = tokio::time::timeout(REQUEST_TIMEOUT, connecting).await??;
        let mut seen = Vec::new();
        for number in 1..=calls.count {
            let request = Request {
                id: format!("lab-{number}"),
                payload: "hello".into(),
                delay: calls.delay,
                response_code: calls.status,
                fail_attempts: calls.fail_attempts,
                fresh_connection: true,
                protocol: Protocol::Http,
            };
            let answer = tokio::time::timeout(CALL_TIMEOUT, caller.call(&request)).await??;
            seen.push((&answer).into());
        }
        Ok(Seen::Calls(seen))
    }

    /// Sends a request to a producer's pod by address, from the container of the caller's proxy: its requests
    /// bypass the proxy.
    async fn plain_text(&self, side: Side) -> anyhow::Result<Seen> {
        let namespace = self.clusters.namespace();
        let from = workloads::ready_pod(self.clusters.client(side), namespace, names::CALLER_NAME).await?;
        let to = self.clusters.client(Side::Producer);
        let to = workloads::ready_pod(to, namespace, names::PRODUCER_NAME).await?;
        let address = to.status.and_then(|status| status.pod_ip).unwrap_or_default();
        let url = format!("http://{address}:{PORT}/producer/count");
        let command = ["curl", "--silent", "--max-time", PLAIN_TEXT_TIMEOUT, url.as_str()];
        let from = from.metadata.name.unwrap_or_default();
        let asked = exec(self.clusters.client(side), namespace, &from, envoy::CONTAINER, &command);
        match tokio::time::timeout(REQUEST_TIMEOUT, asked).await? {
            Ok(said) => Ok(Seen::PlainText { answered: true, told: format!("a response: {}", said.trim()) }),
            // curl's exit status for a closed or refused connection.
            Err(error) if format!("{error:#}").contains("exit code") => {
                Ok(Seen::PlainText { answered: false, told: "no response: the connection was closed".into() })
            }
            Err(error) => Err(error),
        }
    }

    async fn object(&self, object: &Object) -> anyhow::Result<Seen> {
        let api = self.clusters.api(object.side, &object.api_version, &object.kind);
        let found = tokio::time::timeout(REQUEST_TIMEOUT, api.get_opt(&object.name)).await??;
        let cluster = self.clusters.places.of(object.side);
        let word = if found.is_some() { "exists" } else { "does not exist" };
        let told = format!("{} {} {word} in {cluster}", object.kind, object.name);
        Ok(Seen::Object { present: found.is_some(), told })
    }

    async fn link(&self) -> Seen {
        let mut told = Vec::new();
        let mut whole = true;
        for cluster in &self.plan.clusters {
            match tokio::time::timeout(REQUEST_TIMEOUT, link::routes(self.engine, self.plan, cluster)).await {
                Ok(Ok(routes)) => told.push(format!("{}: {}", cluster.name, routes.join(", "))),
                Ok(Err(error)) => {
                    whole = false;
                    told.push(format!("{error:#}"));
                }
                Err(_) => {
                    whole = false;
                    told.push(format!("{}: no response", cluster.name));
                }
            }
        }
        Seen::Link { whole, told: told.join("; ") }
    }

    async fn nodes(&self, side: Side) -> anyhow::Result<Seen> {
        let inventory = tokio::time::timeout(REQUEST_TIMEOUT, gather::gather(self.engine)).await??;
        let found = inventory.environments.get(self.clusters.environment.name());
        let cluster = self.clusters.places.of(side);
        let nodes: Vec<_> = found.iter().flat_map(|found| found.nodes_of(cluster)).collect();
        let running = !nodes.is_empty() && nodes.iter().all(|node| node.state == "running");
        let told: Vec<_> = nodes.iter().map(|node| format!("{} is {}", node.name, node.state)).collect();
        Ok(Seen::Nodes { running, told: told.join(", ") })
    }
}
