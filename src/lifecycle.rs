//! Commands that create, change, pause, stop and delete an environment, and that read manifests.

#[cfg(feature = "cli")]
pub mod cache;
pub mod deploy;
pub mod down;
#[cfg(feature = "cli")]
pub mod experiment;
pub mod fault;
pub mod lint;
pub mod locked;
#[cfg(feature = "cli")]
pub mod offline;
pub mod pause;
pub mod prove;
#[cfg(feature = "cli")]
pub mod render;
pub mod snapshot;
pub mod start;
pub mod up;
