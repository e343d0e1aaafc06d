//! The mesh in one cluster: rendering, applying, trust and introspection.

pub mod apply;
pub mod cacerts;
pub mod envoy;
pub mod gateway;
pub mod istio;
pub mod istiod;
pub mod pod;
pub mod primary;
pub mod reach;
pub mod remote;
pub mod render;
pub mod roots;
pub mod withdraw;

pub use crate::base::names::ISTIO_NAMESPACE;
pub use pod::PodConnection;
