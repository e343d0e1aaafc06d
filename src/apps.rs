//! What is built on all of it: the exercises, the library, its part for tests, the page.

pub mod environment;
#[cfg(feature = "cli")]
pub mod labs;
pub mod testing;
#[cfg(feature = "cli")]
pub mod ui;
