//! What GitHub shows of a workflow: annotations and the step's summary.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;

use super::markdown;
use crate::report::Printer;
use crate::verify::{Status, Subject, Verdicts};

/// Set to `true` in every step of a workflow.
const ACTIONS: &str = "GITHUB_ACTIONS";
/// The file that the step's summary is appended to.
const STEP_SUMMARY: &str = "GITHUB_STEP_SUMMARY";

/// The workflow that this process is a step of, if it is.
#[derive(Debug, Default)]
pub struct Surroundings {
    in_workflow: bool,
    summary: Option<PathBuf>,
}

impl Surroundings {
    /// Those of this process.
    pub fn of_process() -> Self {
        Self {
            in_workflow: std::env::var(ACTIONS).is_ok_and(|value| value == "true"),
            summary: std::env::var_os(STEP_SUMMARY).filter(|path| !path.is_empty()).map(PathBuf::from),
        }
    }

    /// Tells GitHub. Annotations go to stderr, which GitHub reads as well: stdout is for results.
    ///
    /// # Errors
    /// When the summary cannot be written.
    pub fn tell(&self, verdicts: &Verdicts, subject: &Subject, printer: &Printer) -> anyhow::Result<()> {
        if !self.in_workflow {
            return Ok(());
        }
        for line in annotations(verdicts) {
            printer.error(&line);
        }
        if let Some(path) = &self.summary {
            let what = || format!("writing the step's summary {}", path.display());
            let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).with_context(what)?;
            file.write_all(markdown::report(verdicts, subject).as_bytes()).with_context(what)?;
        }
        Ok(())
    }
}

/// A workflow command for each failed check.
pub fn annotations(verdicts: &Verdicts) -> Vec<String> {
    let failed = verdicts.checks.iter().filter(|verdict| verdict.status == Status::Failed);
    failed
        .map(|verdict| {
            let last = verdict.evidence.last().map(String::as_str).unwrap_or_default();
            let title = property(&format!("kindmesh verify {}", verdict.id));
            format!("::error title={title}::{}", data(&format!("{}: {last}", verdict.claim)))
        })
        .collect()
}

/// Escaped as GitHub's toolkit does it.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
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
        assert_eq!(property("a:b,c"), "a%3Ab%2Cc");
    }
}
