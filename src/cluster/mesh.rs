//! The mesh in one cluster: rendered, applied, trusted, and what it says of itself.

pub mod apply;
pub mod cacerts;
pub mod envoy;
pub mod istio;
pub mod istiod;
pub mod pod;
pub mod remote;
pub mod render;

/// Where Istio's control plane lives.
pub const ISTIO_NAMESPACE: &str = "istio-system";
pub use pod::PodConnection;
