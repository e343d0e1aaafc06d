//! Predicts what would make `up` fail or misbehave, and prints the command that fixes it. Changes nothing, unless the user
//! agrees to such a command ([`Fix`]), and gathers for two seconds at most, even if nothing responds.
//!
//! [`gather`] inspects the engine, the host and the registries and returns [`Facts`]; every [`Check`] is a pure
//! function of them. `up` begins with the checks that need no more than the engine's first response:
//! [`obstacles`].

use std::time::Duration;

use serde::Serialize;

use crate::host::docker::Engine;
use crate::host::state::{Directories, Files};
use crate::plan::admission::Obstacle;
use crate::spec::{Origins, Spec};

mod check;
mod clock;
mod engine;
pub mod facts;
mod firewall;
mod fix;
mod gather;
mod host;
mod images;
mod inotify;
mod leftovers;
mod limits;
mod network;
mod proxy;
mod resources;
mod state;
#[cfg(test)]
pub(crate) mod testing;
mod tools;

pub use check::{Check, Judgement, Severity};
use facts::{Facts, Wanted};
pub use fix::Fix;
pub use gather::gather;

/// Every check, by subject, in the order of an inspection by hand.
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

/// The default timeout of gathering.
pub const TIMEOUT: Duration = Duration::from_secs(2);

/// The findings, as in the JSON interface.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The version of this format.
    pub schema_version: u8,
    /// The findings; those that block `up` first.
    pub findings: Vec<Finding>,
    /// What could not be checked, and why; what a finding already implies is left out.
    pub unknown: Vec<String>,
}

impl Default for Report {
    /// Nothing found.
    fn default() -> Self {
        Self { schema_version: 1, findings: Vec::new(), unknown: Vec::new() }
    }
}

/// A problem.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The check that found it: stable.
    pub id: &'static str,
    /// Whether `up` can work despite it.
    pub severity: Severity,
    /// What is wrong.
    pub what: String,
    /// The evidence.
    pub evidence: String,
    /// The consequence.
    pub consequence: String,
    /// The fix, with the command to run.
    pub cure: String,
    /// The fix as one command that `doctor --fix` runs, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<Fix>,
}

impl Report {
    /// Whether a finding blocks `up`.
    pub fn blocks(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Blocks)
    }
}

/// Gathers all facts and judges them, within the timeout: [`TIMEOUT`] is enough for a healthy engine and
/// registries.
pub async fn doctor(spec: &Spec, origins: &Origins, folders: &Directories, within: Duration) -> Report {
    judge(&gather(spec, origins, folders, within).await)
}

/// Judges the facts.
pub fn judge(facts: &Facts) -> Report {
    let (mut findings, mut unknown) = (Vec::new(), facts.unseen.clone());
    for check in TOPICS.iter().flat_map(|(_, checks)| *checks) {
        for judgement in (check.judge)(facts) {
            match judgement {
                Judgement::Found { severity, what, evidence, consequence, cure, fix } => {
                    findings.push(Finding { id: check.id, severity, what, evidence, consequence, cure, fix });
                }
                Judgement::Unknown(why) => unknown.push(why),
            }
        }
    }
    findings.sort_by_key(|finding| finding.severity);
    Report { schema_version: 1, findings, unknown }
}

/// Returns what blocks `up`, as far as the engine's first response and this host's `/proc` show it, which takes no
/// time.
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
    fn healthy_host_has_no_findings_and_no_unknowns() {
        let report = judge(&testing::good());
        assert_eq!(report.findings, []);
        assert_eq!(report.unknown, Vec::<String>::new());
    }

    #[test]
    fn blocking_findings_come_first() {
        let mut facts = testing::good();
        testing::engine(&mut facts).cpus = 1;
        facts.state.as_mut().unwrap().writable = false;
        let report = judge(&facts);
        let severities: Vec<_> = report.findings.iter().map(|finding| finding.severity).collect();
        assert_eq!(severities, [Severity::Blocks, Severity::Warns]);
        assert!(report.blocks());
    }

    /// The table in docs/doctor.md; `INSTA_UPDATE=always cargo test` writes it.
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
