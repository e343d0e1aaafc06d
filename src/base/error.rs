//! What can go wrong, as the user sees it: what failed, why, the evidence, the next command.

use std::fmt;

/// The kinds of failure that a caller tells apart; each has its exit status (docs/reference.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The environment failed, or there is none. Exit status 1.
    Environment,
    /// Wrong usage or a wrong spec, one in conflict with the engine's networks included. Exit status 2.
    Usage,
    /// A check or an expectation failed. Exit status 3.
    Check,
    /// A prerequisite is missing. Exit status 4.
    Prerequisite,
}

impl Kind {
    /// The exit status of a command that fails this way.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Environment => 1,
            Kind::Usage => 2,
            Kind::Check => 3,
            Kind::Prerequisite => 4,
        }
    }
}

/// A failure with what the user needs to act on it.
///
/// Travels inside [`anyhow::Error`]; contexts added on the way up are shown before it.
#[derive(Debug)]
pub struct Error {
    /// Which exit status it leads to.
    pub kind: Kind,
    /// What failed and why, one sentence in lower case without a full stop.
    pub message: String,
    /// What was seen: the last status, the end of a log, the output of a child process.
    pub evidence: Vec<String>,
    /// The next thing to do, with the command to type.
    pub hint: Option<String>,
    /// The cause's name, where it is one that is known (docs/troubleshooting.md).
    pub cause: Option<&'static str>,
}

impl Error {
    /// A failure of the given kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), evidence: Vec::new(), hint: None, cause: None }
    }

    /// Wrong usage or a wrong spec.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// The environment failed.
    pub fn environment(message: impl Into<String>) -> Self {
        Self::new(Kind::Environment, message)
    }

    /// Something that has to be there before is missing.
    pub fn prerequisite(message: impl Into<String>) -> Self {
        Self::new(Kind::Prerequisite, message)
    }

    /// Adds what was seen; multi-line text becomes one item a line.
    #[must_use]
    pub fn evidence(mut self, evidence: impl AsRef<str>) -> Self {
        self.evidence.extend(evidence.as_ref().lines().map(str::to_owned));
        self
    }

    /// Says what to do next.
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

/// Finds the [`Error`] that an [`anyhow::Error`] carries, if any: as a cause, or as a context.
pub fn find(error: &anyhow::Error) -> Option<&Error> {
    error.chain().find_map(|cause| cause.downcast_ref::<Error>()).or_else(|| error.downcast_ref::<Error>())
}

/// What an error and its causes say, each once and in their own words: an API server's answer is its message, without the
/// client's name for it and the whole answer behind it.
pub fn messages(error: &anyhow::Error) -> Vec<String> {
    let mut messages: Vec<String> = Vec::new();
    for cause in error.chain() {
        let message = match cause.downcast_ref::<kube::Error>() {
            Some(kube::Error::Api(answer)) => {
                messages.push(answer.message.clone());
                break;
            }
            // Its cause says the same.
            Some(kube::Error::Service(_)) => continue,
            _ => cause.to_string(),
        };
        // Many libraries repeat their source in their own message.
        if !messages.last().is_some_and(|last| last.contains(&message)) {
            messages.push(message);
        }
    }
    messages
}

/// [`messages`] in one line.
pub fn brief(error: impl Into<anyhow::Error>) -> String {
    messages(&error.into()).join(": ")
}

/// The exit status for any error: that of the [`Error`] it carries, else 1.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    find(error).map_or(Kind::Environment, |e| e.kind).exit_code()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_an_api_server_is_told_by_its_message() {
        let status = kube::core::Status::failure("pods is forbidden", "Forbidden").with_code(403);
        let error = anyhow::Error::from(kube::Error::Api(status.boxed()));
        assert_eq!(brief(error.context("listing pods")), "listing pods: pods is forbidden");
    }

    #[test]
    fn what_is_said_twice_is_told_once() {
        let closed = std::io::Error::other("connection closed");
        let error = anyhow::Error::from(kube::Error::Service(Box::new(closed)));
        assert_eq!(brief(error), "connection closed");
        assert_eq!(brief(anyhow::anyhow!("closed").context("it closed").context("closed")), "closed: it closed");
    }
}
