//! A remote cluster, whose proxies use the istiod of another cluster: on the same network, and behind a gateway.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a panic fails the test; results go into docs/tested.md"
)]

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::environment::{Kindmesh, Temporary, restart_with_swapped_addresses};
use crate::sabotage::failed_checks;

/// Deployments of Istio in a cluster.
fn deployments(kindmesh: &Kindmesh, cluster: &str) -> Vec<String> {
    let names = "jsonpath={.items[*].metadata.name}";
    let output = kindmesh.kubectl(cluster, &["-n", "istio-system", "get", "deployments", "-o", names]);
    assert_eq!(output.code, 0, "{output:?}");
    output.stdout.split_whitespace().map(str::to_owned).collect()
}

fn layers(kindmesh: &Kindmesh, wanted: &str) -> Vec<(bool, String)> {
    let status = kindmesh.run(&["status", "--output", "json"]);
    let status: Value = serde_json::from_str(&status.stdout).unwrap();
    let layers = status["layers"].as_array().unwrap().iter().filter(|layer| layer["layer"] == wanted);
    layers.map(|layer| (layer["ok"] == true, layer["detail"].as_str().unwrap().to_owned())).collect()
}

/// Everything that is claimed of an environment whose cluster2 is a remote cluster of cluster1.
fn works(name: &str, topology: &str, calls_it: bool) {
    // The caller is in the remote cluster: routing for it takes effect in the primary.
    let (caller, producer) = if calls_it { ("cluster1", "cluster2") } else { ("cluster2", "cluster1") };
    let spec = format!(
        "topology: {topology}\nclusters:\n  - {{name: cluster1, region: r1, zone: z1}}\n  - {{name: cluster2, region: r2, zone: z2, mesh: {{controlPlane: remote}}}}\n\
        samples: {{caller: {{clusters: [{caller}]}}, producer: {{clusters: [{producer}]}}}}\n"
    );
    let environment = Temporary::up(name, &spec);
    let kindmesh = &environment.kindmesh;
    assert!(!deployments(kindmesh, "cluster2").contains(&"istiod".to_owned()));
    let istiods = layers(kindmesh, "istiod");
    assert!(istiods.iter().all(|(ok, _)| *ok) && istiods[1].1.contains("istiod of cluster1 at "), "{istiods:?}");
    assert_eq!(layers(kindmesh, "remoteClusters"), [(true, "cluster2 synced".to_owned())]);
    assert!(failed_checks(kindmesh, &[], None).is_empty());
    // 504: the timeout, an object in the primary, is in effect for the caller.
    let slow = kindmesh.json_lines(&["call", "--delay-ms", "6000"]);
    assert_eq!(slow[0]["statusCode"], 504, "{slow:?}");
    let why = kindmesh.run(&["why", caller, "http://sample-producer:8080"]);
    assert!(why.code == 0 && why.stdout.contains("istiod of cluster1 reads the endpoints"), "{why:?}");
    let again = environment.up_again();
    assert!(again.iter().all(|event| event["changed"] != true), "{again:?}");

    for command in ["stop", "start"] {
        let output = kindmesh.run(&[command]);
        assert_eq!(output.code, 0, "{output:?}");
    }
    let nodes = ["cluster1", "cluster2"].map(|cluster| format!("{name}-{cluster}-control-plane"));
    let started = Instant::now();
    restart_with_swapped_addresses([&nodes[0], &nodes[1]]);
    let recovered = kindmesh.wait_for_cross_cluster_call(started + Duration::from_secs(120));
    println!("{name}: recovered after {:?}", started.elapsed());
    assert!(recovered, "not recovered within two minutes: {:?}", kindmesh.run(&["status"]));
    assert!(failed_checks(kindmesh, &["mesh", "mtls", "trust", "timeout"], None).is_empty());
    kindmesh.istio_is_in_sync(&["cluster1"], &["cluster1", "cluster2"]);

    // Without the istiod of the primary, the remote cluster has none.
    let killed = kindmesh.run(&["fault", "kill-istiod", "cluster2"]);
    assert!(killed.code == 2 && killed.stderr.contains("kindmesh fault kill-istiod cluster1"), "{killed:?}");
    assert_eq!(kindmesh.run(&["fault", "kill-istiod", "cluster1"]).code, 0);
    let istiods = layers(kindmesh, "istiod");
    assert!(!istiods[1].0 && istiods[1].1.contains("istiod stopped in cluster1"), "{istiods:?}");
    assert_eq!(kindmesh.run(&["fault", "clear"]).code, 0);
}

#[test]
#[ignore = "needs a container engine and minutes"]
fn remote_cluster_on_the_same_network_uses_its_primary() {
    works("e2e-remote", "flat", false);
}

#[test]
#[ignore = "needs a container engine and minutes"]
fn remote_cluster_on_another_network_uses_its_primary_through_the_gateway() {
    works("e2e-remote-far", "multi-network", true);
}
