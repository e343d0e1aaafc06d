//! The summary of `verify` on a terminal: how many claims hold, and the evidence for the others.

use crate::diagnose::verify::{Status, Verdict, Verdicts};
use crate::report::Style;

/// Returns the summary; with `verbose`, it contains the evidence for every claim.
pub fn summary(verdicts: &Verdicts, style: Style, verbose: bool) -> String {
    let mut text = String::new();
    let shown = |verdict: &&Verdict| verbose || verdict.status == Status::Failed;
    for verdict in verdicts.checks.iter().filter(shown) {
        text.push_str(&format!("\n{} {}\n", style.bold(&verdict.id), verdict.status.as_str()));
        text.push_str(&format!("  claim: {}\n", verdict.claim));
        for line in verdict.evidence.iter().flat_map(|item| item.lines()) {
            text.push_str(&format!("  | {line}\n"));
        }
        if let Some(hint) = &verdict.hint {
            text.push_str(&format!("  {} {hint}\n", style.bold("hint:")));
        }
    }
    let Verdicts { passed, failed, skipped, environment, .. } = verdicts;
    let counts = format!("{passed} passed, {failed} failed, {skipped} skipped");
    let counts = if *failed > 0 { style.red(&counts) } else { style.green(&counts) };
    text.push_str(&format!("\nEnvironment {}: {counts}", style.bold(environment)));
    text.trim_start_matches('\n').to_owned()
}
