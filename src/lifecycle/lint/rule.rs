//! What a rule is, and what it finds.

use serde::Serialize;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    /// Calls fail, or what is written has no effect.
    Error,
    /// The mesh does something else than what is written.
    Warning,
    /// It depends on what the manifests do not show. It does not change the exit status.
    Note,
}

/// A rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its id, which does not change.
    pub id: &'static str,
    /// What it finds: a phrase without a period.
    pub summary: &'static str,
    /// Why that is a mistake: one or two sentences.
    pub reason: &'static str,
    /// The usual severity of its findings.
    pub severity: Severity,
}

/// What a rule found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The rule.
    pub rule: &'static Rule,
    /// How bad it is.
    pub severity: Severity,
    /// The number of the object.
    pub source: usize,
    /// The path of the field in the object: `spec.http[0].timeout`.
    pub path: String,
    /// What is wrong: a sentence without a period.
    pub what: String,
    /// What to change.
    pub fix: String,
}

impl Rule {
    /// Returns a finding of the rule's severity in a field of an object.
    pub(super) fn found(
        &'static self,
        source: usize,
        path: impl Into<String>,
        what: impl Into<String>,
        fix: impl Into<String>,
    ) -> Finding {
        Finding {
            rule: self,
            severity: self.severity,
            source,
            path: path.into(),
            what: what.into(),
            fix: fix.into(),
        }
    }
}

impl Finding {
    /// Sets another severity than the rule's.
    #[must_use]
    pub(super) fn with(self, severity: Severity) -> Self {
        Self { severity, ..self }
    }
}
