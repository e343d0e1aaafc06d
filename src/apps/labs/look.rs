//! Tries checkpoints: makes their calls, asks for their objects, nodes and links.

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

/// How long after the calls that come before it a checkpoint is looked at: Envoy tells its workers of an ejection
/// within a second.
const SETTLES_WITHIN: Duration = Duration::from_secs(2);
/// How long it may take at least until an exercise fails as described: a producer that was ejected stays so for up to a
/// minute.
const FAILS_WITHIN: Duration = Duration::from_secs(60);
/// Somebody waits for the word that nothing has changed: what was applied a moment ago shows within a second or two.
const STANDS_STILL_AFTER: Duration = Duration::from_secs(5);
/// How long one call may take: longer than the caller's own timeout of 30 s.
const CALL_WITHIN: Duration = Duration::from_secs(35);
/// How long a request in plain text may take, in seconds.
const PLAIN_TEXT_WITHIN: &str = "5";
/// How long anything else may take.
const LOOK_WITHIN: Duration = Duration::from_secs(10);

/// How a checkpoint came out.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tried {
    /// What was to hold.
    pub claim: String,
    /// Whether it does; none where it was not tried, because one before it does not.
    pub works: Option<bool>,
    /// What was expected, in words.
    pub expected: String,
    /// What was seen last, in words.
    pub seen: String,
    /// Whether it came out as it does at first.
    pub as_at_first: bool,
}

/// Looks at the environment of an exercise.
pub(super) struct Look<'a> {
    pub clusters: &'a Clusters<'a>,
    pub engine: &'a Engine,
    pub plan: &'a Plan,
}

