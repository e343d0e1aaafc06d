//! `kindmesh deploy` and `image load` with an application that kindmesh does not know: `examples/shop`.

use std::time::Duration;

use serde_json::Value;

use super::environment::{E2E, Output};
use super::killing::RunningCommand;
use super::shop::{IMAGE, build_image, call_checkout, copy_manifests, deploy};

/// No deployment takes this long.
const WATCH_TIMEOUT: Duration = Duration::from_secs(120);

fn document(output: &Output) -> Value {
    assert_eq!(output.code, 0, "{output:?}");
    serde_json::from_str(&output.stdout).expect(&output.stdout)
}

#[test]
#[ignore = "needs a container engine, kubectl and minutes"]
fn application_is_deployed_across_clusters_and_deleted() {
    let kindmesh = E2E.up();
    build_image();
    let dir = copy_manifests(["cluster1", "cluster2"]);
    let path = dir.path().to_str().expect("a UTF-8 path");
    let planned = kindmesh.run(&["deploy", path, "--dry-run"]);
    assert_eq!(planned.code, 0, "{planned:?}");
    for line in
        ["+ Deployment checkout in namespace shop", "cluster2: stub Service checkout: ", "Nothing was changed."]
    {
        assert!(planned.stdout.contains(line), "{planned:?}");
    }
    assert_eq!(kindmesh.kubectl("cluster1", &["get", "namespace", "shop"]).code, 1);

    let output = deploy(kindmesh, &[path]);
    let deployed = document(&output)["deployed"].clone();
    let stubs = deployed["stubs"].as_array().expect("an array");
    let stub = |number: usize| (&stubs[number]["object"]["cluster"], &stubs[number]["object"]["name"]);
    assert_eq!(stub(0), (&"cluster2".into(), &"checkout".into()));
    assert_eq!(stub(1), (&"cluster1".into(), &"orders".into()));
    assert_eq!(stubs.len(), 2, "{deployed}");
    let reason = stubs[1]["because"].as_str().expect("a reason");
    assert!(
        reason.contains("Deployment checkout in cluster1 refers to http://orders:8080 (ORDERS_URL)"),
        "{reason}"
    );
    assert!(reason.contains("cluster2"), "{reason}");
    let images = deployed["images"].as_array().expect("an array");
    assert!(images.iter().all(|image| image["changed"] == true) && images.len() == 2, "{deployed}");

    let response = call_checkout(kindmesh);
    assert_eq!((response.code, response.stdout.contains("\"onOrder\":3")), (0, true), "{response:?}");
    let pods = |cluster: &str| {
        kindmesh.kubectl(cluster, &["-n", "shop", "get", "pods", "-o", "jsonpath={.items[*].metadata.labels.app}"])
    };
    assert_eq!((pods("cluster1").stdout.as_str(), pods("cluster2").stdout.as_str()), ("checkout", "orders"));

    // Deploying again changes nothing, not even in the nodes.
    let again = document(&deploy(kindmesh, &[path]))["deployed"].clone();
    assert_eq!(again["changed"], false, "{again}");
    let loaded = document(&kindmesh.run(&["image", "load", IMAGE, "--to", "cluster1", "--output", "json"]));
    assert_eq!(loaded["images"][0]["changed"], false, "{loaded}");

    // A saved file is deployed. The first deployment has changed nothing.
    let extra = dir.path().join("extra.yaml");
    let saved = |data: &str| {
        let text = format!(
            "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: extra, namespace: shop}}, data: {data}}}"
        );
        std::fs::write(&extra, text).expect("write the file");
    };
    let watch = RunningCommand::start(kindmesh, &["deploy", path, "--watch"]);
    let is_applied = |line: &str| line.contains("\"name\":\"extra\"");
    let until_applied = |line: &str| {
        if !is_applied(line) {
            saved("{a: b}");
        }
        is_applied(line)
    };
    watch.kill_at_line(until_applied, WATCH_TIMEOUT);
    let read = || {
        kindmesh
            .kubectl("cluster1", &["-n", "shop", "get", "configmap", "extra", "-o", "jsonpath={.data.a}"])
            .stdout
    };
    assert_eq!(read(), "b");
    saved("{a: c}");
    let difference = kindmesh.run(&["deploy", path, "--diff"]);
    assert!(difference.stdout.contains("data.a: \"b\" → \"c\""), "{difference:?}");
    // Every refused object is named, with its file.
    saved("{a: 1}, dada: {}");
    let refused = kindmesh.run(&["deploy", path, "--dry-run"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("extra.yaml:1:") && refused.stderr.contains("dada"), "{refused:?}");
    assert_eq!(read(), "b");
    std::fs::remove_file(&extra).expect("remove the file");

    // Objects that are no longer in the manifests are deleted.
    let orders = dir.path().join("orders.yaml");
    let orders_manifest = std::fs::read_to_string(&orders).expect("read the file");
    std::fs::remove_file(&orders).expect("remove the file");
    let after_removal = document(&deploy(kindmesh, &[path]))["deployed"].clone();
    let mut removed_kinds: Vec<_> =
        after_removal["removed"].as_array().expect("an array").iter().map(|o| o["kind"].clone()).collect();
    removed_kinds.sort_by_key(ToString::to_string);
    assert!(
        removed_kinds.contains(&"Deployment".into()) && removed_kinds.contains(&"Service".into()),
        "{after_removal}"
    );
    assert_eq!(pods("cluster1").stdout, "checkout");
    std::fs::write(&orders, orders_manifest).expect("write the file");

    let removed = document(&deploy(kindmesh, &["--delete", path]))["removed"].clone();
    assert!(removed.as_array().is_some_and(|removed| !removed.is_empty()), "{removed}");
    assert_eq!(document(&deploy(kindmesh, &["--delete", path]))["removed"], serde_json::json!([]));
    assert_ne!(call_checkout(kindmesh).code, 0);
}

#[test]
#[ignore = "needs a container engine, kubectl and minutes"]
fn deploy_rejects_user_objects_and_unplaced_pods() {
    let kindmesh = E2E.up();
    let dir = tempfile::tempdir().expect("create a temporary directory");
    let path = dir.path().to_str().expect("a UTF-8 path");
    let write = |text: &str| std::fs::write(dir.path().join("a.yaml"), text).expect("write the file");
    let created = kindmesh.kubectl("cluster1", &["create", "configmap", "e2e-deploy", "--from-literal=a=b"]);
    assert_eq!(created.code, 0, "{created:?}");
    write(
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: e2e-deploy}, data: {a: c}}\n---\n\
        {apiVersion: v1, kind: ConfigMap, metadata: {name: e2e-deploy-2}}\n",
    );
    let refused = kindmesh.run(&["deploy", path]);
    let data = kindmesh.kubectl("cluster1", &["get", "configmap", "e2e-deploy", "-o", "jsonpath={.data.a}"]);
    let other = kindmesh.kubectl("cluster2", &["get", "configmap", "e2e-deploy-2"]);
    let deleted = kindmesh.kubectl("cluster1", &["delete", "configmap", "e2e-deploy"]);
    assert_eq!((refused.code, deleted.code), (2, 0), "{refused:?}");
    assert!(refused.stderr.contains("ConfigMap e2e-deploy in cluster cluster1"), "{refused:?}");
    assert_eq!((data.stdout.as_str(), other.code), ("b", 1), "{other:?}");

    write("{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: a, image: b}]}}");
    let unplaced = kindmesh.run(&["deploy", path]);
    assert_eq!(unplaced.code, 2, "{unplaced:?}");
    assert!(unplaced.stderr.contains("a.yaml:1:1: Pod a") && unplaced.stderr.contains("--to"), "{unplaced:?}");
    let unknown = kindmesh.run(&["image", "load", "no-such-image:1"]);
    assert_eq!(unknown.code, 2, "{unknown:?}");
}
