//! Everything inside the clusters: the mesh, the link between clusters, workloads, policies and calls.

pub mod call;
pub mod client;
pub mod ejection;
pub mod environment;
pub mod exec;
pub mod existing;
pub mod fault;
#[cfg(feature = "cli")]
pub mod forward;
pub mod kinds;
pub mod lease;
pub mod link;
pub mod mesh;
pub mod network_policy;
pub mod objects;
pub mod pods;
#[cfg(feature = "cli")]
pub mod policies;
pub mod probes;
pub mod refusal;
pub mod rollout;
pub mod workloads;
