//! Names that several modules share: of objects on the engine, in the clusters and in certificates.

use std::fmt;

/// Returns the name of an environment's Docker network.
pub fn network_name(environment: &str) -> String {
    format!("kindmesh-{environment}")
}

/// Returns the name of the Docker network without containers that says what became of a cluster.
pub fn register_name(environment: &str, cluster: &str) -> String {
    format!("{}.{cluster}", network_name(environment))
}

/// Returns kind's name for a cluster of an environment.
pub fn kind_name(environment: &str, cluster: &str) -> String {
    format!("{environment}-{cluster}")
}

/// Returns the context of a cluster that exists in the environment's kubeconfig.
pub fn existing_context(environment: &str, cluster: &str) -> String {
    format!("kindmesh-{environment}-{cluster}")
}

/// Returns kind's name for the first control plane of a cluster.
pub fn control_plane_name(kind_name: &str) -> String {
    format!("{kind_name}-control-plane")
}

/// The port of the API server on nodes that kind creates.
pub const API_PORT: u16 = 6443;
/// The name of the caller's Deployment, Service and service account.
pub const CALLER_NAME: &str = "sample-caller";
/// The name of the producer's Deployment, Service and service account.
pub const PRODUCER_NAME: &str = "sample-producer";
/// The port of both Services for HTTP.
pub const PORT: u16 = 8080;
/// The producer's port for HTTP/2.
pub const HTTP2_PORT: u16 = 8081;
/// The producer's port for gRPC.
pub const GRPC_PORT: u16 = 8082;
/// The producer's port for TCP.
pub const TCP_PORT: u16 = 9000;

/// Istio's namespace.
pub const ISTIO_NAMESPACE: &str = "istio-system";
/// The name of the Deployment and the Service of an east-west gateway, as in Istio's documentation.
pub const GATEWAY: &str = "istio-eastwestgateway";
/// The port of an east-west gateway for calls from other networks.
pub const GATEWAY_PORT: u16 = 15443;

/// The label that identifies objects of the samples.
pub const PART_OF_LABEL: &str = "app.kubernetes.io/part-of";
/// The value of that label.
pub const PART_OF: &str = "kindmesh-samples";

/// The subject of a certificate that kindmesh issues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// `O`.
    pub organization: &'static str,
    /// `CN`.
    pub common_name: String,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "O={}, CN={}", self.organization, self.common_name)
    }
}

/// Returns the subject of a cluster's intermediate CA, or without a cluster, of the environment's root CA.
pub fn subject(environment: &str, cluster: Option<&str>) -> Subject {
    let common_name = match cluster {
        Some(cluster) => format!("{environment} {cluster} intermediate"),
        None => format!("{environment} root"),
    };
    Subject { organization: "kindmesh", common_name }
}
