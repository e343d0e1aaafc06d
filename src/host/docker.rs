//! The container engine, through its API: networks, nodes, images.

pub mod bake;
pub mod credentials;
pub mod endpoint;
pub mod engine;
pub mod file;
pub mod image;
pub mod image_marks;
pub mod network;
pub mod node;
mod pull;
mod refused;
pub mod sample_image;

pub use engine::Engine;
pub use refused::{Reason, Refused};

/// Whether an engine's error says that the object does not exist.
pub(crate) fn is_not_found(error: &bollard::errors::Error) -> bool {
    status(error) == Some(404)
}

/// Returns the HTTP status of an engine's error, if the engine responded.
pub(crate) fn status(error: &bollard::errors::Error) -> Option<u16> {
    match error {
        bollard::errors::Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}
