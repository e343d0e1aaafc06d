//! Results of `verify`: a verdict on each claim, with evidence.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Status {
    /// The claim holds: it was tested, and the evidence shows it.
    Passed,
    /// The claim does not hold.
    Failed,
    /// The claim could not be tested, for the reason given as evidence. Never counts as passed.
    Skipped,
}

impl Status {
    /// Returns the status as written in JSON: `passed`, `failed` or `skipped`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// The verdict on one claim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// The stable id of the check, such as `mtls.strict`.
    pub id: String,
    /// What the check proves, in one sentence.
    pub claim: String,
    /// The result.
    pub status: Status,
    /// How long the check took.
    pub seconds: f64,
    /// What was sent, what was received, what the proxies reported, and commands that show the same: one line for each
    /// item. The last item of a failed check says why it failed; of a skipped check, why it was skipped.
    pub evidence: Vec<String>,
    /// The fix for a failure.
    pub hint: Option<String>,
}

/// The verdicts on all claims that were tested: what `verify --output json` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdicts {
    /// The version of this document's schema.
    pub schema_version: u8,
    /// The environment's name.
    pub environment: String,
    /// The verdicts, in the order in which the checks are listed.
    pub checks: Vec<Verdict>,
    /// The number of checks that passed.
    pub passed: usize,
    /// The number of checks that failed.
    pub failed: usize,
    /// The number of checks that were skipped.
    pub skipped: usize,
}

impl Verdicts {
    /// Counts the verdicts by status.
    pub fn new(environment: &str, checks: Vec<Verdict>) -> Self {
        let count = |status| checks.iter().filter(|verdict| verdict.status == status).count();
        Self {
            schema_version: 1,
            environment: environment.to_owned(),
            passed: count(Status::Passed),
            failed: count(Status::Failed),
            skipped: count(Status::Skipped),
            checks,
        }
    }
}

/// What was verified and when, for reports that are read later and elsewhere.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    /// The time at which the verification started.
    pub started: Timestamp,
    /// The duration of the whole run, including setup and cleanup.
    pub seconds: f64,
    /// Istio's version.
    pub istio: String,
    /// The node image.
    pub node_image: String,
    /// The clusters.
    pub clusters: Vec<SubjectCluster>,
}

/// One cluster of the verified environment.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SubjectCluster {
    /// Its name in the mesh.
    pub name: String,
    /// Its region.
    pub region: String,
    /// Its zone.
    pub zone: String,
    /// The number of nodes.
    pub nodes: usize,
    /// Whether the sample caller runs in it.
    pub caller: bool,
    /// Whether the sample producer runs in it.
    pub producer: bool,
}
