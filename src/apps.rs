//! What is built on all of it: the exercises, the library for tests, the page.

pub mod labs;
pub mod testing;
pub mod ui;
