//! The output of a command in a GitHub workflow: annotations and the step's summary.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;

use super::Printer;
use super::escape;
use crate::base::event::Event;

mod run;

pub use run::{Run, environment};

/// GitHub sets it to `true` in every step of a workflow.
const ACTIONS: &str = "GITHUB_ACTIONS";
/// The file of the step's summary.
const STEP_SUMMARY: &str = "GITHUB_STEP_SUMMARY";

/// The workflow step that this process runs in, if any.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    in_workflow: bool,
    summary: Option<PathBuf>,
}

impl Surroundings {
    /// Reads it from this process's environment.
    pub fn of_process() -> Self {
        Self {
            in_workflow: std::env::var(ACTIONS).is_ok_and(|value| value == "true"),
            summary: std::env::var_os(STEP_SUMMARY).filter(|path| !path.is_empty()).map(PathBuf::from),
        }
    }

    /// Whether this process runs in a workflow.
    pub fn in_workflow(&self) -> bool {
        self.in_workflow
    }

    /// Prints annotations in a workflow: to stderr, which GitHub also reads, since stdout is for results.
    pub fn annotate(&self, annotations: &[String], printer: &Printer) {
        if self.in_workflow {
            annotations.iter().for_each(|line| printer.error(line));
        }
    }

    /// Appends Markdown to the step's summary, if there is one.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn summarise(&self, markdown: &str) -> anyhow::Result<()> {
        let Some(path) = self.summary.as_ref().filter(|_| self.in_workflow) else { return Ok(()) };
        let what = || format!("writing the step's summary {}", path.display());
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).with_context(what)?;
        file.write_all(markdown.as_bytes()).with_context(what)
    }
}

/// A workflow command that creates an annotation. It is shown as plain text.
pub fn annotation(title: &str, message: &str) -> String {
    format!("::error title={}::{}", property(&escape::visible(title)), data(&escape::visible(message)))
}

/// Returns the annotation for the event of a failed command: what failed, the evidence, the next command.
pub fn failure(command: &str, event: &Event) -> Option<String> {
    let Event::Failed { step, cluster, error, evidence, hint, .. } = event else { return None };
    let mut title = format!("kindmesh {command}");
    if !step.is_empty() {
        title.push_str(&format!(", step {step}"));
    }
    if let Some(cluster) = cluster {
        title.push_str(&format!(" of {cluster}"));
    }
    let hint = hint.iter().map(|hint| format!("hint: {hint}"));
    let lines: Vec<_> = std::iter::once(error.clone()).chain(evidence.iter().cloned()).chain(hint).collect();
    Some(annotation(&title, &lines.join("\n")))
}

/// Escaped as in GitHub's toolkit.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Verbosity;
    use crate::report::testing::{Captured, failing_run};

    #[test]
    fn failure_is_one_annotation() {
        let run = failing_run();
        let events: Vec<_> = run.iter().filter_map(|(_, event)| failure("up", event.as_ref()?)).collect();
        assert_eq!(
            events,
            ["::error title=kindmesh up%2C step istiod of cluster2::istiod is available: not after 90 s%0A\
              last seen: 0 of 1 pods: ImagePullBackOff%0Ahint: kindmesh doctor"]
        );
    }

    #[test]
    fn markup_of_workflow_commands_is_escaped() {
        assert_eq!(annotation("a:b,c", "100%\r\n\u{1b}[31mx"), "::error title=a%3Ab%2Cc::100%25%0Ax");
    }

    #[test]
    fn no_output_outside_a_workflow() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("summary.md");
        for in_workflow in [false, true] {
            let captured = Captured::new(Verbosity::Quiet);
            let surroundings = Surroundings { in_workflow, summary: Some(path.clone()) };
            surroundings.annotate(&["::error::x".into()], &captured.printer);
            surroundings.summarise("## x\n").unwrap();
            assert_eq!((captured.stderr().is_empty(), path.exists()), (!in_workflow, in_workflow));
            assert!(captured.stdout().is_empty());
        }
        // More text is appended.
        Surroundings { in_workflow: true, summary: Some(path.clone()) }.summarise("y\n").unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), "## x\ny\n");
        Surroundings { in_workflow: true, summary: None }.summarise("z").unwrap();
    }
}
