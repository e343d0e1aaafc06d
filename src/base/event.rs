//! The only channel from the work to the screen: the work sends events as data, and a sink shows them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::base::counts::Counts;
use crate::base::verdict::Verdict;

mod queue;

pub use queue::Feed;
use queue::{Queue, Sender};

/// Something that happened while a command ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Event {
    /// A step started.
    StepStarted {
        /// The stable id of the step: part of the JSON interface.
        step: String,
        /// The cluster of the step; `None` for the whole environment.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cluster: Option<String>,
    },
    /// A step succeeded.
    StepFinished {
        /// The id of the step.
        step: String,
        /// The cluster of the step.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cluster: Option<String>,
        /// How long it took.
        seconds: f64,
        /// Whether the step changed anything.
        changed: bool,
    },
    /// A step waits for a condition.
    Waiting {
        /// The id of the step.
        step: String,
        /// The cluster of the step.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cluster: Option<String>,
        /// What the step waits for.
        r#for: String,
        /// The last status.
        last: String,
    },
    /// A check started.
    CheckStarted {
        /// The id of the check.
        id: String,
    },
    /// A check ended.
    CheckFinished {
        /// The verdict.
        #[serde(flatten)]
        verdict: Verdict,
    },
    /// Information for the user that is not a failure.
    Note {
        /// One sentence.
        message: String,
    },
    /// The requests that the command has sent so far: see [`Counts`].
    Counted {
        /// Requests to API servers.
        kube_requests: u64,
        /// Requests to the container engine.
        engine_requests: u64,
        /// Child processes.
        processes: u64,
        /// Bytes of images exported from the engine.
        exported_bytes: u64,
    },
    /// The environment works: a cross-cluster call succeeded.
    Ready {
        /// The seconds since the command started.
        seconds: f64,
        /// The environment's name.
        environment: String,
        /// The path of its kubeconfig file.
        kubeconfig: String,
    },
    /// The command failed.
    Failed {
        /// The step that failed; empty before the first step.
        step: String,
        /// The cluster of the step.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cluster: Option<String>,
        /// What failed and why.
        error: String,
        /// The evidence.
        evidence: Vec<String>,
        /// The hint.
        hint: Option<String>,
        /// The id of the cause, if it is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<String>,
    },
}

impl Event {
    /// Returns the event that reports `counts`.
    pub fn counted(counts: Counts) -> Self {
        let Counts { kube_requests, engine_requests, processes, exported_bytes } = counts;
        Self::Counted { kube_requests, engine_requests, processes, exported_bytes }
    }

    /// Returns the event as one line of JSON, with the time at which it happened.
    pub fn line(&self, time: Timestamp) -> String {
        let event = serde_json::to_string(self).expect("an event has string keys and plain values only");
        // The time goes before the event's own fields: a struct around both would need serde's `flatten`.
        format!(r#"{{"time":"{time:.3}",{}"#, &event[1..])
    }
}

/// Turns events into output.
pub trait Sink: Send {
    /// Shows an event that happened at `time`.
    fn event(&mut self, time: Timestamp, event: &Event);

    /// Updates what depends on time alone. Called several times a second.
    fn tick(&mut self, _time: Timestamp) {}

    /// Cleans up the terminal. Called once, after the last event.
    fn finish(&mut self);
}

/// A handle for sending events. Cheap to clone; without a receiver, events are dropped.
#[derive(Debug, Clone)]
pub struct Events {
    sender: Option<Arc<Sender>>,
    under_way: Arc<Mutex<BTreeMap<(String, String), String>>>,
}

impl Events {
    /// Creates a channel: the sending end, and the end that a sink reads until [`end`](Self::end) is called or every
    /// sending end is dropped.
    ///
    /// Sending never blocks. An unread `waiting` event is replaced by the next one of the same step, and the oldest notes and
    /// checks are dropped when there are too many. So the queue of a stalled reader grows only with the number of steps.
    /// Steps, `ready` and `failed` are never lost.
    pub fn channel() -> (Self, Feed) {
        let queue = Arc::new(Queue::default());
        (Self { sender: Some(Arc::new(Sender(queue.clone()))), under_way: Arc::default() }, Feed::of(queue))
    }

    /// Returns a handle that drops every event.
    pub fn silent() -> Self {
        Self { sender: None, under_way: Arc::default() }
    }

    /// Sends an event.
    pub fn send(&self, event: Event) {
        self.keep(&event);
        if let Some(sender) = &self.sender {
            sender.0.push(event);
        }
    }

