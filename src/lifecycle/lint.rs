//! Finds mistakes in manifests that only show in a mesh, without a cluster.
//!
//! ```text
//! files ─► read ─► judge ─► locate ─► report
//! ```
//!
//! The judges are pure functions of the objects, one file for each rule. A rule reports only what the manifests themselves
//! show to be wrong; what depends on something else is a note, or nothing.

#[cfg(feature = "cli")]
mod check;
#[cfg(feature = "cli")]
mod failover;
#[cfg(feature = "cli")]
mod host;
#[cfg(feature = "cli")]
mod network;
#[cfg(feature = "cli")]
mod policy;
#[cfg(feature = "cli")]
mod port;
#[cfg(feature = "cli")]
mod protocol;
#[cfg(feature = "cli")]
mod read;
#[cfg(feature = "cli")]
mod routes;
#[cfg(feature = "cli")]
mod subset;
#[cfg(feature = "cli")]
mod timeout;

pub mod breaker;
mod levels;
mod mesh;
mod rule;
#[cfg(test)]
mod testing;

#[cfg(feature = "cli")]
pub use check::{Mistake, RULES, Report, lint};
#[cfg(feature = "cli")]
pub use read::Placement;
#[cfg(feature = "cli")]
pub use rule::Severity;
