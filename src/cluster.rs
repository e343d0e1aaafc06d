//! What is in the clusters: the mesh, the link between them, workloads, policies and calls.

pub mod call;
pub mod environment;
pub mod forward;
pub mod lease;
pub mod link;
pub mod mesh;
pub mod policies;
pub mod probes;
pub mod workloads;
