//! Predicts what would keep `up` from working, or make it misbehave, and says the command that cures it. Changes
//! nothing, and ends within two seconds whatever does not answer.
//!
//! [`gather`] looks at the engine, the host and the registries and writes down [`Facts`]; every [`Check`] is a pure
//! function of those. `up` begins with those checks that need no more than the engine's first answer: [`obstacles`].

use std::time::Duration;

use serde::Serialize;

use crate::host::docker::Engine;
use crate::host::state::{Files, Folders};
use crate::plan::admission::Obstacle;
use crate::spec::{Origins, Spec};

mod check;
mod clock;
mod engine;
pub mod facts;
mod firewall;
mod gather;
mod host;
mod images;
mod inotify;
mod leftovers;
mod network;
mod proxy;
mod resources;
mod state;
#[cfg(test)]
mod testing;
mod tools;

pub use check::{Check, Judgement, Severity};
use facts::{Facts, Wanted};
pub use gather::gather;

/// Every check, by what it looks at, in the order in which a person would look.
pub const TOPICS: [(&str, &[Check]); 9] = [
    ("the engine", engine::CHECKS),
    ("its memory, disk and kernel", resources::CHECKS),
    ("the firewall", firewall::CHECKS),
    ("addresses", network::CHECKS),
    ("proxies", proxy::CHECKS),
    ("images", images::CHECKS),
    ("the clock", clock::CHECKS),
    ("tools", tools::CHECKS),
    ("files and leftovers", leftovers::CHECKS),
];

/// How long looking may take unless one says otherwise.
pub const WITHIN: Duration = Duration::from_secs(2);

/// What was found, in the shape of the JSON interface.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The shape of this document.
    pub schema_version: u8,
    /// What was found; what keeps `up` from working first.
    pub findings: Vec<Finding>,
    /// What could not be looked at, and why; not what only a finding keeps from being looked at.
    pub unknown: Vec<String>,
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The check that found it: stable.
    pub id: &'static str,
    /// Whether `up` can work all the same.
    pub severity: Severity,
    /// What is wrong.
    pub what: String,
    /// What was seen.
    pub evidence: String,
    /// What comes of it.
    pub consequence: String,
    /// What to do, with the command to type.
    pub cure: String,
}

impl Report {
    /// Whether something was found that keeps `up` from working.
    pub fn blocks(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Blocks)
    }
}

/// Looks at everything and judges it, in the time that is given: [`WITHIN`] is enough for an engine and registries that
/// are well.
pub async fn doctor(spec: &Spec, origins: &Origins, folders: &Folders, within: Duration) -> Report {
    judge(&gather(spec, origins, folders, within).await)
}

/// What the facts mean.
pub fn judge(facts: &Facts) -> Report {
    let (mut findings, mut unknown) = (Vec::new(), facts.unseen.clone());
    for check in TOPICS.iter().flat_map(|(_, checks)| *checks) {
        for judgement in (check.judge)(facts) {
            match judgement {
                Judgement::Found { severity, what, evidence, consequence, cure } => {
                    findings.push(Finding { id: check.id, severity, what, evidence, consequence, cure });
                }
                Judgement::Unknown(why) => unknown.push(why),
            }
        }
    }
    findings.sort_by_key(|finding| finding.severity);
    Report { schema_version: 1, findings, unknown }
}

/// What `up` asks before it touches anything: what keeps it from working, as far as it can be told from the engine's first
/// answer and this machine's `/proc`, which takes no time.
pub fn obstacles(engine: &Engine, spec: &Spec, files: &Files) -> Vec<Obstacle> {
    let mut facts = Facts {
        wanted: Wanted::of(spec, files.exist()),
        engine: Some(engine.facts.clone()),
        host: host::look(host::PROC.as_ref()),
        state: state::look(&files.root),
        ..Facts::default()
    };
    facts.disk = gather::engine_disk(&facts);
    let blocks = judge(&facts).findings.into_iter().filter(|finding| finding.severity == Severity::Blocks);
    let obstacle = |found: Finding| Obstacle {
        what: found.what,
        consequence: found.consequence,
        evidence: found.evidence,
        cure: found.cure,
    };
    blocks.map(obstacle).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn checks() -> impl Iterator<Item = &'static Check> {
        TOPICS.iter().flat_map(|(_, checks)| *checks)
    }

    #[test]
    fn names_are_unique() {
        let ids: BTreeSet<_> = checks().map(|check| check.id).collect();
        assert_eq!(ids.len(), checks().count());
    }

    #[test]
    fn a_good_machine_has_no_findings_and_nothing_unknown() {
        let report = judge(&testing::good());
        assert_eq!(report.findings, []);
        assert_eq!(report.unknown, Vec::<String>::new());
    }

    #[test]
    fn what_blocks_comes_first() {
        let mut facts = testing::good();
        testing::engine(&mut facts).cpus = 1;
        facts.state.as_mut().unwrap().writable = false;
        let report = judge(&facts);
        let severities: Vec<_> = report.findings.iter().map(|finding| finding.severity).collect();
        assert_eq!(severities, [Severity::Blocks, Severity::Warns]);
        assert!(report.blocks());
    }

    /// The table in docs/doctor.md; `INSTA_UPDATE=always cargo test` writes it anew.
    #[test]
    fn the_documentation_lists_every_finding() {
        const BEGIN: &str = "<!-- made by `cargo test`, from src/diagnose/doctor/ -->\n";
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/doctor.md");
        let text = std::fs::read_to_string(&path).unwrap();
        let (before, _) = text.split_once(BEGIN).unwrap();
        let mut wanted = format!("{before}{BEGIN}| id | finds | how it was tested |\n|---|---|---|\n");
        for Check { id, finds, tested, .. } in checks() {
            wanted.push_str(&format!("| `{id}` | {finds} | {tested} |\n"));
        }
        if std::env::var("INSTA_UPDATE").is_ok_and(|how| how == "always") {
            std::fs::write(&path, &wanted).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), wanted);
    }
}
