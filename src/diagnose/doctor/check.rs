//! A check: a name, and a pure function from facts to findings.

use std::fmt;

use serde::Serialize;

use super::facts::Facts;
use super::fix::Fix;

/// Whether `up` can work despite a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// `up` cannot work.
    Blocks,
    /// `up` may fail, be slow, or create something that misbehaves.
    Warns,
}

/// A check.
pub struct Check {
    /// Its ID, and that of its findings: stable.
    pub id: &'static str,
    /// What it finds, for the documentation.
    #[cfg_attr(not(test), expect(dead_code, reason = "a test generates docs/doctor.md from it"))]
    pub finds: &'static str,
    /// How tests make it find that, for the documentation.
    #[cfg_attr(not(test), expect(dead_code, reason = "a test generates docs/doctor.md from it"))]
    pub tested: &'static str,
    pub(super) judge: fn(&Facts) -> Vec<Judgement>,
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Check({})", self.id)
    }
}

/// What a check reports if there is a problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// A problem.
    Found {
        /// Whether `up` can work despite it.
        severity: Severity,
        /// What is wrong.
        what: String,
        /// The evidence.
        evidence: String,
        /// The consequence.
        consequence: String,
        /// The fix.
        cure: String,
        /// The fix as one command, if it is one that is safe to run.
        fix: Option<Fix>,
    },
    /// What could not be checked, and why.
    Unknown(String),
}

impl Judgement {
    pub(super) fn found(
        severity: Severity,
        what: impl Into<String>,
        evidence: impl Into<String>,
        consequence: impl Into<String>,
        cure: impl Into<String>,
    ) -> Vec<Self> {
        vec![Self::Found {
            severity,
            what: what.into(),
            evidence: evidence.into(),
            consequence: consequence.into(),
            cure: cure.into(),
            fix: None,
        }]
    }

    /// Adds the command that fixes these problems.
    pub(super) fn fixed_by(mut judgements: Vec<Self>, command: Fix) -> Vec<Self> {
        for judgement in &mut judgements {
            if let Self::Found { fix, .. } = judgement {
                *fix = Some(command.clone());
            }
        }
        judgements
    }

    pub(super) fn unknown(why: impl Into<String>) -> Vec<Self> {
        vec![Self::Unknown(why.into())]
    }
}

/// Nothing to report.
pub(super) fn good() -> Vec<Judgement> {
    Vec::new()
}

/// Formats bytes in decimal gigabytes.
pub(super) fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}
