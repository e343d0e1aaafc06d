//! An error for a person: what failed and why, the evidence, the next command.

use std::borrow::Cow;

use console::strip_ansi_codes;

use super::{Printer, Style};
use crate::base::error;
use crate::base::event::{Event, Failed};

/// The parts of an [`anyhow::Error`].
#[derive(Debug, Clone)]
pub struct Failure {
    failed: Option<Failed>,
    causes: Vec<Cause>,
    evidence: Vec<String>,
    hint: Option<String>,
    cause: Option<&'static str>,
}

/// A link of the error's chain.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Cause {
    /// The step that failed.
    Step,
    /// What failed, or why.
    Message(String),
}

impl Failure {
    /// Splits an error into its parts.
    pub fn of(error: &anyhow::Error) -> Self {
        let failed = error.downcast_ref::<Failed>().cloned();
        let carried = error::find(error);
        Self {
            causes: causes(error, failed.as_ref()),
            failed,
            evidence: carried.map(|error| error.evidence.clone()).unwrap_or_default(),
            hint: carried.and_then(|error| error.hint.clone()),
            cause: carried.and_then(|error| error.cause),
        }
    }

    /// Adds a hint if the error has none.
    #[must_use]
    pub fn or_hint(mut self, hint: impl FnOnce() -> Option<String>) -> Self {
        self.hint = self.hint.or_else(hint);
        self
    }

    /// Returns the event that ends a failed run. Its `error` does not name the step: other fields do.
    pub fn event(&self) -> Event {
        let messages = self.causes.iter().filter_map(|cause| match cause {
            Cause::Step => None,
            Cause::Message(message) => Some(message.as_str()),
        });
        Event::Failed {
            step: self.failed.as_ref().map(|failed| failed.step.to_owned()).unwrap_or_default(),
            cluster: self.failed.as_ref().and_then(|failed| failed.cluster.clone()),
            error: messages.collect::<Vec<_>>().join(": "),
            evidence: self.evidence.clone(),
            hint: self.hint.clone(),
            cause: self.cause.map(str::to_owned),
        }
    }

    /// Returns the text for a person, without a trailing newline.
    pub fn render(&self, style: Style) -> String {
        let sentence = self.sentence();
        let mut sentence = sentence.lines();
        let first = format!("{} {}", style.red("error:"), clean(sentence.next().unwrap_or_default()));
        let evidence = self.evidence.iter().flat_map(|item| item.lines());
        let seen = sentence.chain(evidence).map(|line| format!("  {}", clean(line)).trim_end().to_owned());
        let hint = self.hint.iter().map(|hint| {
            let hint = clean(hint).trim_end().replace('\n', "\n      ");
            format!("{} {hint}", style.green("hint:"))
        });
        std::iter::once(first).chain(seen).chain(hint).collect::<Vec<_>>().join("\n")
    }

    /// Returns what failed, where and why, the outermost context first.
    fn sentence(&self) -> String {
        let place = self.failed.as_ref().map(|Failed { step, cluster }| match cluster {
            Some(cluster) => format!("in step {step} of {cluster}"),
            None => format!("in step {step}"),
        });
        let words = self.causes.iter().filter_map(|cause| match cause {
            Cause::Step => place.as_deref(),
            Cause::Message(message) => Some(message.as_str()),
        });
        words.collect::<Vec<_>>().join(": ")
    }
}

/// Prints an error for a person to stderr, after the sink has finished.
pub fn print(printer: &Printer, error: &anyhow::Error) {
    printer.error(&Failure::of(error).render(printer.stderr_style()));
}

/// Separates the error's message from the step that it occurred in.
fn causes(error: &anyhow::Error, failed: Option<&Failed>) -> Vec<Cause> {
    // A context can be found by its type, but its position in the chain only by its text.
    let step = failed.map(ToString::to_string);
    let messages = error::messages(error).into_iter();
    messages
        .map(|message| if step.as_ref() == Some(&message) { Cause::Step } else { Cause::Message(message) })
        .collect()
}

