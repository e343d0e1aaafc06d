//! What `doctor` found, as text for a terminal.

use super::Style;
use crate::doctor::{Finding, Report, Severity, TOPICS};

/// All of it: findings, what could not be looked at, and how it stands.
pub fn text(report: &Report, style: Style) -> String {
    let mut text: String = report.findings.iter().map(|item| finding(item, style) + "\n").collect();
    for why in &report.unknown {
        text.push_str(&format!("{} {why}\n", style.dim("not known:")));
    }
    if !report.unknown.is_empty() {
        text.push('\n');
    }
    let count = |severity: Severity| report.findings.iter().filter(|finding| finding.severity == severity).count();
    let verdict = match (count(Severity::Blocks), count(Severity::Warns)) {
        (0, 0) => style.green("Nothing found that keeps kindmesh up from working."),
        (0, warns) => style.yellow(&format!("kindmesh up can work; {} may trouble it.", things(warns))),
        (blocks, 0) => style.red(&format!("kindmesh up cannot work: {} in the way.", stand(blocks))),
        (blocks, warns) => style.red(&format!(
            "kindmesh up cannot work: {} in the way, and {warns} more may trouble it.",
            stand(blocks)
        )),
    };
    let topics: Vec<_> = TOPICS.iter().map(|(topic, _)| *topic).collect();
    let looked = match report.findings.iter().any(|finding| finding.id.starts_with("engine.") && alone(finding)) {
        true => "Without an engine, nothing was asked that only it can tell.".to_owned(),
        false => format!("Looked at: {}.", topics.join(", ")),
    };
    format!("{text}{verdict}\n{}", style.dim(&looked))
}

/// Whether a finding is that there is no engine to ask.
fn alone(finding: &Finding) -> bool {
    matches!(
        finding.id,
        "engine.missing" | "engine.not-allowed" | "engine.remote" | "engine.address" | "engine.old"
    )
}

fn things(count: usize) -> String {
    if count == 1 { "1 thing".into() } else { format!("{count} things") }
}

fn stand(count: usize) -> String {
    if count == 1 { "1 thing is".into() } else { format!("{count} things are") }
}

/// One finding.
pub(crate) fn finding(finding: &Finding, style: Style) -> String {
    let Finding { id, severity, what, evidence, consequence, cure } = finding;
    let severity = match severity {
        Severity::Blocks => style.red("blocks"),
        Severity::Warns => style.yellow("warns"),
    };
    let mut text = format!("{severity} {id}: {}\n", style.bold(what));
    for (name, value) in [("seen", evidence), ("so", consequence), ("cure", cure)] {
        let name = style.dim(&format!("{name}:"));
        for line in value.lines().filter(|_| !value.is_empty()) {
            text.push_str(&format!("  {name} {line}\n"));
        }
    }
    text
}
