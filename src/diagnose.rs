//! What looks and judges: prerequisites, checks, causes, layers, logs.

pub mod bundle;
pub mod diagnosis;
pub mod doctor;
pub mod logs;
pub mod status;
pub mod verify;
pub mod why;