/// Removes cursor codes from text of other programs.
fn clean(text: &str) -> Cow<'_, str> {
    let text = strip_ansi_codes(text);
    let moves = |c: char| c.is_control() && c != '\n' && c != '\t';
    if text.contains(moves) { text.replace(moves, "").into() } else { text }
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;
    use crate::base::error::Error;

    fn in_step(error: anyhow::Error, cluster: Option<&str>) -> anyhow::Error {
        error.context(Failed { step: "cluster", cluster: cluster.map(str::to_owned) })
    }

    fn full() -> anyhow::Error {
        let error = Error::environment("kind create cluster: exit status 1")
            .evidence(
                "$ kind create cluster --name kindmesh-cluster1\n\x1b[31mERROR\x1b[0m: no space left on device",
            )
            .hint("free some space, then run it again:\ndocker system df");
        in_step(anyhow::Error::new(error).context("creating the nodes"), Some("cluster1"))
            .context("bringing up kindmesh")
    }

    fn render(error: &anyhow::Error) -> String {
        Failure::of(error).render(Style::plain())
    }

    #[test]
    fn an_error_with_all_parts() {
        insta::assert_snapshot!(render(&full()), @r"
        error: bringing up kindmesh: in step cluster of cluster1: creating the nodes: kind create cluster: exit status 1
          $ kind create cluster --name kindmesh-cluster1
          ERROR: no space left on device
        hint: free some space, then run it again:
              docker system df
        ");
        insta::assert_snapshot!(serde_json::to_string_pretty(&Failure::of(&full()).event()).unwrap(), @r#"
        {
          "event": "failed",
          "step": "cluster",
          "cluster": "cluster1",
          "error": "bringing up kindmesh: creating the nodes: kind create cluster: exit status 1",
          "evidence": [
            "$ kind create cluster --name kindmesh-cluster1",
            "\u001b[31mERROR\u001b[0m: no space left on device"
          ],
          "hint": "free some space, then run it again:\ndocker system df"
        }
        "#);
    }

    #[test]
    fn an_error_with_colors() {
        let error = Error::usage("unknown cluster").hint("kindmesh list").into();
        insta::assert_snapshot!(Failure::of(&error).render(Style::colored()).replace('\x1b', "^"), @r"
        ^[31merror:^[0m unknown cluster
        ^[32mhint:^[0m kindmesh list
        ");
    }

    #[test]
    fn error_of_an_environment_step() {
        let error = in_step(anyhow!("no free subnet"), None);
        insta::assert_snapshot!(render(&error), @"error: in step cluster: no free subnet");
    }

    #[test]
    fn an_error_before_the_first_step() {
        let error = Err::<(), _>(std::io::Error::other("permission denied"));
        let error = error.context("reading kindmesh.yaml").unwrap_err();
        insta::assert_snapshot!(render(&error), @"error: reading kindmesh.yaml: permission denied");
        insta::assert_snapshot!(serde_json::to_string(&Failure::of(&error).event()).unwrap(), @r#"{"event":"failed","step":"","error":"reading kindmesh.yaml: permission denied","evidence":[],"hint":null}"#);
    }

    #[test]
    fn multiline_message_is_indented() {
        let error = anyhow!("kindmesh.yaml:3:5: unknown field `foo`\n   |\n 3 | foo: 1\n   | ^^^");
        insta::assert_snapshot!(render(&error), @r"
        error: kindmesh.yaml:3:5: unknown field `foo`
             |
           3 | foo: 1
             | ^^^
        ");
    }

    #[test]
    fn repeated_error_source_is_printed_once() {
        let error = anyhow!("connection refused").context("cannot connect: connection refused");
        insta::assert_snapshot!(render(&error), @"error: cannot connect: connection refused");
    }

    #[test]
    fn error_in_a_context_is_found() {
        let error = anyhow!("connection refused").context(Error::environment("no engine").hint("start Docker"));
        insta::assert_snapshot!(render(&error), @r"
        error: no engine: connection refused
        hint: start Docker
        ");
    }
}
