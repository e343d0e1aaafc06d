//! Inspects and judges: prerequisites, checks, causes, layers, logs.

pub mod bundle;
pub mod diagnosis;
pub mod doctor;
#[cfg(feature = "cli")]
pub mod logs;
pub mod status;
#[cfg(feature = "cli")]
pub mod verify;
#[cfg(feature = "cli")]
pub mod why;
