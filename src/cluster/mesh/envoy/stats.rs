//! What a proxy has counted: Envoy's pages `stats` and `clusters`, as JSON.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cluster::mesh::PodConnection;

/// Asks over a connection to a proxy's administration interface what it counted for the endpoints that it calls
/// `cluster`; of its statistics it sends those whose names have `filter` in them.
///
/// # Errors
/// When the proxy gives no answer.
pub async fn ask(connection: &mut PodConnection, filter: &str, cluster: &str) -> anyhow::Result<Counted> {
    let stats: Value = connection.get(&format!("/stats?format=json&filter={filter}")).await?;
    let clusters: Value = connection.get("/clusters?format=json").await?;
    Ok(read(&stats, &clusters, cluster))
}

/// What a proxy has counted since it started.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counted {
    /// Calls that got a status, by status: each counts once, whatever was tried again for it.
    pub by_status: BTreeMap<u16, u64>,
    /// The middle and the slow end of the calls of the last seconds, in milliseconds; none without calls.
    pub p50: Option<f64>,
    /// 99 of 100 took no longer.
    pub p99: Option<f64>,
    /// TLS handshakes with producers.
    pub handshakes: u64,
    /// Attempts by producer address.
    pub endpoints: BTreeMap<String, Endpoint>,
}

/// A producer's address as the caller's proxy has it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Endpoint {
    /// Attempts.
    pub attempts: u64,
    /// Those that failed.
    pub errors: u64,
    /// Whether it gets calls: not ejected, and healthy.
    pub healthy: bool,
}

impl Counted {
    /// The calls that got a status.
    pub fn of(&self, status: u16) -> u64 {
        self.by_status.get(&status).copied().unwrap_or_default()
    }
}

/// Reads Envoy's `/stats?format=json` and `/clusters?format=json`. `cluster` is Envoy's name for the producers.
pub fn read(stats: &Value, clusters: &Value, cluster: &str) -> Counted {
    let mut counted = Counted::default();
    // Istio ends the name in statistics with a semicolon.
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

/// The median and the 99th percentile of the last interval.
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
    fn what_envoy_says_is_read() {
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
