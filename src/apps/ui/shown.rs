//! The displayed state, as in `/api/state`.

use serde::Serialize;

use super::log::{Counts, Entry};
use super::traffic::Traffic;
use crate::apps::labs::{Checked, Listed as ListedExercise, Progress};
use crate::base::error;
use crate::cluster::policies::Listed;
use crate::diagnose::status::{Layer, Phase};
use crate::diagnose::verify::Verdict;
use crate::plan::inventory::Node;

/// The whole state.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The version of this format.
    pub schema_version: u8,
    /// The environment's name.
    pub environment: String,
    /// The caller's cluster.
    pub from: String,
    /// What exists; none before the first refresh.
    pub topology: Option<Topology>,
    /// Why the last refresh failed, if it did.
    pub topology_error: Option<String>,
    /// The statistics of the caller's proxy; none before the first request.
    pub traffic: Option<Traffic>,
    /// Why the last request failed, if it did.
    pub traffic_error: Option<String>,
    /// The calls sent by the dashboard.
    pub calls: Calls,
    /// The last verification by the dashboard.
    pub verify: Verification,
    /// The exercises.
    pub lab: Lab,
}

/// What exists.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Topology {
    /// The environment's state.
    pub phase: Phase,
    /// The clusters.
    pub clusters: Vec<Cluster>,
    /// Every policy, and the clusters where it is applied; empty while a cluster does not respond.
    pub policies: Vec<Listed>,
    /// The active faults, each with the time of its end.
    pub faults: Vec<String>,
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
    /// Its Istio network, if the clusters are on several.
    pub network: Option<String>,
    /// Whether a caller runs there.
    pub caller: bool,
    /// Whether producers run there.
    pub producer: bool,
    /// Its nodes.
    pub nodes: Vec<Node>,
    /// Its layers, from the bottom up.
    pub layers: Vec<Layer>,
    /// The Services in the samples' namespace; none while its API server does not respond.
    pub services: Option<Vec<Service>>,
    /// Whether its nodes' link is disabled; none while they do not respond.
    pub link_cut: Option<bool>,
}

/// A Service.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// Its name.
    pub name: String,
    /// The number of its ready pods in this cluster.
    pub pods: usize,
}

/// The calls sent by the dashboard.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Calls {
    /// The counters.
    pub counts: Counts,
    /// The steady calls; none if there are none.
    pub steady: Option<Steady>,
    /// The last call that a producer answered.
    pub last_answered: Option<Entry>,
}

/// Calls at a steady rate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Steady {
    /// The rate per second: 1 to 50.
    pub rate: u32,
    /// The producer's delay, in milliseconds.
    #[serde(default)]
    pub delay: u64,
    /// The producer's status.
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
    /// Whether it is running.
    pub running: bool,
    /// The running checks.
    pub trying: Vec<String>,
    /// The verdicts so far, or those of the last one.
    pub checks: Vec<Verdict>,
    /// The number of checks.
    pub of: usize,
    /// Why it failed, if not because of a check.
    pub failure: Option<Failure>,
}

/// The exercises.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Lab {
    /// All of them.
    pub exercises: Vec<ListedExercise>,
    /// The progress.
    pub progress: Progress,
    /// The instructions of the current exercise.
    pub page: Option<&'static str>,
    /// Its hints so far.
    pub hints: Vec<String>,
    /// The number of its hints.
    pub hints_of: usize,
    /// The running action: `start`, `check`, `solve` or `reset`.
    pub running: Option<String>,
    /// The result of the last check of the current exercise.
    pub checked: Option<Checked>,
    /// Why the last action failed.
    pub failure: Option<Failure>,
}

/// An error, as on the command line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// What failed and why.
    pub error: String,
    /// The evidence.
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
