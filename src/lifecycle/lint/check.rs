//! Checks manifests by all rules.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::Serialize;

use super::mesh::Mesh;
use super::rule::{Finding, Rule, Severity};
use super::{breaker, network, port_name};

mod failover;
mod host;
mod policy;
mod port;
mod protocol;
pub(super) mod read;
mod routes;
mod subset;
mod timeout;

pub use read::Placement;

/// All rules, in the order of their ids.
pub static RULES: [&Rule; 10] = [
    &breaker::RULE,
    &failover::RULE,
    &host::RULE,
    &protocol::RULE,
    &network::RULE,
    &policy::RULE,
    &port_name::RULE,
    &subset::RULE,
    &timeout::RULE,
    &port::RULE,
];

const JUDGES: [fn(Mesh) -> Vec<Finding>; 10] = [
    breaker::find,
    failover::find,
    host::find,
    protocol::find,
    network::find,
    policy::find,
    port_name::find,
    subset::find,
    timeout::find,
    port::find,
];

/// A mistake in a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mistake {
    /// The id of the rule that found it.
    pub rule: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// The file, as it was given.
    pub file: String,
    /// The line, from 1; none if it is not known.
    pub line: Option<usize>,
    /// The column, from 1, in characters.
    pub column: Option<usize>,
    /// The object.
    pub object: Object,
    /// What is wrong.
    pub what: String,
    /// Why that is a mistake.
    pub why: &'static str,
    /// What to change.
    pub fix: String,
}

/// An object of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Object {
    /// Its kind.
    pub kind: String,
    /// Its namespace; empty if it has none.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    schema_version: u32,
    /// The mistakes, by file and line.
    pub findings: Vec<Mistake>,
    /// The number of files that were checked.
    pub files: usize,
    /// The number of objects in them.
    pub objects: usize,
    /// What was left out, and why.
    pub notes: Vec<String>,
}

impl Report {
    /// Returns the number of findings of a severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    /// Whether any finding is more than a note.
    pub fn fails(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity != Severity::Note)
    }
}

/// Checks directories and files of manifests. Several of them are for one cluster each.
///
/// # Errors
/// A usage error for what cannot be read or is no YAML, and if there are no manifests at all.
pub async fn lint(paths: &[PathBuf], placement: &Placement) -> anyhow::Result<Report> {
    let read = read::read(paths, placement).await?;
    let mesh = Mesh(&read.sources);
    let mut findings: Vec<Mistake> =
        JUDGES.iter().flat_map(|judge| judge(mesh)).map(|finding| located(&read, finding)).collect();
    findings.sort_by(|one, other| {
        let order = |mistake: &Mistake| (mistake.file.clone(), mistake.line, mistake.column, mistake.rule);
        order(one).cmp(&order(other))
    });
    Ok(Report {
        schema_version: 1,
        findings,
        files: read.positions.iter().map(|position| &position.file).collect::<BTreeSet<_>>().len(),
        objects: read.sources.len(),
        notes: read.notes,
    })
}

fn located(read: &read::Read, finding: Finding) -> Mistake {
    let source = &read.sources[finding.source];
    let position = &read.positions[finding.source];
    let place = position.of(&finding.path);
    Mistake {
        rule: finding.rule.id,
        severity: finding.severity,
        file: position.file.clone(),
        line: place.map(|place| place.line),
        column: place.map(|place| place.column),
        object: Object { kind: source.kind().to_owned(), namespace: source.namespace(), name: source.name() },
        what: finding.what,
        why: finding.rule.reason,
        fix: finding.fix,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn rules_are_sorted_and_have_texts() {
        let ids: Vec<_> = RULES.iter().map(|rule| rule.id).collect();
        let mut sorted = ids.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(ids, sorted);
        for rule in RULES {
            assert!(!rule.summary.ends_with('.') && rule.reason.ends_with('.'), "{}", rule.id);
        }
    }

    #[test]
    fn reference_lists_every_rule() {
        let reference = include_str!("../../../docs/reference.md");
        for rule in RULES {
            assert!(reference.contains(&format!("| `{}` |", rule.id)), "docs/reference.md lacks {}", rule.id);
        }
    }

    #[tokio::test]
    async fn manifests_of_this_repository_are_clean() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let placement = Placement { namespace: "default".into(), ..Placement::default() };
        for folder in ["mesh-manifests", "examples/shop"] {
            let report = lint(&[root.join(folder)], &placement).await.unwrap();
            assert_eq!(report.findings, [], "{folder}");
            assert!(report.objects > 3, "{folder}");
        }
    }

    #[tokio::test]
    async fn pods_of_several_directories_are_counted_together() {
        let folder = tempfile::tempdir().unwrap();
        let breaker = testing::rule("trafficPolicy: {outlierDetection: {maxEjectionPercent: 25}}");
        let paths: Vec<PathBuf> = ["east", "west"].iter().map(|name| folder.path().join(name)).collect();
        for path in &paths {
            std::fs::create_dir(path).unwrap();
            std::fs::write(path.join("orders.yaml"), testing::ORDERS).unwrap();
        }
        std::fs::write(paths[0].join("breaker.yaml"), breaker).unwrap();
        // 25 % of two is nobody, of four it is one.
        let rules = async |paths: &[PathBuf]| {
            let placement = Placement { namespace: "default".into(), ..Placement::default() };
            let report = lint(paths, &placement).await.unwrap();
            report.findings.iter().map(|finding| finding.rule).collect::<Vec<_>>()
        };
        assert_eq!(rules(&paths[..1]).await, ["breaker-cannot-open"]);
        assert_eq!(rules(&paths).await, [] as [&str; 0]);
    }
}
