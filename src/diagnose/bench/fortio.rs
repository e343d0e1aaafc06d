//! fortio's command line and its JSON result; pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context, ensure};
use serde::Deserialize;

use super::{Figures, Latency, Options, Protocol};

/// Its path in the image.
pub(super) const PROGRAM: &str = "/usr/bin/fortio";

/// The ports of its server, as in `mesh-manifests/bench`.
fn port(protocol: Protocol) -> u16 {
    match protocol {
        Protocol::Http => 8080,
        Protocol::Grpc => 8079,
        Protocol::Tcp => 8078,
    }
}

/// Returns the host part of an address in a URL.
pub(super) fn url_host(address: &str) -> String {
    match address.parse() {
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        _ => address.to_owned(),
    }
}

/// Returns the command that sends one load to a host, and prints the result as JSON.
pub(super) fn load(host: &str, options: &Options) -> Vec<String> {
    let size = match options.calls() {
        Some(calls) => ["-n".to_owned(), calls.to_string()],
        None => ["-t".to_owned(), format!("{}s", options.seconds)],
    };
    command(host, options.protocol, options.qps, options.connections, size)
}

/// Returns the command that sends one call to a host, to find out whether it works.
pub(super) fn one_call(host: &str, protocol: Protocol) -> Vec<String> {
    command(host, protocol, 1, 1, ["-n".into(), "1".into()])
}

fn command(host: &str, protocol: Protocol, qps: u32, connections: u32, size: [String; 2]) -> Vec<String> {
    let (qps, connections) = (qps.to_string(), connections.to_string());
    let mut command: Vec<String> = [PROGRAM, "load", "-quiet", "-json", "-", "-allow-initial-errors"]
        .into_iter()
        // Buckets of 0.1 ms, and calls of several connections that do not start at the same moment.
        .chain(["-r", "0.0001", "-p", "50,90,99", "-uniform", "-qps", &qps, "-c", &connections])
        .map(str::to_owned)
        .collect();
    command.extend(size);
    let port = port(protocol);
    match protocol {
        Protocol::Http => command.push(format!("http://{host}:{port}/")),
        Protocol::Grpc => command.extend(["-grpc".into(), "-ping".into(), format!("{host}:{port}")]),
        Protocol::Tcp => command.push(format!("tcp://{host}:{port}")),
    }
    command
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Printed {
    #[serde(rename = "ActualQPS")]
    actual_qps: f64,
    duration_histogram: Histogram,
    ret_codes: BTreeMap<String, u64>,
}

/// Durations, in seconds.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Histogram {
    count: u64,
    max: f64,
    avg: f64,
    percentiles: Option<Vec<Percentile>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Percentile {
    percentile: f64,
    value: f64,
}

/// Reads the JSON result of fortio 1.68.
///
/// # Errors
/// If it is not one, or lacks a percentile.
pub(super) fn figures(text: &str, protocol: Protocol) -> anyhow::Result<Figures> {
    let printed: Printed = serde_json::from_str(text).context("reading the result of fortio")?;
    let histogram = printed.duration_histogram;
    let percentile = |wanted: f64| {
        let mut found = histogram.percentiles.iter().flatten();
        let found = found.find(|percentile| (percentile.percentile - wanted).abs() < f64::EPSILON);
        let found = found.with_context(|| format!("the result of fortio has no percentile {wanted}"))?;
        anyhow::Ok(millis(found.value))
    };
    let success = match protocol {
        Protocol::Http => "200",
        Protocol::Grpc => "SERVING",
        Protocol::Tcp => "OK",
    };
    let all: u64 = printed.ret_codes.values().sum();
    ensure!(all == histogram.count, "the result of fortio has {} durations, but {all} results", histogram.count);
    let succeeded = printed.ret_codes.get(success).copied().unwrap_or_default();
    Ok(Figures {
        calls: all,
        failed: all - succeeded,
        throughput: (printed.actual_qps * 10.0).round() / 10.0,
        latency_millis: Latency {
            p50: percentile(50.0)?,
            p90: percentile(90.0)?,
            p99: percentile(99.0)?,
            max: millis(histogram.max),
            mean: millis(histogram.avg),
        },
        results: printed.ret_codes,
    })
}

/// Returns seconds as milliseconds with three decimals.
fn millis(seconds: f64) -> f64 {
    (seconds * 1_000_000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// `fortio load` 1.68.0 with 50 calls to a server that responded to a fifth of them with status 503.
    const RECORDED: &str = include_str!("recorded.json");

    #[test]
    fn a_recorded_result_is_read() {
        let figures = figures(RECORDED, Protocol::Http).unwrap();
        assert_eq!((figures.calls, figures.failed, figures.results["503"]), (50, 10, 10));
        let Latency { p50, p90, p99, max, mean } = figures.latency_millis;
        assert_eq!((p50, p90, p99), (0.475, 16.0, 102.481));
        assert!(p99 <= max && p50 < mean && mean < max, "{figures:?}");
        assert!((1.0..=50.0).contains(&figures.throughput), "{figures:?}");
    }

    #[test]
    fn other_results_are_rejected() {
        let error = figures("panic: no route", Protocol::Http).unwrap_err();
        assert_eq!(error.to_string(), "reading the result of fortio");
        let other = RECORDED.replace("\"Percentile\": 90", "\"Percentile\": 75");
        let error = figures(&other, Protocol::Http).unwrap_err();
        assert_eq!(error.to_string(), "the result of fortio has no percentile 90");
        // A success of another protocol is none of this one.
        assert_eq!(figures(RECORDED, Protocol::Tcp).unwrap().failed, 50);
    }

    #[test]
    fn a_load_is_a_number_of_calls_or_a_duration() {
        let mut options = Options {
            protocol: Protocol::Http,
            qps: 100,
            connections: 4,
            seconds: 5,
            image: String::new(),
            timeout: Duration::from_secs(1),
        };
        let end = |options: &Options| {
            let command = load("flat", options);
            command[command.len() - 3..].join(" ")
        };
        assert_eq!(end(&options), "-n 500 http://flat:8080/");
        options.qps = 0;
        assert_eq!(end(&options), "-t 5s http://flat:8080/");
        options.protocol = Protocol::Grpc;
        assert_eq!(end(&options), "-grpc -ping flat:8079");
        options.protocol = Protocol::Tcp;
        assert_eq!(load(&url_host("fd00::1"), &options).last().unwrap(), "tcp://[fd00::1]:8078");
    }
}
