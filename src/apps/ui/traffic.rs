//! The call statistics of the caller's proxy, as rates per second. No I/O.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::cluster::mesh::envoy::stats::Counted;

/// The window of the rates: long enough to be steady, short enough to follow changes.
const WINDOW: Duration = Duration::from_secs(5);

/// The displayed traffic.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    /// Calls per second.
    pub rate: f64,
    /// Those with a status of 500 or more.
    pub errors: f64,
    /// Calls per second, by status.
    pub by_status: BTreeMap<u16, f64>,
    /// All calls since the proxy started, by status.
    pub total: BTreeMap<u16, u64>,
    /// The median latency in the window, in milliseconds; none without calls.
    pub p50: Option<f64>,
    /// The 99th percentile.
    pub p99: Option<f64>,
    /// TLS handshakes with producers since the proxy started.
    pub handshakes: u64,
    /// By the producers' cluster.
    pub edges: Vec<Edge>,
}

/// Calls from the caller's cluster to a cluster with producers.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Edge {
    /// The producers' cluster.
    pub cluster: String,
    /// Attempts per second.
    pub rate: f64,
    /// Failed attempts per second.
    pub errors: f64,
    /// The producers' addresses that the caller's proxy knows; for those on another network, that of its gateway.
    pub endpoints: usize,
    /// Those that receive calls.
    pub healthy: usize,
}

/// Recent statistics.
#[derive(Debug, Default)]
pub struct Window(VecDeque<(Instant, Counted)>);

impl Window {
    /// Adds the current statistics; returns the traffic in the window.
    pub fn take(&mut self, now: Instant, counted: Counted, cluster_of: impl Fn(&str) -> String) -> Traffic {
        // A proxy whose counters decreased has restarted.
        let fewer = |last: &Counted| last.by_status.iter().any(|(code, count)| counted.of(*code) < *count);
        if self.0.back().is_some_and(|(_, last)| fewer(last)) {
            self.0.clear();
        }
        self.0.push_back((now, counted));
        while self.0.len() > 2 && self.0.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW) {
            self.0.pop_front();
        }
        let (Some((from, first)), Some((_, last))) = (self.0.front(), self.0.back()) else {
            return Traffic::default();
        };
        traffic(first, last, now.duration_since(*from), cluster_of)
    }

    /// Starts over.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

fn traffic(first: &Counted, last: &Counted, took: Duration, cluster_of: impl Fn(&str) -> String) -> Traffic {
    let seconds = took.as_secs_f64();
    let a_second = |now: u64, before: u64| match seconds > 0.0 {
        true => (now.saturating_sub(before) as f64 / seconds * 10.0).round() / 10.0,
        false => 0.0,
    };
    let by_status = last.by_status.iter().map(|(code, count)| (*code, a_second(*count, first.of(*code))));
    let by_status: BTreeMap<u16, f64> = by_status.filter(|(_, rate)| *rate > 0.0).collect();
    let sum = |counted: &Counted, from: u16| counted.by_status.range(from..).map(|(_, count)| count).sum();
    let mut edges: BTreeMap<String, (Edge, [u64; 4])> = BTreeMap::new();
    for (address, endpoint) in &last.endpoints {
        let cluster = cluster_of(address);
        // An endpoint that was removed and added again counts from zero.
        let before = first.endpoints.get(address).filter(|before| before.attempts <= endpoint.attempts);
        let before = before.cloned().unwrap_or_default();
        let (edge, counts) = edges.entry(cluster.clone()).or_default();
        edge.cluster = cluster;
        edge.endpoints += 1;
        edge.healthy += usize::from(endpoint.healthy);
        for (sum, more) in
            counts.iter_mut().zip([endpoint.attempts, before.attempts, endpoint.errors, before.errors])
        {
            *sum += more;
        }
    }
    let edge = |(edge, [attempts, attempts_before, errors, errors_before]): (Edge, [u64; 4])| Edge {
        rate: a_second(attempts, attempts_before),
        errors: a_second(errors, errors_before),
        ..edge
    };
    Traffic {
        rate: a_second(sum(last, 0), sum(first, 0)),
        errors: a_second(sum(last, 500), sum(first, 500)),
        by_status,
        total: last.by_status.clone(),
        p50: last.p50,
        p99: last.p99,
        handshakes: last.handshakes,
        edges: edges.into_values().map(edge).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::mesh::envoy::stats::Endpoint;

    fn counted() -> Counted {
        let near = Endpoint { attempts: 60, errors: 0, healthy: true };
        let far = Endpoint { attempts: 47, errors: 7, healthy: false };
        Counted {
            by_status: [(200, 100), (503, 7)].into(),
            endpoints: [("10.100.0.7:8080".to_owned(), near), ("10.102.0.5:8080".to_owned(), far)].into(),
            ..Counted::default()
        }
    }

    fn cluster_of(address: &str) -> String {
        if address.starts_with("10.100.") { "cluster1" } else { "cluster2" }.to_owned()
    }

    #[test]
    fn rates_are_differences_of_counters() {
        let start = Instant::now();
        let mut window = Window::default();
        assert_eq!(window.take(start, counted(), cluster_of).rate, 0.0);
        let mut later = counted();
        later.by_status = [(200, 180), (503, 27)].into();
        if let Some(far) = later.endpoints.get_mut("10.102.0.5:8080") {
            (far.attempts, far.errors) = (67, 27);
        }
        let traffic = window.take(start + Duration::from_secs(4), later.clone(), cluster_of);
        assert_eq!((traffic.rate, traffic.errors), (25.0, 5.0));
        assert_eq!(traffic.by_status, [(200, 20.0), (503, 5.0)].into());
        let edges: Vec<_> =
            traffic.edges.iter().map(|e| (e.cluster.as_str(), e.rate, e.errors, e.healthy)).collect();
        assert_eq!(edges, [("cluster1", 0.0, 0.0, 1), ("cluster2", 5.0, 5.0, 0)]);
        // No more calls: after a window there is no traffic left.
        window.take(start + Duration::from_secs(8), later.clone(), cluster_of);
        let traffic = window.take(start + Duration::from_secs(14), later, cluster_of);
        assert_eq!((traffic.rate, traffic.by_status.len()), (0.0, 0));
    }

    #[test]
    fn restarted_proxy_causes_no_negative_rates() {
        let start = Instant::now();
        let mut window = Window::default();
        window.take(start, counted(), cluster_of);
        let anew = Counted { by_status: [(200, 3)].into(), ..Counted::default() };
        assert_eq!(window.take(start + Duration::from_secs(1), anew, cluster_of).rate, 0.0);
    }
}
