//! From events to output: lines or a live display for people, JSON for programs.
//!
//! The work sends [`Event`](crate::base::event::Event)s; [`show`] passes each to one [`Sink`] until the channel
//! ends. Sinks write only through the [`Printer`]: stdout is for results, stderr for progress.

#[cfg(feature = "cli")]
pub mod changes;
#[cfg(feature = "cli")]
mod escape;
#[cfg(feature = "cli")]
pub mod experiment;
pub mod failure;
#[cfg(feature = "cli")]
pub mod figures;
#[cfg(feature = "cli")]
mod file;
#[cfg(feature = "cli")]
pub mod findings;
#[cfg(feature = "cli")]
pub mod gantt;
#[cfg(feature = "cli")]
pub mod github;
#[cfg(feature = "cli")]
pub mod json;
#[cfg(feature = "cli")]
pub mod lint;
#[cfg(feature = "cli")]
mod live;
#[cfg(feature = "cli")]
mod look;
#[cfg(feature = "cli")]
mod page;
#[cfg(feature = "cli")]
mod plain;
mod printer;
#[cfg(feature = "cli")]
mod running;
#[cfg(feature = "cli")]
mod sink;
mod style;
#[cfg(feature = "cli")]
mod table;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(feature = "cli")]
pub mod timeline;
#[cfg(feature = "cli")]
mod titles;
#[cfg(feature = "cli")]
pub mod verdicts;

pub use printer::{ColorChoice, Printer, Verbosity};
#[cfg(feature = "cli")]
pub use sink::{Output, Several, sink, spawn};
pub use style::Style;
#[cfg(feature = "cli")]
pub use table::Table;
#[cfg(feature = "cli")]
pub use titles::title;
