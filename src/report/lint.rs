//! The findings of `lint`: as text for a terminal, and as SARIF.

use super::{Style, escape};
use crate::lifecycle::lint::{Mistake, Report, Severity};

pub mod sarif;

/// Returns everything: the findings, what was left out, and the conclusion.
pub fn text(report: &Report, style: Style) -> String {
    let mut text: String = report.findings.iter().map(|found| finding(found, style) + "\n").collect();
    for note in &report.notes {
        text.push_str(&format!("{} {}\n", style.dim("note:"), escape::visible(note)));
    }
    if !report.notes.is_empty() {
        text.push('\n');
    }
    let within = format!("{} in {}", counted(report.objects, "object"), counted(report.files, "file"));
    let counts = [(Severity::Error, "error"), (Severity::Warning, "warning"), (Severity::Note, "note")];
    let counts: Vec<String> = counts
        .into_iter()
        .map(|(severity, name)| (report.count(severity), name))
        .filter(|(count, _)| *count > 0)
        .map(|(count, name)| counted(count, name))
        .collect();
    let conclusion = match (report.count(Severity::Error), counts.is_empty()) {
        (_, true) => style.green(&format!("No mistakes found: {within}.")),
        (0, _) => style.yellow(&format!("{}: {within}.", counts.join(", "))),
        _ => style.red(&format!("{}: {within}.", counts.join(", "))),
    };
    text + &conclusion
}

fn finding(found: &Mistake, style: Style) -> String {
    let severity = match found.severity {
        Severity::Error => style.red("error"),
        Severity::Warning => style.yellow("warning"),
        Severity::Note => style.dim("note"),
    };
    let visible = escape::visible;
    let mut text =
        format!("{}: {severity} {}: {}\n", visible(&place(found)), found.rule, style.bold(&visible(&found.what)));
    let object = &found.object;
    let object = match object.namespace.as_str() {
        "" => format!("{} {}", object.kind, object.name),
        namespace => format!("{} {} in namespace {namespace}", object.kind, object.name),
    };
    for (name, value) in [("object", object.as_str()), ("why", found.why), ("fix", &found.fix)] {
        text.push_str(&format!("  {} {}\n", style.dim(&format!("{name}:")), visible(value)));
    }
    text
}

/// Returns `file:line:column`, as far as it is known.
fn place(found: &Mistake) -> String {
    match (found.line, found.column) {
        (Some(line), Some(column)) => format!("{}:{line}:{column}", found.file),
        _ => found.file.clone(),
    }
}

fn counted(count: usize, name: &str) -> String {
    if count == 1 { format!("1 {name}") } else { format!("{count} {name}s") }
}
