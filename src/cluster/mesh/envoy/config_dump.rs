//! A proxy's configuration: Envoy's admin page `config_dump`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use base64::Engine;
use kube::Client;
use serde_json::Value;

use crate::cluster::ejection;

/// Returns one part of the configuration of the proxy in a pod, such as `dynamic_route_configs`.
///
/// # Errors
/// If the proxy does not respond, or the response cannot be parsed.
pub async fn part(client: &Client, namespace: &str, pod: &str, resource: &str) -> anyhow::Result<Value> {
    let said = super::page(client, namespace, pod, &format!("config_dump?resource={resource}")).await?;
    serde_json::from_str(&said).with_context(|| format!("reading {resource} of the proxy of {pod}"))
}

/// An HTTP route.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Route {
    /// The Envoy clusters that it routes to; more than one if it splits calls.
    pub clusters: Vec<String>,
    /// The status of a direct response, if any.
    pub direct: Option<u64>,
    /// The timeout of a call, if any.
    pub timeout: Option<String>,
    /// The VirtualService that defines it.
    pub virtual_service: Option<String>,
    /// The share of calls that fault injection aborts, in percent.
    pub aborts: f64,
}

/// The protocol that a proxy uses to endpoints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Transport {
    /// Mutual TLS to endpoints with a proxy, plain text to others.
    Automatic,
    /// TLS to all endpoints.
    Tls,
    /// Plain text to all endpoints.
    #[default]
    Plain,
}

