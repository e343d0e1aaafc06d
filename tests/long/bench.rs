//! `kindmesh bench` on clusters of one network, and of two.

#![expect(clippy::unwrap_used, reason = "a panic fails the test")]

use serde_json::Value;

use crate::environment::{E2E, Kindmesh, Temporary};

/// The load generator that `tests/lab/setup --long` builds; elsewhere the one that kindmesh uses by default.
fn image() -> Vec<String> {
    let lab = std::env::var("LAB_FORTIO").ok();
    lab.into_iter().flat_map(|image| ["--image".to_owned(), image]).collect()
}

/// Measures briefly, checks what the result contains, and returns path, mutual TLS and whether there are figures of each row.
fn measure(kindmesh: &Kindmesh, protocol: &str) -> Vec<(String, bool, bool)> {
    let image = image();
    let mut arguments = vec![
        "bench",
        "--qps",
        "25",
        "--seconds",
        "2",
        "--connections",
        "2",
        "--protocol",
        protocol,
        "--output",
        "json",
    ];
    arguments.extend(image.iter().map(String::as_str));
    let output = kindmesh.run(&arguments);
    assert_eq!(output.code, 0, "{}\n{}", output.stdout, output.stderr);
    let bench: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!((&bench["schemaVersion"], &bench["protocol"]), (&1.into(), &protocol.into()));
    let rows = bench["rows"].as_array().unwrap();
    for row in rows.iter().filter(|row| !row["figures"].is_null()) {
        let figures = &row["figures"];
        assert_eq!((&figures["calls"], &figures["failed"]), (&50.into(), &0.into()), "{row}");
        assert!(figures["throughput"].as_f64().unwrap() > 0.0, "{row}");
        let latency = ["p50", "p90", "p99", "max"].map(|name| figures["latencyMillis"][name].as_f64().unwrap());
        assert!(latency[0] > 0.0 && latency.is_sorted(), "{row}");
        assert!(figures["latencyMillis"]["mean"].as_f64().unwrap() <= latency[3], "{row}");
    }
    let kind = |row: &Value| {
        let figures = !row["figures"].is_null();
        assert_ne!(figures, !row["notPossible"].is_null(), "{row}");
        (row["path"].as_str().unwrap().to_owned(), row["mtls"].as_bool().unwrap(), figures)
    };
    rows.iter().map(kind).collect()
}

fn row(path: &str, mtls: bool, figures: bool) -> (String, bool, bool) {
    (path.to_owned(), mtls, figures)
}

/// The namespaces that a measurement left in a cluster.
fn left(kindmesh: &Kindmesh, cluster: &str) -> String {
    let label = "app.kubernetes.io/part-of=kindmesh-bench";
    kindmesh.kubectl(cluster, &["get", "namespaces", "--selector", label, "--output", "name"]).stdout
}

#[test]
#[ignore = "needs a container engine and 4 GB of memory"]
fn bench_measures_every_path_of_one_network() {
    let kindmesh = E2E.up();
    for protocol in ["http", "grpc", "tcp"] {
        let rows = measure(kindmesh, protocol);
        let expected = [
            row("inside", true, true),
            row("inside", false, true),
            row("flat", true, true),
            row("flat", false, true),
        ];
        assert_eq!(rows, expected, "{protocol}");
    }
    for cluster in ["cluster1", "cluster2"] {
        assert_eq!(left(kindmesh, cluster), "", "{cluster}");
    }
}

#[test]
#[ignore = "needs a container engine and 4 GB of memory"]
fn bench_measures_the_way_through_a_gateway() {
    let environment = Temporary::up("e2e-bench", "topology: multi-network\n");
    let rows = measure(&environment.kindmesh, "http");
    let expected = [
        row("inside", true, true),
        row("inside", false, true),
        row("gateway", true, true),
        row("gateway", false, false),
    ];
    assert_eq!(rows, expected);
    assert_eq!(left(&environment.kindmesh, "cluster2"), "");
}