    /// Ends the channel: the reader ends after the events sent so far, and events that any clone sends later are dropped.
    pub fn end(&self) {
        if let Some(sender) = &self.sender {
            sender.0.end();
        }
    }

    /// Records which steps are running, for the error of a timeout.
    fn keep(&self, event: &Event) {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let key = |step: &String, cluster: &Option<String>| (cluster.clone().unwrap_or_default(), step.clone());
        match event {
            Event::StepStarted { step, cluster } => under_way.insert(key(step, cluster), String::new()),
            Event::Waiting { step, cluster, r#for, last } => {
                under_way.insert(key(step, cluster), format!("(waiting for {}: {last})", r#for))
            }
            Event::StepFinished { step, cluster, .. } => under_way.remove(&key(step, cluster)),
            _ => None,
        };
    }

    /// Returns the steps that are still running, each with what it waits for: one line for each step.
    pub fn under_way(&self) -> Vec<String> {
        let under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let line = |((cluster, step), last): (&(String, String), &String)| {
            format!("still running: {cluster} {step} {last}").split_whitespace().collect::<Vec<_>>().join(" ")
        };
        under_way.iter().map(line).collect()
    }

    /// Sends a note.
    pub fn note(&self, message: impl Into<String>) {
        self.send(Event::Note { message: message.into() });
    }

    /// Starts a step; `cluster` is `None` for a step of the whole environment.
    pub fn step(&self, step: &'static str, cluster: Option<&str>) -> Step {
        let step =
            Step { events: self.clone(), step, cluster: cluster.map(str::to_owned), started: Instant::now() };
        step.events.send(Event::StepStarted { step: step.step.into(), cluster: step.cluster.clone() });
        step
    }
}

/// A running step.
#[derive(Debug, Clone)]
pub struct Step {
    events: Events,
    step: &'static str,
    cluster: Option<String>,
    started: Instant,
}

impl Step {
    /// Reports what the step waits for and the last status.
    pub fn waiting(&self, what: &str, last: &str) {
        self.events.send(Event::Waiting {
            step: self.step.into(),
            cluster: self.cluster.clone(),
            r#for: what.into(),
            last: last.into(),
        });
    }

    /// Sends a note.
    pub fn note(&self, message: impl Into<String>) {
        self.events.note(message);
    }

    /// Runs the step's work and reports the outcome. Adds the step to an error as context.
    pub async fn run<T>(self, work: impl AsyncFnOnce(&Step) -> anyhow::Result<Outcome<T>>) -> anyhow::Result<T> {
        match work(&self).await {
            Ok(outcome) => {
                self.events.send(Event::StepFinished {
                    step: self.step.into(),
                    cluster: self.cluster.clone(),
                    seconds: round(self.started.elapsed()),
                    changed: outcome.changed,
                });
                Ok(outcome.value)
            }
            Err(error) => Err(error.context(Failed { step: self.step, cluster: self.cluster })),
        }
    }
}

/// The result of a step, and whether the step changed anything.
#[derive(Debug, Clone)]
pub struct Outcome<T = ()> {
    /// The value for the next steps.
    pub value: T,
    /// Whether the step changed anything.
    pub changed: bool,
}

impl<T> Outcome<T> {
    /// Returns the outcome of a step that created or changed something.
    pub fn changed(value: T) -> Self {
        Self { value, changed: true }
    }

    /// Returns the outcome of a step that had nothing to do.
    pub fn unchanged(value: T) -> Self {
        Self { value, changed: false }
    }
}

/// The step that failed, as context of an error.
#[derive(Debug, Clone)]
pub struct Failed {
    /// The id of the step.
    pub step: &'static str,
    /// The cluster of the step.
    pub cluster: Option<String>,
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.cluster {
            Some(cluster) => write!(f, "step {} of {cluster} failed", self.step),
            None => write!(f, "step {} failed", self.step),
        }
    }
}

/// Returns seconds rounded to three decimals, as durations are written in JSON.
pub fn round(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn running_steps_are_known_until_they_end() {
        let events = Events::silent();
        let step = events.step("istiod", Some("a"));
        step.waiting("readiness", "0 of 1");
        assert_eq!(events.under_way(), ["still running: a istiod (waiting for readiness: 0 of 1)"]);
        step.run(async |_| Ok(Outcome::unchanged(()))).await.unwrap();
        assert!(events.under_way().is_empty());
    }
}
