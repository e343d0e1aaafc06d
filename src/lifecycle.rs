//! What makes, changes, rests and removes an environment.

pub mod cache;
pub mod deploy;
pub mod down;
pub mod offline;
pub mod pause;
pub mod prove;
pub mod render;
pub mod start;
pub mod up;
