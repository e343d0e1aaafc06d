//! The sample services: a caller and a producer that use plain HTTP, as traffic for a mesh.
//!
//! They know nothing of Kubernetes, a mesh or a second cluster: the caller sends to the configured name, and both
//! return what they saw.
//!
//! ```text
//!   a person or `kindmesh call`
//!        │ POST /caller/messages
//!        ▼
//!   caller ── POST /producer/messages ──► producer
//! ```
//!
//! - `protocol`: the JSON that goes over the wire
//! - `url`: the URL of a service
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
