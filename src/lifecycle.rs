//! What makes, changes, rests and removes an environment.

#[cfg(feature = "cli")]
pub mod cache;
pub mod deploy;
pub mod down;
pub mod hold;
#[cfg(feature = "cli")]
pub mod offline;
pub mod pause;
pub mod prove;
#[cfg(feature = "cli")]
pub mod render;
pub mod start;
pub mod up;
