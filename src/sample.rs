//! The sample services: a caller and a producer that talk plain HTTP, so that a mesh has something to carry.
//!
//! Nothing in them knows of Kubernetes, of a mesh or of a second cluster: the caller sends to the name it was
//! given, and both tell what they saw.
//!
//! ```text
//!   a person or `kindmesh call`
//!        │ POST /caller/messages
//!        ▼
//!   caller ── POST /producer/messages ──► producer
//! ```
//!
//! - `protocol`: the JSON that goes over the wire
//! - `url`: where a service is called
//! - `serve`: the services themselves

mod metadata;
mod protocol;
#[cfg(feature = "cli")]
mod serve;
mod url;

pub use metadata::Metadata;
pub use protocol::{CallerAnswer, Count, Message, Probe, Probed, ProducerAnswer, Refusal};
#[cfg(feature = "cli")]
pub use serve::{Options, Role, Server, serve};
pub use url::{ProducerUrl, ProducerUrlError};
