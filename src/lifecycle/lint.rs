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

mod breaker;
mod levels;
mod mesh;
mod network;
mod notes;
mod port_name;
mod rule;
#[cfg(test)]
mod testing;

#[cfg(feature = "cli")]
pub use check::{Mistake, Placement, RULES, Report, lint};
pub use notes::notes;
#[cfg(feature = "cli")]
pub use rule::Severity;
