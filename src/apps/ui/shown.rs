//! What the page shows, as `/api/state` gives it.

use serde::Serialize;

use super::log::{Counts, Entry};
use super::traffic::Traffic;
use crate::apps::labs::{Checked, Listed as ListedExercise, Progress};
use crate::base::error;
use crate::cluster::policies::Listed;
use crate::diagnose::status::{Layer, Phase};
use crate::diagnose::verify::Verdict;
use crate::plan::inventory::Node;

/// All of it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The shape of this document.
    pub schema_version: u8,
    /// The environment's name.
    pub environment: String,
    /// The cluster whose caller calls.
    pub from: String,
    /// What exists; none before the first look.
    pub topology: Option<Topology>,
    /// Why the last look failed, if it did.
    pub topology_error: Option<String>,
    /// What the caller's proxy counts; none before the first look.
    pub traffic: Option<Traffic>,
    /// Why the last look failed, if it did.
    pub traffic_error: Option<String>,
    /// The calls that were sent from here.
    pub calls: Calls,
    /// The last verification from here.
    pub verify: Verification,
    /// The exercises.
    pub lab: Lab,
}

/// What exists.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Topology {
    /// The environment's state in one word.
    pub phase: Phase,
    /// The clusters.
    pub clusters: Vec<Cluster>,
    /// Every policy, and the clusters it is applied in; empty while a cluster does not answer.
    pub policies: Vec<Listed>,
}

/// A cluster.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Its region.
    pub region: String,
    /// Its zone.
    pub zone: String,
    /// Whether a caller runs there.
    pub caller: bool,
    /// Whether producers do.
    pub producer: bool,
    /// Its nodes.
    pub nodes: Vec<Node>,
    /// Its layers, from the bottom up.
    pub layers: Vec<Layer>,
    /// The Services in the samples' namespace; none while its API server does not answer.
    pub services: Option<Vec<Service>>,
    /// Whether the link of its nodes is cut on purpose; none while they do not answer.
    pub link_cut: Option<bool>,
}

/// A Service.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// Its name.
    pub name: String,
    /// How many ready pods of this cluster are behind it.
    pub pods: usize,
}

/// The calls that were sent from here.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Calls {
    /// How many.
    pub counts: Counts,
    /// What is sent steadily; none when nothing is.
    pub steady: Option<Steady>,
    /// The last one that a producer answered.
    pub last_answered: Option<Entry>,
}

/// Calls that are sent steadily.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Steady {
    /// How many a second: 1 to 50.
    pub rate: u32,
    /// How long the producer waits, in milliseconds.
    #[serde(default)]
    pub delay: u64,
    /// The status it answers with.
    #[serde(default = "success")]
    pub status: u16,
}

pub(super) fn success() -> u16 {
    200
}

/// A verification.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// Whether one is under way.
    pub running: bool,
    /// The checks that have begun and not ended.
    pub trying: Vec<String>,
    /// The verdicts so far, or of the last one.
    pub checks: Vec<Verdict>,
    /// How many checks there are.
    pub of: usize,
    /// Why it failed, where it was not for a check.
    pub failure: Option<Failure>,
}

/// The exercises.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Lab {
    /// All of them.
    pub exercises: Vec<ListedExercise>,
    /// How far somebody is.
    pub progress: Progress,
    /// The page of the one that was begun.
    pub page: Option<&'static str>,
    /// Its hints so far.
    pub hints: Vec<String>,
    /// How many it has.
    pub hints_of: usize,
    /// What is under way: `start`, `check`, `solve` or `reset`.
    pub running: Option<String>,
    /// What the last check found, of the exercise that was begun.
    pub checked: Option<Checked>,
    /// Why what was asked last failed.
    pub failure: Option<Failure>,
}

/// A failure, as the command line would tell it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// What failed and why.
    pub error: String,
    /// What was seen.
    pub evidence: Vec<String>,
    /// What to do next.
    pub hint: Option<String>,
}

impl From<&anyhow::Error> for Failure {
    fn from(failed: &anyhow::Error) -> Self {
        let found = error::find(failed);
        Self {
            error: format!("{failed:#}"),
            evidence: found.map(|error| error.evidence.clone()).unwrap_or_default(),
            hint: found.and_then(|error| error.hint.clone()),
        }
    }
}
