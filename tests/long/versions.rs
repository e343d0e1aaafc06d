//! Clusters with two versions of Istio in one mesh.

#![expect(clippy::unwrap_used, reason = "a panic fails the test")]

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::environment::{Kindmesh, Temporary, restart_with_swapped_addresses};
use crate::sabotage::failed_checks;

const NAME: &str = "e2e-versions";

/// The older version of Istio: the one that `tests/lab/setup --long` builds; elsewhere a published one.
fn older() -> String {
    std::env::var("LAB_ISTIO_OLDER").unwrap_or_else(|_| "1.30.4".into())
}

/// Returns the tag of the image of istiod in a cluster, and that of the proxy of a sample.
fn versions(kindmesh: &Kindmesh, cluster: &str, sample: &str) -> [String; 2] {
    let images = |arguments: &[&str]| {
        let output = kindmesh.kubectl(cluster, arguments);
        assert_eq!(output.code, 0, "{output:?}");
        output.stdout.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let istiod = "jsonpath={.spec.template.spec.containers[0].image}";
    let istiod = images(&["-n", "istio-system", "get", "deployment", "istiod", "-o", istiod]);
    let proxies = "jsonpath={.items[*].spec.initContainers[*].image} {.items[*].spec.containers[*].image}";
    let proxies = images(&["-n", "sample", "get", "pods", "-l", &format!("app={sample}"), "-o", proxies]);
    let proxy = proxies.iter().find(|image| image.contains("/proxyv2:")).unwrap();
    [&istiod[0], proxy].map(|image| image.rsplit_once(':').unwrap().1.to_owned())
}

#[test]
#[ignore = "needs a container engine, a second version of Istio (tests/lab/setup --long) and minutes"]
fn clusters_with_two_versions_of_istio_are_one_mesh() {
    let older = older();
    let spec = format!(
        "clusters: [{{name: cluster1, region: r1, zone: z1}}, {{name: cluster2, region: r2, zone: z2, mesh: {{version: {older}}}}}]\n"
    );
    let environment = Temporary::up(NAME, &spec);
    let kindmesh = &environment.kindmesh;
    let newer = versions(kindmesh, "cluster1", "sample-caller");
    assert!(newer[0] == newer[1] && newer[0] != older, "{newer:?}");
    assert_eq!(versions(kindmesh, "cluster2", "sample-producer"), [older.as_str(), &older]);
    let status = kindmesh.run(&["status", "--output", "json"]);
    let status: Value = serde_json::from_str(&status.stdout).unwrap();
    let istiods = status["layers"].as_array().unwrap().iter().filter(|layer| layer["layer"] == "istiod");
    let istiods: Vec<_> = istiods.map(|layer| layer["detail"].as_str().unwrap()).collect();
    assert_eq!(istiods, [format!("Istio {}", newer[0]), format!("Istio {older}")]);

    assert!(failed_checks(kindmesh, &[], None).is_empty());
    let again = environment.up_again();
    assert!(again.iter().all(|event| event["changed"] != true), "{again:?}");
    for command in ["stop", "start"] {
        let output = kindmesh.run(&[command]);
        assert_eq!(output.code, 0, "{output:?}");
    }
    let started = Instant::now();
    restart_with_swapped_addresses(
        ["cluster1", "cluster2"].map(|name| format!("{NAME}-{name}-control-plane")).each_ref().map(String::as_str),
    );
    let recovered = kindmesh.wait_for_cross_cluster_call(started + Duration::from_secs(120));
    println!("recovered after {:?}", started.elapsed());
    assert!(recovered, "not recovered within two minutes: {:?}", kindmesh.run(&["status"]));
    assert!(failed_checks(kindmesh, &["mesh", "mtls"], None).is_empty());
    let clusters = ["cluster1", "cluster2"];
    kindmesh.istio_is_in_sync(&clusters, &clusters);
}
