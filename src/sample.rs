//! The sample services: a caller and a producer that speak several protocols, to generate traffic for a mesh.
//!
//! They know nothing about Kubernetes, a mesh or a second cluster: the caller sends requests to the configured name,
//! and both return what they received.
//!
//! ```text
//!   a browser or `kindmesh call`
//!        │ POST /caller/messages
//!        ▼
//!   caller ── POST /producer/messages, or another protocol ──► producer
//! ```
//!
//! - `protocol`: the JSON on the wire
//! - `protocols`: the protocols of a call, and the producer's ports
//! - `url`: the URL of a service
//! - `serve`: the services themselves

mod metadata;
mod protocol;
mod protocols;
#[cfg(feature = "cli")]
mod serve;
mod url;

pub use metadata::Metadata;
pub use protocol::{
    ApiServer, Called, CallerAnswer, Calls, Count, Load, LoadProgress, Message, Probe, Probed, ProducerAnswer,
    Refusal, Sent,
};
pub use protocols::{Ports, Protocol, STREAM_RESPONSES};
#[cfg(feature = "cli")]
pub use serve::{Options, Role, Server, serve};
pub use url::{ProducerUrl, ProducerUrlError};
