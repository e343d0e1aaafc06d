//! The findings of `doctor`, as text for a terminal.

use super::Style;
use crate::diagnose::doctor::{Finding, Report, Severity, TOPICS};

/// Returns everything: findings, unknown results, and the conclusion.
pub fn text(report: &Report, style: Style) -> String {
    let mut text: String = report.findings.iter().map(|item| finding(item, style) + "\n").collect();
    for why in &report.unknown {
        text.push_str(&format!("{} {why}\n", style.dim("unknown:")));
    }
    if !report.unknown.is_empty() {
        text.push('\n');
    }
    let count = |severity: Severity| report.findings.iter().filter(|finding| finding.severity == severity).count();
    let verdict = match (count(Severity::Blocks), count(Severity::Warns)) {
        (0, 0) => style.green("Nothing found that would make kindmesh up fail."),
        (0, warns) => style.yellow(&format!("kindmesh up can work, but {} may cause trouble.", problems(warns))),
        (blocks, 0) => style.red(&format!("kindmesh up cannot work: {} must be fixed.", problems(blocks))),
        (blocks, warns) => style.red(&format!(
            "kindmesh up cannot work: {} must be fixed, and {warns} more may cause trouble.",
            problems(blocks)
        )),
    };
    let topics: Vec<_> = TOPICS.iter().map(|(topic, _)| *topic).collect();
    let looked = match report
        .findings
        .iter()
        .any(|finding| finding.id.starts_with("engine.") && is_missing_engine(finding))
    {
        true => "Without an engine, checks that ask the engine were skipped.".to_owned(),
        false => format!("Checked: {}.", topics.join(", ")),
    };
    let fixes = match report.findings.iter().any(|finding| finding.fix.is_some()) {
        true => "To run the fixes that are one safe command, each after asking: kindmesh doctor --fix\n",
        false => "",
    };
    format!("{text}{verdict}\n{fixes}{}", style.dim(&looked))
}

/// Whether a finding means that there is no engine.
fn is_missing_engine(finding: &Finding) -> bool {
    matches!(
        finding.id,
        "engine.missing" | "engine.not-allowed" | "engine.remote" | "engine.address" | "engine.old"
    )
}

fn problems(count: usize) -> String {
    if count == 1 { "1 problem".into() } else { format!("{count} problems") }
}

/// Returns one finding.
pub(crate) fn finding(finding: &Finding, style: Style) -> String {
    let Finding { id, severity, what, evidence, consequence, cure, fix: _ } = finding;
    let severity = match severity {
        Severity::Blocks => style.red("blocks"),
        Severity::Warns => style.yellow("warns"),
    };
    let mut text = format!("{severity} {id}: {}\n", style.bold(what));
    for (name, value) in [("evidence", evidence), ("effect", consequence), ("fix", cure)] {
        let name = style.dim(&format!("{name}:"));
        for line in value.lines().filter(|_| !value.is_empty()) {
            text.push_str(&format!("  {name} {line}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::doctor;

    fn report(findings: &[(&'static str, Severity)], unknown: &[&str]) -> String {
        let finding = |(id, severity): &(&'static str, Severity)| Finding {
            id,
            severity: *severity,
            what: "low".into(),
            evidence: "seen".into(),
            consequence: "it fails".into(),
            cure: "do this".into(),
            fix: None,
        };
        let unknown = unknown.iter().map(|why| (*why).to_owned()).collect();
        let report = Report { schema_version: 1, findings: findings.iter().map(finding).collect(), unknown };
        text(&report, Style::plain())
    }

    #[test]
    fn report_without_findings_lists_what_was_checked() {
        insta::assert_snapshot!(report(&[], &["the disk: size unknown"]), @r"
        unknown: the disk: size unknown

        Nothing found that would make kindmesh up fail.
        Checked: the engine, its memory, disk and kernel, the firewall, addresses, proxies, images, the clock, tools, files and leftovers.
        ");
    }

    #[test]
    fn report_names_the_command_that_runs_fixes() {
        let mut facts = doctor::testing::good();
        facts.host.watchers = Some(128);
        let text = text(&doctor::judge(&facts), Style::plain());
        assert!(text.contains("may cause trouble.\nTo run the fixes that are one safe command"), "{text}");
    }

    #[test]
    fn summary_counts_blocking_findings_and_warnings() {
        let (blocks, warns) = (("disk.low", Severity::Blocks), ("cpu.low", Severity::Warns));
        insta::assert_snapshot!(report(&[blocks, warns], &[]), @r"
        blocks disk.low: low
          evidence: seen
          effect: it fails
          fix: do this

        warns cpu.low: low
          evidence: seen
          effect: it fails
          fix: do this

        kindmesh up cannot work: 1 problem must be fixed, and 1 more may cause trouble.
        Checked: the engine, its memory, disk and kernel, the firewall, addresses, proxies, images, the clock, tools, files and leftovers.
        ");
        let verdict = |findings: &[_]| report(findings, &[]).lines().rev().nth(1).unwrap().to_owned();
        assert_eq!(verdict(&[warns, warns]), "kindmesh up can work, but 2 problems may cause trouble.");
        assert_eq!(verdict(&[blocks, blocks]), "kindmesh up cannot work: 2 problems must be fixed.");
        let without_engine = report(&[("engine.missing", Severity::Blocks)], &[]);
        assert!(without_engine.ends_with("Without an engine, checks that ask the engine were skipped."));
    }
}
