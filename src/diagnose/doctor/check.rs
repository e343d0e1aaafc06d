//! What a check is: a name, and a pure function from facts to what they mean.

use std::fmt;

use serde::Serialize;

use super::facts::Facts;

/// Whether `up` can work all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// `up` cannot work.
    Blocks,
    /// `up` may fail, be slow, or leave something that misbehaves.
    Warns,
}

/// One thing that is looked at.
pub struct Check {
    /// Its name, and that of its findings: stable.
    pub id: &'static str,
    /// What it finds, for the documentation.
    #[cfg_attr(not(test), expect(dead_code, reason = "a test makes docs/doctor.md from it"))]
    pub finds: &'static str,
    /// How it was made true in tests, for the documentation.
    #[cfg_attr(not(test), expect(dead_code, reason = "a test makes docs/doctor.md from it"))]
    pub tested: &'static str,
    pub(super) judge: fn(&Facts) -> Vec<Judgement>,
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Check({})", self.id)
    }
}

/// What a check says when not all is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// Something is not as it should be.
    Found {
        /// Whether `up` can work all the same.
        severity: Severity,
        /// What is wrong.
        what: String,
        /// What was seen.
        evidence: String,
        /// What comes of it.
        consequence: String,
        /// What to do.
        cure: String,
    },
    /// What could not be looked at, and why.
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
        }]
    }

    pub(super) fn unknown(why: impl Into<String>) -> Vec<Self> {
        vec![Self::Unknown(why.into())]
    }
}

/// Nothing to say.
pub(super) fn good() -> Vec<Judgement> {
    Vec::new()
}

/// Bytes in gigabytes, as machines are bought.
pub(super) fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}
