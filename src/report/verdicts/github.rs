//! The output of `verify` in a GitHub workflow: an annotation for each failed check, and the verdicts.

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
    verdicts: &Verdicts,
    subject: &Subject,
    printer: &Printer,
) -> anyhow::Result<()> {
    surroundings.annotate(&annotations(verdicts), printer);
    surroundings.summarise(&markdown::report(verdicts, subject))
}

/// Returns a workflow command for each failed check.
pub fn annotations(verdicts: &Verdicts) -> Vec<String> {
    let failed = verdicts.checks.iter().filter(|verdict| verdict.status == Status::Failed);
    failed
        .map(|verdict| {
            let last = verdict.evidence.last().map(String::as_str).unwrap_or_default();
            let title = format!("kindmesh verify {}", verdict.id);
            annotation(&title, &format!("{}: {last}", verdict.claim))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::verdicts::tests::sample;

    #[test]
    fn annotations_are_escaped() {
        assert_eq!(
            annotations(&sample().0),
            ["::error title=kindmesh verify mtls.strict::what mtls.strict | claims: 100%25 not%0Areset"]
        );
    }
}
