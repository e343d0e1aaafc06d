//! Explains failures: gathers evidence and finds the known cause that it shows.
//!
//! ```text
//! a failed wait ─► gather: pods, events, logs, journals ─► evidence ─► rules ─► cause and next command
//! ```
//!
//! [`diagnose`] is a pure function from evidence to a cause. [`gather`] queries clusters and nodes, with limits on
//! time and lines. docs/troubleshooting.md lists every cause.

use std::time::Duration;

use regex::Regex;
use tokio::time::Instant;

use crate::base::error::{self, Error, Kind};

mod evidence;
pub mod gather;
mod rules;
#[cfg(test)]
mod tests;
pub mod waits;

pub use evidence::{Evidence, Section, Source};
pub use rules::Rule;
use rules::{COMPILED_CAUSES, COMPILED_SYMPTOMS};

/// The timeout for gathering evidence. Measured: 0.1 s on a cluster that responds.
pub const GATHER_TIMEOUT: Duration = Duration::from_secs(4);

/// Returns the deadline for the waits of a command that ends at `deadline`. It leaves time to gather evidence.
pub fn waits_until(deadline: Instant) -> Instant {
    deadline - GATHER_TIMEOUT.min(deadline.duration_since(Instant::now()) / 4)
}

/// A known cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// The stable ID, such as `image.missing`.
    pub id: &'static str,
    /// What is wrong, without a period: it follows a colon.
    pub sentence: String,
    /// The fix, with the command to run.
    pub hint: String,
    /// The line that matched.
    pub told_by: String,
    /// The title of the section with that line.
    pub found_in: String,
}

/// Returns the known cause that the evidence shows, if any.
///
/// The current state takes precedence over earlier log lines, and a cause over its consequences.
pub fn diagnose(evidence: &Evidence) -> Option<Cause> {
    find(&COMPILED_CAUSES, evidence, |of| {
        matches!(of, Source::Error | Source::Answer | Source::State | Source::Event)
    })
    .or_else(|| find(&COMPILED_CAUSES, evidence, |_| true))
    .or_else(|| find(&COMPILED_SYMPTOMS, evidence, |_| true))
}

fn find(rules: &[(&'static Rule, Regex)], evidence: &Evidence, counts: impl Fn(Source) -> bool) -> Option<Cause> {
    rules.iter().find_map(|(rule, pattern)| {
        let counts = |section: &&Section| counts(section.of) && rule.told_by.contains(&section.of);
        // Within a section, the last matching line wins.
        let lines = evidence
            .sections
            .iter()
            .filter(counts)
            .flat_map(|section| section.lines.iter().rev().map(move |line| (section, line)));
        lines.into_iter().find_map(|(section, line)| {
            let found = pattern.captures(line)?;
            let fill = |template: &str| fill(template, &found, section, evidence);
            Some(Cause {
                id: rule.id,
                sentence: fill(rule.sentence),
                hint: fill(rule.hint),
                told_by: line.clone(),
                found_in: section.title.clone(),
            })
        })
    })
}

/// Fills in a rule's placeholders: `{1}` is the first matching group of its pattern, `{of}` the section's title,
/// `{log}` the last line of a container's log.
fn fill(template: &str, found: &regex::Captures<'_>, section: &Section, evidence: &Evidence) -> String {
    let groups = found.iter().skip(1).flatten().map(|group| group.as_str());
    let mut text = template.to_owned();
    for (number, group) in groups.enumerate() {
        text = text.replace(&format!("{{{}}}", number + 1), group.trim());
    }
    // No group matched.
    text = text.replace(" {1}", "").replace("{of}", &section.title);
    if text.contains("{log}") {
        let last = evidence.last_log_line().unwrap_or("(empty)");
        text = text.replace("{log}", last);
    }
    text
}

/// Adds evidence to the error of a wait, and the cause if it is known.
///
/// # Errors
/// The wait's error, with these additions.
pub async fn explained<T>(result: anyhow::Result<T>, gather: impl AsyncFnOnce() -> Evidence) -> anyhow::Result<T> {
    match result {
        Err(error) if is_open(&error) => {
            let evidence = tokio::time::timeout(GATHER_TIMEOUT, gather()).await.unwrap_or_default();
            Err(explain(error, &evidence))
        }
        result => result,
    }
}

/// Adds evidence to an error, and the known cause that the two show.
pub fn explain(mut error: anyhow::Error, evidence: &Evidence) -> anyhow::Error {
    if !is_open(&error) {
        return error;
    }
    let mut all = evidence.clone();
    all.sections.extend(in_its_words(&error));
    let cause = diagnose(&all);
    let Some(carried) = error.downcast_mut::<Error>() else {
        return match cause {
            Some(cause) => {
                let known = Error::environment(cause.sentence).evidence(evidence.shown(Some(&cause.told_by)));
                error.context(Error { cause: Some(cause.id), ..known.hint(cause.hint) })
            }
            None if evidence.sections.is_empty() => error,
            None => Error::environment(format!("{error:#}")).evidence(evidence.shown(None)).into(),
        };
    };
    let shown = evidence.shown(cause.as_ref().map(|cause| cause.told_by.as_str()));
    carried.evidence.extend(shown.lines().map(str::to_owned));
    if let Some(cause) = cause {
        carried.message = format!("{}: {}", carried.message, cause.sentence);
        carried.hint = Some(cause.hint);
        carried.cause = Some(cause.id);
    }
    error
}

/// Adds the known cause that an error's own text shows. `flags` are added to each kindmesh command in its hint, so
/// that the command selects the same environment.
pub fn by_its_words(error: anyhow::Error, flags: &str) -> anyhow::Error {
    let mut error = explain(error, &Evidence::default());
    let known = error.downcast_mut::<Error>().filter(|error| error.cause.is_some());
    if let Some(hint) = known.and_then(|error| error.hint.as_mut()) {
        *hint = rules::with_flags(hint, flags);
    }
    error
}

/// Whether an error is an environment error without a cause.
fn is_open(error: &anyhow::Error) -> bool {
    error::find(error).is_none_or(|error| error.kind == Kind::Environment && error.cause.is_none())
}

/// The start of a caller's reason in an error.
pub const ANSWERED: &str = "the caller got status";

/// Returns the error's own text as evidence.
fn in_its_words(error: &anyhow::Error) -> [Section; 2] {
    let said = error.chain().map(ToString::to_string);
    let seen = error::find(error).into_iter().flat_map(|error| error.evidence.clone());
    let texts: Vec<String> = said.chain(seen).collect();
    let lines = texts.iter().flat_map(|text| text.lines()).map(str::to_owned);
    let (answers, others): (Vec<_>, Vec<_>) = lines.partition(|line| line.contains(ANSWERED));
    [Section::new(Source::Answer, "the call", answers), Section::new(Source::Error, "the error", others)]
}
