//! The only channel from the work to the screen: what happens is said as data, and a sink shows it.

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

/// What happened while bringing an environment up or down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Event {
    /// A step began.
    StepStarted {
        /// The step's name, stable: part of the JSON interface.
        step: String,
        /// The cluster it is for; none for the whole environment.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cluster: Option<String>,
    },
    /// A step ended well.
    StepFinished {
        /// The step's name.
        step: String,
        /// The cluster it is for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cluster: Option<String>,
        /// How long it took.
        seconds: f64,
        /// Whether it had to change anything.
        changed: bool,
    },
    /// A step waits for a condition.
    Waiting {
        /// The step's name.
        step: String,
        /// The cluster it is for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cluster: Option<String>,
        /// What is waited for.
        r#for: String,
        /// What was seen last.
        last: String,
    },
    /// A check began.
    CheckStarted {
        /// The check's name.
        id: String,
    },
    /// A check ended.
    CheckFinished {
        /// The verdict.
        #[serde(flatten)]
        verdict: Verdict,
    },
    /// Something worth knowing that is not a failure.
    Note {
        /// One sentence.
        message: String,
    },
    /// What the command asked of others until now: see [`Counts`].
    Counted {
        /// Requests to API servers.
        kube_requests: u64,
        /// Requests to the container engine.
        engine_requests: u64,
        /// Child processes.
        processes: u64,
        /// Bytes of images read from the engine.
        exported_bytes: u64,
    },
    /// The environment works: a call has crossed.
    Ready {
        /// Since the command began.
        seconds: f64,
        /// The environment's name.
        environment: String,
        /// The path of its kubeconfig file.
        kubeconfig: String,
    },
    /// The command failed.
    Failed {
        /// The step that failed, empty before the first.
        step: String,
        /// The cluster it was for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cluster: Option<String>,
        /// What failed and why.
        error: String,
        /// What was seen.
        evidence: Vec<String>,
        /// What to do next.
        hint: Option<String>,
        /// The cause's name, where it is one that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<String>,
    },
}

impl Event {
    /// The event of some counts.
    pub fn counted(counts: Counts) -> Self {
        let Counts { kube_requests, engine_requests, processes, exported_bytes } = counts;
        Self::Counted { kube_requests, engine_requests, processes, exported_bytes }
    }

    /// The event as one line of JSON, with the time at which it happened.
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

    /// Is called several times a second, for what changes with time alone.
    fn tick(&mut self, _time: Timestamp) {}

    /// Leaves the terminal clean; is called once, after the last event.
    fn finish(&mut self);
}

/// Where work says what happens. Cheap to clone; without a receiver, events are dropped.
#[derive(Debug, Clone)]
pub struct Events {
    sender: Option<Arc<Sender>>,
    under_way: Arc<Mutex<BTreeMap<(String, String), String>>>,
}

impl Events {
    /// A channel: the work's end, and the end that a sink reads until [`end`](Self::end), or until all work has
    /// dropped its own.
    ///
    /// Sending never waits. A `waiting` that was not read yet gives way to the next one of its step, and the oldest notes and
    /// checks give way where there are too many, so what a reader that stalls leaves unread grows with the number of
    /// steps alone. Steps, `ready` and `failed` are never lost.
    pub fn channel() -> (Self, Feed) {
        let queue = Arc::new(Queue::default());
        (Self { sender: Some(Arc::new(Sender(queue.clone()))), under_way: Arc::default() }, Feed::of(queue))
    }

    /// Drops every event.
    pub fn silent() -> Self {
        Self { sender: None, under_way: Arc::default() }
    }

    /// Says that something happened.
    pub fn send(&self, event: Event) {
        self.keep(&event);
        if let Some(sender) = &self.sender {
            sender.0.push(event);
        }
    }

    /// Says that nothing happens any more: the reader ends after what was sent until now, and what any clone sends later is
    /// dropped.
    pub fn end(&self) {
        if let Some(sender) = &self.sender {
            sender.0.end();
        }
    }

    /// Keeps what is under way, for the message when time runs out.
    fn keep(&self, event: &Event) {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let key = |step: &String, cluster: &Option<String>| (cluster.clone().unwrap_or_default(), step.clone());
        match event {
            Event::StepStarted { step, cluster } => under_way.insert(key(step, cluster), String::new()),
            Event::Waiting { step, cluster, r#for, last } => {
                under_way.insert(key(step, cluster), format!("waits for {}: {last}", r#for))
            }
            Event::StepFinished { step, cluster, .. } => under_way.remove(&key(step, cluster)),
            _ => None,
        };
    }

    /// The steps that have begun and not ended, each with what it waits for: one line a step.
    pub fn under_way(&self) -> Vec<String> {
        let under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let line = |((cluster, step), last): (&(String, String), &String)| {
            format!("still under way: {cluster} {step} {last}").split_whitespace().collect::<Vec<_>>().join(" ")
        };
        under_way.iter().map(line).collect()
    }

    /// Says something worth knowing.
    pub fn note(&self, message: impl Into<String>) {
        self.send(Event::Note { message: message.into() });
    }

    /// Begins a step; `cluster` is none for a step of the whole environment.
    pub fn step(&self, step: &'static str, cluster: Option<&str>) -> Step {
        let step =
            Step { events: self.clone(), step, cluster: cluster.map(str::to_owned), started: Instant::now() };
        step.events.send(Event::StepStarted { step: step.step.into(), cluster: step.cluster.clone() });
        step
    }
}

/// A step under way.
#[derive(Debug, Clone)]
pub struct Step {
    events: Events,
    step: &'static str,
    cluster: Option<String>,
    started: Instant,
}

impl Step {
    /// Says what the step waits for and what it saw last.
    pub fn waiting(&self, what: &str, last: &str) {
        self.events.send(Event::Waiting {
            step: self.step.into(),
            cluster: self.cluster.clone(),
            r#for: what.into(),
            last: last.into(),
        });
    }

    /// Says something worth knowing.
    pub fn note(&self, message: impl Into<String>) {
        self.events.note(message);
    }

    /// Runs the step's work; `Ok(true)` means that something was changed. An error is marked with the step.
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

/// What a step made or found, and whether it had to change anything.
#[derive(Debug, Clone)]
pub struct Outcome<T = ()> {
    /// What the next step needs of it.
    pub value: T,
    /// Whether anything was changed.
    pub changed: bool,
}

impl<T> Outcome<T> {
    /// Something was made or changed.
    pub fn changed(value: T) -> Self {
        Self { value, changed: true }
    }

    /// All was as wanted.
    pub fn unchanged(value: T) -> Self {
        Self { value, changed: false }
    }
}

/// The step in which an error arose, as a context of the error.
#[derive(Debug, Clone)]
pub struct Failed {
    /// The step's name.
    pub step: &'static str,
    /// The cluster it was for.
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

/// Seconds with three decimals, as the JSON interface gives durations.
pub fn round(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_under_way_is_known_until_it_ends() {
        let events = Events::silent();
        let step = events.step("istiod", Some("a"));
        step.waiting("readiness", "0 of 1");
        assert_eq!(events.under_way(), ["still under way: a istiod waits for readiness: 0 of 1"]);
        step.run(async |_| Ok(Outcome::unchanged(()))).await.unwrap();
        assert!(events.under_way().is_empty());
    }
}
