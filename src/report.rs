//! From events to output: what happens reaches a person as lines or a live display, a program as JSON.
//!
//! The work sends [`Event`](crate::base::event::Event)s; [`show`] hands each to one [`Sink`] until all work has ended.
//! Sinks write through the [`Printer`] only: stdout is for results, stderr for progress.

mod escape;
pub mod failure;
pub mod findings;
pub mod gantt;
pub mod github;
pub mod json;
mod live;
mod look;
mod page;
mod plain;
mod printer;
mod running;
mod sink;
mod style;
mod table;
#[cfg(test)]
pub(crate) mod testing;
pub mod timeline;
mod titles;
pub mod verdicts;

pub use printer::{ColorChoice, Printer, Surroundings, Verbosity};
pub use sink::{Output, Several, show, sink, spawn};
pub use style::Style;
pub use table::Table;
pub use titles::{Title, title};
