//! The output of `verify` and `experiment` in a GitHub workflow: an annotation for each failed check, and the verdicts.

use super::markdown;
use crate::diagnose::verify::{Status, Subject, Verdicts};
use crate::report::Printer;
use crate::report::github::{Surroundings, annotation};

/// Reports to GitHub if this process is a step of a workflow.
///
/// # Errors
/// If the step's summary cannot be written.
pub fn report(
    surroundings: &Surroundings,
    command: &str,
    verdicts: &Verdicts,
    subject: &Subject,
    printer: &Printer,
) -> anyhow::Result<()> {
    surroundings.annotate(&annotations(command, verdicts), printer);
    surroundings.summarise(&markdown::report(command, verdicts, subject))
}

/// Returns a workflow command for each failed check.
pub fn annotations(command: &str, verdicts: &Verdicts) -> Vec<String> {
    let failed = verdicts.checks.iter().filter(|verdict| verdict.status == Status::Failed);
    failed
        .map(|verdict| {
            let last = verdict.evidence.last().map(String::as_str).unwrap_or_default();
            let title = format!("{command} {}", verdict.id);
            annotation(&title, &format!("{}: {last}", verdict.claim))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::verdicts::VERIFY;
    use crate::report::verdicts::tests::sample;

    #[test]
    fn annotations_are_escaped() {
        assert_eq!(
            annotations(VERIFY, &sample().0),
            ["::error title=kindmesh verify mtls.strict::what mtls.strict | claims: 100%25 not%0Areset"]
        );
    }
}
