//! Errors for the user: what failed and why, with evidence and a hint.

use std::fmt;

/// The kinds of failure. Each has its own exit status (docs/reference.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The environment failed or does not exist. Exit status 1.
    Environment,
    /// Invalid usage or an invalid spec, including one that conflicts with the engine's networks. Exit status 2.
    Usage,
    /// A check or an expectation failed. Exit status 3.
    Check,
    /// A prerequisite is missing. Exit status 4.
    Prerequisite,
}

impl Kind {
    /// Returns the exit status of a command that fails this way.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Environment => 1,
            Kind::Usage => 2,
            Kind::Check => 3,
            Kind::Prerequisite => 4,
        }
    }
}

/// A failure with the information that the user needs to act on it.
///
/// It is carried inside an [`anyhow::Error`]; contexts added to that are shown before the message.
#[derive(Debug)]
pub struct Error {
    /// The kind, which decides the exit status.
    pub kind: Kind,
    /// What failed and why: one sentence in lower case without a period.
    pub message: String,
    /// Recorded output: the last status, the end of a log, the output of a child process.
    pub evidence: Vec<String>,
    /// What to do next, with the command to run.
    pub hint: Option<String>,
    /// The id of the cause, if it is known (docs/troubleshooting.md).
    pub cause: Option<&'static str>,
}

impl Error {
    /// Creates an error of the given kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), evidence: Vec::new(), hint: None, cause: None }
    }

    /// Creates an error for invalid usage or an invalid spec.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// Creates an error for an environment that failed.
    pub fn environment(message: impl Into<String>) -> Self {
        Self::new(Kind::Environment, message)
    }

    /// Creates an error for a missing prerequisite.
    pub fn prerequisite(message: impl Into<String>) -> Self {
        Self::new(Kind::Prerequisite, message)
    }

    /// Adds evidence; each line of the text becomes one item.
    #[must_use]
    pub fn evidence(mut self, evidence: impl AsRef<str>) -> Self {
        self.evidence.extend(evidence.as_ref().lines().map(str::to_owned));
        self
    }

    /// Sets the hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// Returns the [`Error`] that an [`anyhow::Error`] carries as a cause or as context, if any.
pub fn find(error: &anyhow::Error) -> Option<&Error> {
    error.chain().find_map(|cause| cause.downcast_ref::<Error>()).or_else(|| error.downcast_ref::<Error>())
}

/// Returns the messages of an error and its causes without repetitions. Of an API server's status only the message is
/// used, without the prefix and the full status that the client adds.
pub fn messages(error: &anyhow::Error) -> Vec<String> {
    let mut messages: Vec<String> = Vec::new();
    for cause in error.chain() {
        let message = match cause.downcast_ref::<kube::Error>() {
            Some(kube::Error::Api(answer)) => {
                messages.push(answer.message.clone());
                break;
            }
            // Its cause has the same message.
            Some(kube::Error::Service(_)) => continue,
            _ => cause.to_string(),
        };
        // Many libraries repeat the message of their source.
        if !messages.last().is_some_and(|last| last.contains(&message)) {
            messages.push(message);
        }
    }
    messages
}

/// Returns [`messages`] as one line.
pub fn brief(error: impl Into<anyhow::Error>) -> String {
    messages(&error.into()).join(": ")
}

/// Returns the exit status for any error: that of the [`Error`] it carries, else 1.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    find(error).map_or(Kind::Environment, |e| e.kind).exit_code()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_error_is_shown_by_its_message() {
        let status = kube::core::Status::failure("pods is forbidden", "Forbidden").with_code(403);
        let error = anyhow::Error::from(kube::Error::Api(status.boxed()));
        assert_eq!(brief(error.context("listing pods")), "listing pods: pods is forbidden");
    }

    #[test]
    fn repeated_evidence_is_shown_once() {
        let closed = std::io::Error::other("connection closed");
        let error = anyhow::Error::from(kube::Error::Service(Box::new(closed)));
        assert_eq!(brief(error), "connection closed");
        assert_eq!(brief(anyhow::anyhow!("closed").context("it closed").context("closed")), "closed: it closed");
    }
}
