//! What is in the clusters: the mesh, the link between them, workloads, policies and calls.

pub mod call;
pub mod environment;
#[cfg(feature = "cli")]
pub mod forward;
pub mod lease;
pub mod link;
pub mod mesh;
#[cfg(feature = "cli")]
pub mod policies;
pub mod probes;
pub mod workloads;
