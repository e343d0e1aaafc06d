//! Building blocks for all layers: errors, events, waits, interrupts, counts, verdicts, names and YAML.

pub mod blocking;
pub mod counts;
pub mod difference;
pub mod digest;
pub mod error;
pub mod event;
pub mod hint;
pub mod interrupt;
pub mod names;
pub mod verdict;
pub mod wait;
pub mod yaml;
