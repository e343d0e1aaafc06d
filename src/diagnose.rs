//! Diagnosis: prerequisites, checks, status, logs, known causes, and the support archive.

#[cfg(feature = "cli")]
pub mod bench;
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
