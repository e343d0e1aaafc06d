//! Why an engine cannot be used: a reason for who branches on it, and the error for who reads it.

use std::fmt;

use crate::base::error::Error;

/// Why an engine cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// What names it (a context, an address, TLS files) is wrong.
    Address,
    /// It is on another machine.
    Remote,
    /// Nothing answers where it should be.
    Absent,
    /// This user may not talk to it.
    NotAllowed,
    /// It takes the connection and does not answer in time.
    Silent,
    /// It speaks too old a version of the API.
    TooOld,
    /// It has no IPv4.
    OnlyIpv6,
}

/// An engine that cannot be used.
#[derive(Debug)]
pub struct Refused {
    /// Why, in short.
    pub reason: Reason,
    /// Why, with the evidence and the next command.
    pub error: Error,
}

impl Refused {
    /// Gives an error its reason.
    pub(crate) fn new(reason: Reason, error: Error) -> Self {
        Self { reason, error }
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        refused.error
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Refused {}
