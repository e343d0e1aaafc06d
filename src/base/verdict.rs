//! What verifying found: a verdict on each claim, with the evidence for it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Status {
    /// The claim holds: it was tried, and the evidence shows it.
    Passed,
    /// The claim does not hold.
    Failed,
    /// It could not be decided, for the reason given as evidence. Never counts as passed.
    Skipped,
}

impl Status {
    /// The status as JSON has it: `passed`, `failed` or `skipped`.
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
    /// The check's name, stable: `mtls.strict`.
    pub id: String,
    /// What was to be shown, one sentence.
    pub claim: String,
    /// How it ended.
    pub status: Status,
    /// How long the check took.
    pub seconds: f64,
    /// What was sent, what came back, what the proxies said, and the commands that show the same: one item a
    /// line. Of a failed check the last item is why it failed; of a skipped one, why it was skipped.
    pub evidence: Vec<String>,
    /// What to do about a failure.
    pub hint: Option<String>,
}

/// The verdicts on all claims that were tried: what `verify --output json` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdicts {
    /// The shape of this document.
    pub schema_version: u8,
    /// The environment's name.
    pub environment: String,
    /// In the order in which the checks are listed.
    pub checks: Vec<Verdict>,
    /// How many passed.
    pub passed: usize,
    /// How many failed.
    pub failed: usize,
    /// How many were skipped.
    pub skipped: usize,
}

impl Verdicts {
    /// Counts.
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

/// What was verified, and when: for reports that are read later and elsewhere.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    /// When the verification began.
    pub started: Timestamp,
    /// How long the whole took, setting up and removing included.
    pub seconds: f64,
    /// Istio's version.
    pub istio: String,
    /// The nodes' image.
    pub node_image: String,
    /// The clusters.
    pub clusters: Vec<SubjectCluster>,
}

/// One cluster of what was verified.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SubjectCluster {
    /// Its name in the mesh.
    pub name: String,
    /// Its region.
    pub region: String,
    /// Its zone.
    pub zone: String,
    /// How many nodes it has.
    pub nodes: usize,
    /// Whether the sample caller runs in it.
    pub caller: bool,
    /// Whether the sample producer runs in it.
    pub producer: bool,
}
