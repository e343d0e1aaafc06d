//! A proxy's counters: Envoy's admin pages `stats` and `clusters`, as JSON.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cluster::mesh::PodConnection;

/// Reads from a proxy's admin interface the counters of the endpoints in the Envoy cluster `cluster`. The proxy sends only
/// statistics whose names contain `filter`.
///
/// # Errors
/// If the proxy does not respond.
pub async fn ask(connection: &mut PodConnection, filter: &str, cluster: &str) -> anyhow::Result<Counted> {
    let stats: Value = connection.get(&format!("/stats?format=json&filter={filter}")).await?;
    let clusters: Value = connection.get("/clusters?format=json").await?;
    Ok(read(&stats, &clusters, cluster))
}

/// The counters of a proxy since it started.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counted {
    /// The number of calls by response status. Each call counts once, regardless of retries.
    pub by_status: BTreeMap<u16, u64>,
    /// The median duration of recent calls, in milliseconds; `None` without calls.
    pub p50: Option<f64>,
    /// The 99th percentile of the duration of recent calls, in milliseconds; `None` without calls.
    pub p99: Option<f64>,
    /// The number of TLS handshakes with producers.
    pub handshakes: u64,
    /// The endpoints by producer address.
    pub endpoints: BTreeMap<String, Endpoint>,
}

/// A producer endpoint in the caller's proxy.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Endpoint {
    /// The number of attempts.
    pub attempts: u64,
    /// The number of failed attempts.
    pub errors: u64,
    /// Whether it receives calls: it is healthy and not ejected.
    pub healthy: bool,
}

impl Counted {
    /// Returns the number of calls with a response status.
    pub fn of(&self, status: u16) -> u64 {
        self.by_status.get(&status).copied().unwrap_or_default()
    }
}

/// Parses Envoy's `/stats?format=json` and `/clusters?format=json`. `cluster` is Envoy's name for the producers.
pub fn read(stats: &Value, clusters: &Value, cluster: &str) -> Counted {
    let mut counted = Counted::default();
    // In statistics, Istio appends a semicolon to the name.
    let prefix = format!("cluster.{cluster}");
    let own = |name: &str| -> Option<String> {
        let rest = name.strip_prefix(&prefix)?;
        Some(rest.trim_start_matches(';').trim_start_matches('.').to_owned())
    };
    for stat in stats["stats"].as_array().into_iter().flatten() {
        if let Some(name) = stat["name"].as_str().and_then(own) {
            let value = stat["value"].as_u64().unwrap_or_default();
            if let Some(status) = name.strip_prefix("upstream_rq_").and_then(|status| status.parse().ok()) {
                counted.by_status.insert(status, value);
            } else if name == "ssl.handshake" {
                counted.handshakes = value;
            }
        }
        (counted.p50, counted.p99) = match quantiles(&stat["histograms"], &own) {
            Some(found) => found,
            None => (counted.p50, counted.p99),
        };
    }
    let of_cluster = |status: &&Value| status["name"] == cluster;
    let known = clusters["cluster_statuses"].as_array().into_iter().flatten().find(of_cluster);
    for host in known.and_then(|known| known["host_statuses"].as_array()).into_iter().flatten() {
        let socket = &host["address"]["socket_address"];
        let (Some(address), Some(port)) = (socket["address"].as_str(), socket["port_value"].as_u64()) else {
            continue;
        };
        let count = |name: &str| {
            let stats = host["stats"].as_array().into_iter().flatten();
            let value = stats.clone().find(|stat| stat["name"] == name).and_then(|stat| stat["value"].as_str());
            value.and_then(|value| value.parse().ok()).unwrap_or_default()
        };
        let health = &host["health_status"];
        let flagged = health.as_object().into_iter().flatten().any(|(_, flag)| flag == true);
        let healthy = !flagged && health["eds_health_status"].as_str().is_none_or(|status| status == "HEALTHY");
        let endpoint = Endpoint { attempts: count("rq_total"), errors: count("rq_error"), healthy };
        counted.endpoints.insert(format!("{address}:{port}"), endpoint);
    }
    counted
}

/// Returns the median and the 99th percentile of the last interval.
fn quantiles(histograms: &Value, own: &impl Fn(&str) -> Option<String>) -> Option<(Option<f64>, Option<f64>)> {
    let supported = histograms["supported_quantiles"].as_array()?;
    let time = histograms["computed_quantiles"].as_array()?.iter().find(|histogram| {
        histogram["name"].as_str().and_then(own).is_some_and(|name| name == "upstream_rq_time")
    })?;
    let at = |wanted: f64| {
        let index = supported.iter().position(|quantile| quantile.as_f64() == Some(wanted))?;
        time["values"][index]["interval"].as_f64()
    };
    Some((at(50.0), at(99.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const CLUSTER: &str = "outbound|8080||sample-producer.sample.svc.cluster.local";

    fn read_one() -> Counted {
        let stat = |name: &str, value: u64| json!({"name": format!("cluster.{CLUSTER};.{name}"), "value": value});
        let values = json!([{"interval": null, "cumulative": 1}, {"interval": 3.05, "cumulative": 2},
            {"interval": 12.5, "cumulative": 30}]);
        let stats = json!({"stats": [
            stat("upstream_rq_200", 100), stat("upstream_rq_503", 7), stat("upstream_rq_2xx", 100),
            stat("upstream_rq_completed", 107), stat("ssl.handshake", 4),
            {"name": "cluster.other;.upstream_rq_200", "value": 1},
            {"histograms": {"supported_quantiles": [0, 50, 99], "computed_quantiles": [
                {"name": "cluster.other;.upstream_rq_time", "values": []},
                {"name": format!("cluster.{CLUSTER};.upstream_rq_time"), "values": values}]}}]});
        let host = |address: &str, total: &str, error: Value, flag: Value| {
            json!({
            "address": {"socket_address": {"address": address, "port_value": 8080}},
            "stats": [{"name": "rq_total", "value": total}, {"name": "rq_error", "value": error}],
            "health_status": flag})
        };
        let clusters = json!({"cluster_statuses": [
            {"name": CLUSTER, "host_statuses": [
                host("10.100.0.7", "60", Value::Null, json!({"eds_health_status": "HEALTHY"})),
                host("10.102.0.5", "47", json!("7"),
                    json!({"failed_outlier_check": true, "eds_health_status": "HEALTHY"}))]},
            {"name": "other", "host_statuses": [host("10.9.9.9", "1", Value::Null, json!({}))]}]});
        read(&stats, &clusters, CLUSTER)
    }

    #[test]
    fn envoy_output_is_parsed() {
        let counted = read_one();
        assert_eq!(counted.by_status, [(200, 100), (503, 7)].into());
        assert_eq!((counted.p50, counted.p99, counted.handshakes), (Some(3.05), Some(12.5), 4));
        assert_eq!(counted.endpoints.len(), 2);
        let near = Endpoint { attempts: 60, errors: 0, healthy: true };
        let far = Endpoint { attempts: 47, errors: 7, healthy: false };
        assert_eq!(counted.endpoints["10.100.0.7:8080"], near);
        assert_eq!(counted.endpoints["10.102.0.5:8080"], far);
        assert_eq!(read(&Value::Null, &Value::Null, CLUSTER), Counted::default());
    }
}
