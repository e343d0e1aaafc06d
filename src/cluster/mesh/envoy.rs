//! What proxies say of themselves: the pages of Envoy's administration interface, and reading them.

use kube::Client;

use crate::cluster::exec::exec;

pub mod config_dump;
pub mod stats;

/// The container of the proxy in a pod.
pub const CONTAINER: &str = "istio-proxy";
/// The port of the administration interface, which listens inside its pod alone.
pub const ADMINISTRATION: u16 = 15000;
/// The pages that tell most, with the form of each.
pub const PAGES: [(&str, &str); 4] =
    [("config_dump", "json"), ("clusters", "txt"), ("certs", "json"), ("stats", "txt")];

/// A page of the proxy in a pod.
///
/// # Errors
/// When it gives no answer.
pub async fn page(client: &Client, namespace: &str, pod: &str, page: &str) -> anyhow::Result<String> {
    exec(client, namespace, pod, CONTAINER, &["pilot-agent", "request", "GET", page]).await
}

/// Envoy's name for the endpoints of a port of a host.
pub fn outbound(port: u16, host: &str) -> String {
    format!("outbound|{port}||{host}")
}

/// An endpoint of the page `clusters`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint<'a> {
    /// Envoy's name for those it is one of.
    pub of: &'a str,
    /// `address:port`.
    pub address: &'a str,
    /// `healthy`, or what is wrong, such as `/failed_outlier_check`.
    pub health: &'a str,
}

/// The endpoints of the page `clusters`: lines `CLUSTER::ADDRESS::health_flags::FLAGS`.
pub fn endpoints(said: &str) -> impl Iterator<Item = Endpoint<'_>> {
    said.lines().filter_map(|line| {
        let (before, health) = line.split_once("::health_flags::")?;
        let (of, address) = before.rsplit_once("::")?;
        Some(Endpoint { of, address, health })
    })
}

/// The addresses of a cluster's healthy endpoints in the page `clusters`.
pub fn healthy(said: &str, cluster: &str) -> Vec<String> {
    let of = endpoints(said).filter(|endpoint| endpoint.of == cluster && endpoint.health == "healthy");
    of.map(|endpoint| endpoint.address.to_owned()).collect()
}

/// The endpoints that a pod's proxy has for a host and are healthy, as `address:port`.
///
/// # Errors
/// When the proxy gives no answer.
pub async fn healthy_endpoints(
    client: &Client,
    namespace: &str,
    pod: &str,
    host: &str,
    port: u16,
) -> anyhow::Result<Vec<String>> {
    let said = page(client, namespace, pod, "clusters").await?;
    Ok(healthy(&said, &outbound(port, host)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn healthy_endpoints_of_one_cluster_are_read() {
        let said = "outbound|8080||a.b::10.0.0.1:8080::health_flags::healthy\n\
            outbound|8080||a.b::10.0.0.2:8080::health_flags::/failed_outlier_check\n\
            outbound|8080||a.b::10.0.0.1:8080::weight::1\n\
            outbound|8080||a.bc::10.0.0.3:8080::health_flags::healthy\n";
        assert_eq!(healthy(said, &outbound(8080, "a.b")), ["10.0.0.1:8080"]);
        let health: Vec<_> = endpoints(said).map(|endpoint| endpoint.health).collect();
        assert_eq!(health, ["healthy", "/failed_outlier_check", "healthy"]);
    }
}