/// Returns the first HTTP route for a host, port and path in a dump of dynamic route configurations.
pub fn route(dump: &Value, host: &str, port: u16, path: &str) -> Option<Route> {
    let configs = dump["configs"].as_array().into_iter().flatten();
    let mut tables = configs.map(|config| &config["route_config"]);
    // Outbound HTTP has a route table for each port, named after it, or for a host that shares a port with others.
    let named = |table: &&Value| {
        let name = table["name"].as_str().unwrap_or_default();
        name == port.to_string() || name == format!("{host}:{port}")
    };
    let table = tables.find(named)?;
    let is_hosts = |virtual_host: &&Value| {
        let domains = virtual_host["domains"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let with_port = format!("{host}:{port}");
        domains.into_iter().any(|domain| domain == host || domain == with_port)
    };
    let found = table["virtual_hosts"].as_array()?.iter().find(is_hosts)?;
    let routes = found["routes"].as_array()?;
    routes.iter().find(|route| fits(&route["match"], path)).map(read)
}

fn fits(matches: &Value, path: &str) -> bool {
    let bare = path.split('?').next().unwrap_or_default();
    // Matches on headers or query parameters cannot be evaluated: skip such routes.
    if matches.get("headers").is_some() || matches.get("query_parameters").is_some() {
        return false;
    }
    match (matches["prefix"].as_str(), matches["path"].as_str(), matches["path_separated_prefix"].as_str()) {
        (Some(prefix), _, _) => bare.starts_with(prefix),
        (_, Some(exact), _) => bare == exact,
        (_, _, Some(prefix)) => bare == prefix || bare.starts_with(&format!("{prefix}/")),
        _ => true,
    }
}

fn read(route: &Value) -> Route {
    let action = &route["route"];
    let weighted = action.pointer("/weighted_clusters/clusters").and_then(Value::as_array);
    let mut clusters: Vec<String> = action["cluster"].as_str().map(str::to_owned).into_iter().collect();
    clusters.extend(weighted.into_iter().flatten().filter_map(|one| one["name"].as_str().map(str::to_owned)));
    Route {
        clusters,
        direct: route.pointer("/direct_response/status").and_then(Value::as_u64),
        // In Envoy, 0s means no timeout.
        timeout: action["timeout"].as_str().filter(|timeout| *timeout != "0s").map(str::to_owned),
        virtual_service: virtual_service(route),
        aborts: aborts(route),
    }
}

/// Returns the VirtualService in istiod's metadata of a route: `…/namespaces/shop/virtual-service/orders`.
fn virtual_service(route: &Value) -> Option<String> {
    let config = route.pointer("/metadata/filter_metadata/istio/config")?.as_str()?;
    let (before, name) = config.split_once("/virtual-service/")?;
    let namespace = before.rsplit('/').next()?;
    Some(format!("{name} -n {namespace}"))
}

/// Returns the share of calls that a route's fault injection aborts.
fn aborts(route: &Value) -> f64 {
    let fault = route.pointer("/typed_per_filter_config/envoy.filters.http.fault/abort/percentage");
    let Some(share) = fault else { return 0.0 };
    let of = match share["denominator"].as_str() {
        Some("MILLION") => 1_000_000.0,
        Some("TEN_THOUSAND") => 10_000.0,
        _ => 100.0,
    };
    share["numerator"].as_f64().unwrap_or_default() / of * 100.0
}

/// Returns the addresses of the listeners on a port in a dump of dynamic listeners that forward TCP connections, each with
/// where it forwards them.
pub fn listeners(dump: &Value, port: u16) -> Vec<(String, Route)> {
    let configs = dump["configs"].as_array().into_iter().flatten();
    let active = configs.filter_map(|config| config.pointer("/active_state/listener"));
    let found = active.filter_map(|listener| {
        let socket = listener.pointer("/address/socket_address")?;
        let address = socket["address"].as_str()?.to_owned();
        (socket["port_value"].as_u64() == Some(port.into())).then_some((address, listener))
    });
    let mut routes = Vec::new();
    for (address, listener) in found {
        let chains = listener["filter_chains"].as_array().into_iter().flatten();
        for chain in chains.chain(listener.get("default_filter_chain")) {
            routes.extend(forwarded(chain).map(|route| (address.clone(), route)));
        }
    }
    routes
}

/// Returns where a filter chain forwards TCP connections, if it does.
fn forwarded(chain: &Value) -> Option<Route> {
    let filters = chain["filters"].as_array()?;
    let config =
        &filters.iter().find(|filter| filter["name"] == "envoy.filters.network.tcp_proxy")?["typed_config"];
    let weighted = config.pointer("/weighted_clusters/clusters").and_then(Value::as_array);
    let mut clusters: Vec<String> = config["cluster"].as_str().map(str::to_owned).into_iter().collect();
    clusters.extend(weighted.into_iter().flatten().filter_map(|one| one["name"].as_str().map(str::to_owned)));
    let is_outbound = clusters.iter().any(|cluster| cluster.starts_with("outbound|"));
    is_outbound.then(|| Route { clusters, virtual_service: virtual_service(chain), ..Route::default() })
}

/// Returns the transport of each Envoy cluster in a dump of active clusters.
pub fn transports(dump: &Value) -> BTreeMap<String, Transport> {
    let configs = dump["configs"].as_array().into_iter().flatten();
    let named = |config: &Value| {
        let cluster = &config["cluster"];
        let transport =
            if cluster["transport_socket_matches"].as_array().is_some_and(|matches| !matches.is_empty()) {
                Transport::Automatic
            } else if cluster["transport_socket"]["name"].as_str().is_some_and(|name| name.contains("tls")) {
                Transport::Tls
            } else {
                Transport::Plain
            };
        Some((cluster["name"].as_str()?.to_owned(), transport))
    };
    configs.filter_map(named).collect()
}

/// Returns the Envoy clusters that forward connections to the address that the client connects to, in a dump of active clusters.
pub fn passes_through(dump: &Value) -> BTreeSet<String> {
    let configs = dump["configs"].as_array().into_iter().flatten().map(|config| &config["cluster"]);
    let found = configs.filter(|cluster| cluster["type"] == "ORIGINAL_DST");
    found.filter_map(|cluster| cluster["name"].as_str().map(str::to_owned)).collect()
}

/// Returns the percentage of endpoints that outlier detection may eject, for each Envoy cluster that has outlier detection, in
/// a dump of active clusters.
pub fn ejectable(dump: &Value) -> BTreeMap<String, u64> {
    let configs = dump["configs"].as_array().into_iter().flatten().map(|config| &config["cluster"]);
    let found = configs.filter(|cluster| cluster["outlier_detection"].is_object());
    let named = |cluster: &Value| {
        let percent = cluster["outlier_detection"]["max_ejection_percent"].as_u64();
        Some((cluster["name"].as_str()?.to_owned(), percent.unwrap_or(ejection::DEFAULT_PERCENT)))
    };
    found.filter_map(named).collect()
}

/// Returns a secret of a proxy in PEM; `path` is the JSON pointer to its bytes.
fn secret(dump: &Value, name: &str, path: &str) -> Option<Vec<u8>> {
    let found = dump["configs"].as_array()?.iter().find(|secret| secret["name"] == name)?;
    base64::engine::general_purpose::STANDARD.decode(found.pointer(path)?.as_str()?).ok()
}

/// Returns the certificate chain of a proxy from a dump of `dynamic_active_secrets`, in PEM.
pub fn chain(dump: &Value) -> Option<Vec<u8>> {
    secret(dump, "default", "/secret/tls_certificate/certificate_chain/inline_bytes")
}

/// Returns the root certificates that a proxy trusts, from the same dump.
pub fn roots(dump: &Value) -> Option<Vec<u8>> {
    secret(dump, "ROOTCA", "/secret/validation_context/trusted_ca/inline_bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn route_is_found_by_host_port_and_path() {
        let host = "orders.shop.svc.cluster.local";
        let pool = format!("outbound|8080||{host}");
        let dump = json!({"configs": [{"route_config": {"name": "9090"}}, {"route_config": {"name": "8080",
            "virtual_hosts": [{"domains": ["other"], "routes": []}, {"domains": [host, "orders"], "routes": [
                {"match": {"prefix": "/a"}, "direct_response": {"status": 404}},
                {"match": {"prefix": "/", "headers": [{}]}, "route": {"cluster": "never"}},
                {"match": {"prefix": "/"}, "route": {"cluster": pool, "timeout": "5s"},
                    "metadata": {"filter_metadata": {"istio": {"config":
                        "/apis/networking.istio.io/v1/namespaces/shop/virtual-service/orders"}}},
                    "typed_per_filter_config": {"envoy.filters.http.fault":
                        {"abort": {"percentage": {"numerator": 500000, "denominator": "MILLION"}}}}}]}]}}]});
        let found = route(&dump, host, 8080, "/b?c").unwrap();
        assert_eq!(found.clusters, [pool]);
        assert_eq!((found.timeout.as_deref(), found.aborts), (Some("5s"), 50.0));
        assert_eq!(found.virtual_service.as_deref(), Some("orders -n shop"));
        assert_eq!(route(&dump, host, 8080, "/a/1").unwrap().direct, Some(404));
        assert_eq!(route(&dump, host, 80, "/"), None);
        assert_eq!(route(&dump, "absent.shop.svc.cluster.local", 8080, "/"), None);
    }

    #[test]
    fn route_may_split_traffic() {
        let weighted = json!({"match": {}, "route": {"timeout": "0s",
            "weighted_clusters": {"clusters": [{"name": "a"}, {"name": "b"}]}}});
        let found = read(&weighted);
        assert_eq!((found.clusters, found.timeout), (vec!["a".to_owned(), "b".into()], None));
    }

    #[test]
    fn listeners_are_read() {
        let listener = |address: &str, port: u16, chains: Value| {
            let socket = json!({"socket_address": {"address": address, "port_value": port}});
            json!({"active_state": {"listener": {"address": socket, "filter_chains": chains}}})
        };
        let tcp = |config: Value| json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": config});
        let routed = json!({"filters": [{"name": "x"}, tcp(json!({"cluster": "outbound|9000||a"}))],
            "metadata": {"filter_metadata": {"istio": {"config":
                "/apis/networking.istio.io/v1/namespaces/shop/virtual-service/split"}}}});
        let weighted = json!({"filters": [tcp(json!({"weighted_clusters": {"clusters":
            [{"name": "outbound|9000|v1|a"}, {"name": "outbound|9000|v2|a"}]}}))]});
        let dump = json!({"configs": [
            listener("10.0.0.1", 9000, json!([routed])),
            listener("10.0.0.2", 9000, json!([weighted])),
            listener("10.0.0.3", 80, json!([routed])),
            listener("10.0.0.4", 9000, json!([{"filters": [tcp(json!({"cluster": "BlackHoleCluster"}))]}])),
            listener("10.0.0.5", 9000, json!([{"filters": [{"name": "envoy.filters.network.http_connection_manager"}]}])),
            {"name": "being replaced"}]});
        let found = listeners(&dump, 9000);
        let seen: Vec<_> = found.iter().map(|(at, route)| (at.as_str(), route.clusters.join(" "))).collect();
        assert_eq!(
            seen,
            [
                ("10.0.0.1", "outbound|9000||a".to_owned()),
                ("10.0.0.2", "outbound|9000|v1|a outbound|9000|v2|a".into())
            ]
        );
        assert_eq!(found[0].1.virtual_service.as_deref(), Some("split -n shop"));
    }

    #[test]
    fn transports_are_read() {
        let dump = json!({"configs": [{"cluster": {"name": "a", "transport_socket_matches": [{}]}},
            {"cluster": {"name": "b", "transport_socket": {"name": "envoy.transport_sockets.tls"}}},
            {"cluster": {"name": "c", "type": "ORIGINAL_DST", "outlier_detection": {"max_ejection_percent": 50}}},
            {"cluster": {"name": "d", "outlier_detection": {"consecutive_5xx": 3}}}]});
        assert_eq!(ejectable(&dump), BTreeMap::from([("c".to_owned(), 50), ("d".to_owned(), 10)]));
        assert_eq!(passes_through(&dump), BTreeSet::from(["c".to_owned()]));
        let found = transports(&dump);
        assert_eq!((found["a"], found["b"], found["c"]), (Transport::Automatic, Transport::Tls, Transport::Plain));
    }

    #[test]
    fn proxy_configuration_is_parsed() {
        let dump = json!({"configs": [
            {"name": "default", "secret": {"tls_certificate": {"certificate_chain": {"inline_bytes": "Y2hhaW4="}}}},
            {"name": "ROOTCA", "secret": {"validation_context": {"trusted_ca": {"inline_bytes": "cm9vdA=="}}}}]});
        assert_eq!((chain(&dump).unwrap(), roots(&dump).unwrap()), (b"chain".to_vec(), b"root".to_vec()));
        assert_eq!(chain(&json!({"configs": []})), None);
    }
}
