//! How a run of `up` spent its time: its steps as bars over time, and the critical path. Pure: computed from a
//! recorded run.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::base::event::{Event, round};
use crate::host::record::Recorded;

mod order;

/// A run over time, as in the JSON interface. Times are seconds since the start of the run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeline {
    /// The version of this format.
    pub schema_version: u8,
    /// The command.
    pub command: String,
    /// When it began.
    pub started: Timestamp,
    /// Its duration, up to the last event.
    pub seconds: f64,
    /// How it ended.
    pub outcome: Outcome,
    /// Its steps, in the order in which they began.
    pub steps: Vec<Bar>,
    /// The critical path, from the first step to the last: each segment ends where the next begins. These steps
    /// must become faster for the run to become faster.
    pub critical: Vec<Piece>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// The environment is ready.
    Ready,
    /// A step failed.
    Failed,
    /// It was interrupted, is still running, or its command has no final event.
    Unknown,
}

/// A step.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bar {
    /// The step's ID.
    pub step: String,
    /// The step's cluster; none for the whole environment.
    pub cluster: Option<String>,
    /// When it began.
    pub start: f64,
    /// When it ended; the end of the run if it did not.
    pub end: f64,
    /// Whether it succeeded.
    pub ended: bool,
    /// Whether it changed anything.
    pub changed: bool,
    /// What it waited for, in order, without repetitions.
    pub waits: Vec<String>,
}

/// A segment of the critical path.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Piece {
    /// The step; none if no known step was running.
    pub step: Option<String>,
    /// The step's cluster.
    pub cluster: Option<String>,
    /// When the run began to wait for this step.
    pub start: f64,
    /// When the next segment began.
    pub end: f64,
}

impl Timeline {
    /// Returns a recorded run over time; none for a run without events.
    pub fn of(command: &str, run: &[Recorded]) -> Option<Self> {
        let (started, last) = (run.first()?.time, run.last()?.time);
        let at = |time: Timestamp| round(time.duration_since(started).unsigned_abs());
        let seconds = at(last);
        let mut outcome = Outcome::Unknown;
        let mut steps: Vec<Bar> = Vec::new();
        let mut open: BTreeMap<(String, Option<String>), usize> = BTreeMap::new();
        for Recorded { time, event } in run {
            match event {
                Event::StepStarted { step, cluster } => {
                    open.insert((step.clone(), cluster.clone()), steps.len());
                    steps.push(Bar {
                        step: step.clone(),
                        cluster: cluster.clone(),
                        start: at(*time),
                        end: seconds,
                        ended: false,
                        changed: false,
                        waits: Vec::new(),
                    });
                }
                Event::Waiting { step, cluster, r#for, .. } => {
                    let bar = open.get(&(step.clone(), cluster.clone())).and_then(|index| steps.get_mut(*index));
                    if let Some(bar) = bar.filter(|bar| bar.waits.last() != Some(r#for)) {
                        bar.waits.push(r#for.clone());
                    }
                }
                Event::StepFinished { step, cluster, changed, .. } => {
                    let index = open.remove(&(step.clone(), cluster.clone()));
                    if let Some(bar) = index.and_then(|index| steps.get_mut(index)) {
                        (bar.end, bar.ended, bar.changed) = (at(*time), true, *changed);
                    }
                }
                Event::Ready { .. } => outcome = Outcome::Ready,
                Event::Failed { .. } => outcome = Outcome::Failed,
                _ => {}
            }
        }
        let critical = critical(&steps, seconds);
        Some(Self { schema_version: 1, command: command.to_owned(), started, seconds, outcome, steps, critical })
    }

    /// Whether a segment of the critical path belongs to this step.
    pub fn is_critical(&self, bar: &Bar) -> bool {
        self.critical.iter().any(|piece| piece.is_of(bar) && piece.end > piece.start)
    }
}

impl Piece {
    /// Whether it belongs to this step.
    pub fn is_of(&self, bar: &Bar) -> bool {
        self.step.as_ref() == Some(&bar.step)
            && self.cluster == bar.cluster
            && self.start >= bar.start
            && self.end <= bar.end
    }
}

/// Walks back from the end: a step could not end before its dependencies, so the walk continues with the
/// dependency that ended last.
fn critical(steps: &[Bar], seconds: f64) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut now = seconds;
    let mut current = steps.iter().max_by(|a, b| a.end.total_cmp(&b.end));
    let nobody = |start, end| Piece { step: None, cluster: None, start, end };
    while let Some(bar) = current {
        if bar.end < now {
            pieces.push(nobody(bar.end, now));
        }
        let end = bar.end.min(now);
        let needed = steps.iter().filter(|other| other.end <= end && order::needs(bar, other));
        let needed = needed.max_by(|a, b| a.end.total_cmp(&b.end));
        let start = needed.map_or(bar.start, |needed| needed.end.max(bar.start));
        pieces.push(Piece { step: Some(bar.step.clone()), cluster: bar.cluster.clone(), start, end });
        now = start;
        // Without known dependencies: the step that ended last before it, if any.
        let before = || steps.iter().filter(|other| other.end <= bar.start && other.start < bar.start);
        current = needed.or_else(|| before().max_by(|a, b| a.end.total_cmp(&b.end)));
    }
    if now > 0.0 && !pieces.is_empty() {
        pieces.push(nobody(0.0, now));
    }
    pieces.reverse();
    pieces.retain(|piece| piece.end > piece.start);
    pieces
}

#[cfg(test)]
pub(crate) mod tests;