impl Look<'_> {
    /// Tries checkpoints one after the other until each comes out as it does at first, or its time is over.
    pub async fn at_first(&self, checkpoints: &[Checkpoint], step: &Step) -> Vec<Tried> {
        let mut tried = Vec::new();
        for checkpoint in checkpoints {
            let seen = self.until(checkpoint, &checkpoint.at_first, false, step).await;
            tried.push(self.tried(checkpoint, &checkpoint.at_first, Some(&seen)));
        }
        tried
    }

    /// Tries checkpoints one after the other until each holds, or its time is over.
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
            expected: expected.told(places),
            seen: seen.map(Seen::told).unwrap_or_default(),
            as_at_first: seen.is_some_and(|seen| checkpoint.at_first.holds(seen, places)),
        }
    }

    /// Looks again and again until what is seen is as expected, the checkpoint's time is over, or nothing moves; gives
    /// what was seen last.
    async fn until(&self, checkpoint: &Checkpoint, expected: &Expectation, early: bool, step: &Step) -> Seen {
        let places = &self.clusters.places;
        let within = Duration::from_secs(checkpoint.within);
        // What an exercise before it broke may be healing.
        let within = if early { within } else { within.max(FAILS_WITHIN) };
        let deadline = Instant::now() + within;
        // What is healed by those before it may look as at first for a while.
        let may_stand_still = !early || checkpoint.after_others || checkpoint.at_first == checkpoint.works;
        let mut moved = Instant::now();
        let mut last = Seen::Nothing("no answer in time".into());
        let _ = wait::until(step, &checkpoint.claim, deadline, async || {
            last = self.round(checkpoint, expected, early).await;
            if !checkpoint.at_first.holds(&last, places) {
                moved = Instant::now();
            }
            Ok(match expected.holds(&last, places) {
                true => Poll::Ready(()),
                false if !may_stand_still && moved.elapsed() > STANDS_STILL_AFTER => Poll::Ready(()),
                false => Poll::NotYet(last.told()),
            })
        })
        .await;
        last
    }

    /// The calls that come before, and then a look; with such calls, looks for as long as their effect may take,
    /// `early` only until it is as expected.
    async fn round(&self, checkpoint: &Checkpoint, expected: &Expectation, early: bool) -> Seen {
        let Some(before) = &checkpoint.before else { return self.see(checkpoint).await };
        if let Err(error) = self.calls(before).await {
            return Seen::Nothing(format!("{error:#}"));
        }
        let silent = Events::silent().step("lab", None);
        let mut last = Seen::Nothing("no answer in time".into());
        let _ = wait::until(&silent, "an effect", Instant::now() + SETTLES_WITHIN, async || {
            last = self.see(checkpoint).await;
            let done = early && expected.holds(&last, &self.clusters.places);
            Ok(if done { Poll::Ready(()) } else { Poll::NotYet(last.told()) })
        })
        .await;
        last
    }

    /// Looks once.
    async fn see(&self, checkpoint: &Checkpoint) -> Seen {
        let seen = match checkpoint {
            Checkpoint { call: Some(calls), .. } => self.calls(calls).await,
            Checkpoint { plain_text: Some(from), .. } => self.plain_text(from.side).await,
            Checkpoint { object: Some(object), .. } => self.object(object).await,
            Checkpoint { link: Some(_), .. } => Ok(self.link().await),
            Checkpoint { nodes: Some(of), .. } => self.nodes(of.side).await,
            _ => Err(anyhow::anyhow!("the checkpoint says not what to look at")),
        };
        seen.unwrap_or_else(|error| Seen::Nothing(format!("{error:#}")))
    }

    async fn calls(&self, calls: &Calls) -> anyhow::Result<Seen> {
        let (client, namespace) = (self.clusters.client(calls.side), self.clusters.namespace());
        let connecting = Caller::connect_to(client, namespace, &calls.from);
        let mut caller = tokio::time::timeout(LOOK_WITHIN, connecting).await??;
        let mut seen = Vec::new();
        for number in 1..=calls.count {
            let request = Request {
                id: format!("lab-{number}"),
                payload: "hello".into(),
                delay: calls.delay,
                response_code: calls.status,
                fail_attempts: calls.fail_attempts,
                fresh_connection: true,
            };
            let answer = tokio::time::timeout(CALL_WITHIN, caller.call(&request)).await??;
            seen.push((&answer).into());
        }
        Ok(Seen::Calls(seen))
    }

    /// Asks a producer's pod by its address, from within the caller's proxy's container: what is sent from there goes
    /// past the proxy.
    async fn plain_text(&self, side: Side) -> anyhow::Result<Seen> {
        let namespace = self.clusters.namespace();
        let from = workloads::ready_pod(self.clusters.client(side), namespace, names::CALLER_NAME).await?;
        let to = self.clusters.client(Side::Producer);
        let to = workloads::ready_pod(to, namespace, names::PRODUCER_NAME).await?;
        let address = to.status.and_then(|status| status.pod_ip).unwrap_or_default();
        let url = format!("http://{address}:{PORT}/producer/count");
        let command = ["curl", "--silent", "--max-time", PLAIN_TEXT_WITHIN, url.as_str()];
        let from = from.metadata.name.unwrap_or_default();
        let asked = exec(self.clusters.client(side), namespace, &from, envoy::CONTAINER, &command);
        match tokio::time::timeout(LOOK_WITHIN, asked).await? {
            Ok(said) => Ok(Seen::PlainText { answered: true, told: format!("an answer: {}", said.trim()) }),
            // curl's own exit status says that the connection was closed or refused.
            Err(error) if format!("{error:#}").contains("exit code") => {
                Ok(Seen::PlainText { answered: false, told: "no answer: the connection was closed".into() })
            }
            Err(error) => Err(error),
        }
    }

    async fn object(&self, object: &Object) -> anyhow::Result<Seen> {
        let api = self.clusters.api(object.side, &object.api_version, &object.kind);
        let found = tokio::time::timeout(LOOK_WITHIN, api.get_opt(&object.name)).await??;
        let cluster = self.clusters.places.of(object.side);
        let word = if found.is_some() { "is" } else { "is not" };
        let told = format!("{} {} {word} in {cluster}", object.kind, object.name);
        Ok(Seen::Object { present: found.is_some(), told })
    }

    async fn link(&self) -> Seen {
        let mut told = Vec::new();
        let mut whole = true;
        for cluster in &self.plan.clusters {
            match tokio::time::timeout(LOOK_WITHIN, link::routes(self.engine, self.plan, cluster)).await {
                Ok(Ok(routes)) => told.push(format!("{}: {}", cluster.name, routes.join(", "))),
                Ok(Err(error)) => {
                    whole = false;
                    told.push(format!("{error:#}"));
                }
                Err(_) => {
                    whole = false;
                    told.push(format!("{}: no answer", cluster.name));
                }
            }
        }
        Seen::Link { whole, told: told.join("; ") }
    }

    async fn nodes(&self, side: Side) -> anyhow::Result<Seen> {
        let inventory = tokio::time::timeout(LOOK_WITHIN, gather::gather(self.engine)).await??;
        let found = inventory.environments.get(self.clusters.environment.name());
        let cluster = self.clusters.places.of(side);
        let nodes: Vec<_> = found.iter().flat_map(|found| found.nodes_of(cluster)).collect();
        let running = !nodes.is_empty() && nodes.iter().all(|node| node.state == "running");
        let told: Vec<_> = nodes.iter().map(|node| format!("{} is {}", node.name, node.state)).collect();
        Ok(Seen::Nodes { running, told: told.join(", ") })
    }
}
