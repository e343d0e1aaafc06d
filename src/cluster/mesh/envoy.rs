//! Proxies: reads and parses the pages of Envoy's admin interface.

use kube::Client;

use crate::cluster::exec::exec;

pub mod config_dump;
pub mod stats;

/// The name of the proxy's container.
pub const CONTAINER: &str = "istio-proxy";
/// The port of the admin interface, which listens only inside the pod.
pub const ADMINISTRATION: u16 = 15000;
/// The most useful pages, each with its format.
pub const PAGES: [(&str, &str); 4] =
    [("config_dump", "json"), ("clusters", "txt"), ("certs", "json"), ("stats", "txt")];

/// Returns a page of the proxy in a pod.
///
/// # Errors
/// If it does not respond.
pub async fn page(client: &Client, namespace: &str, pod: &str, page: &str) -> anyhow::Result<String> {
    exec(client, namespace, pod, CONTAINER, &["pilot-agent", "request", "GET", page]).await
}

/// Returns the name of the Envoy cluster for a port of a host.
pub fn outbound(port: u16, host: &str) -> String {
    format!("outbound|{port}||{host}")
}

/// Returns the name of an east-west gateway's cluster for a port of a host, which is also the SNI that selects it.
pub fn through_gateway(port: u16, host: &str) -> String {
    format!("outbound_.{port}_._.{host}")
}

/// An endpoint in the page `clusters`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint<'a> {
    /// The name of its Envoy cluster.
    pub of: &'a str,
    /// Its address, as `address:port`.
    pub address: &'a str,
    /// Its health: `healthy`, or flags such as `/failed_outlier_check`.
    pub health: &'a str,
}

/// Returns the endpoints in the page `clusters`: lines `CLUSTER::ADDRESS::health_flags::FLAGS`.
pub fn endpoints(said: &str) -> impl Iterator<Item = Endpoint<'_>> {
    said.lines().filter_map(|line| {
        let (before, health) = line.split_once("::health_flags::")?;
        let (of, address) = before.rsplit_once("::")?;
        Some(Endpoint { of, address, health })
    })
}

/// Returns the addresses of an Envoy cluster's healthy endpoints in the page `clusters`.
pub fn healthy(said: &str, cluster: &str) -> Vec<String> {
    let of = endpoints(said).filter(|endpoint| endpoint.of == cluster && endpoint.health == "healthy");
    of.map(|endpoint| endpoint.address.to_owned()).collect()
}

/// Returns the healthy endpoints of a host in a pod's proxy, as `address:port`.
///
/// # Errors
/// If the proxy does not respond.
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
