//! What is built on all of it: the exercises, the library for tests, the page.

#[cfg(feature = "cli")]
pub mod labs;
pub mod testing;
#[cfg(feature = "cli")]
pub mod ui;
