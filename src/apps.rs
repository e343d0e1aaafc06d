//! What is built on all other layers: the exercises, the library, its part for tests, the dashboard.

pub mod environment;
#[cfg(feature = "cli")]
pub mod labs;
pub mod testing;
#[cfg(feature = "cli")]
pub mod ui;
