//! Why an engine cannot be used: a reason for code that branches on it, and the error for the user.

use std::fmt;

use crate::base::error::Error;

/// Why an engine cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Its setting (a context, an address, TLS files) is wrong.
    Address,
    /// It is on another host.
    Remote,
    /// Nothing responds at its address.
    Absent,
    /// This user may not access it.
    NotAllowed,
    /// It accepts the connection, but does not respond in time.
    Silent,
    /// Its API is too old.
    TooOld,
    /// It has no IPv4.
    OnlyIpv6,
}

/// An engine that cannot be used.
#[derive(Debug)]
pub struct Refused {
    /// The reason.
    pub reason: Reason,
    /// The error, with the evidence and the next command.
    pub error: Error,
}

impl Refused {
    /// Adds a reason to an error.
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
