//! `kindmesh deploy` and `image load` with an application that kindmesh does not know: `examples/shop`.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::environment::{E2E, Kindmesh, Said};

const IMAGE: &str = "shop:e2e";

/// The example's program, which `cargo test` compiles with everything else.
fn program() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_kindmesh")).with_file_name("examples").join("shop");
    assert!(path.exists(), "{} not found: run cargo build --examples", path.display());
    path
}

/// The example's manifests, with a different image name.
fn manifests() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("create a temporary directory");
    for file in ["checkout.yaml", "orders.yaml"] {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/shop/manifests").join(file);
        let text = std::fs::read_to_string(from).expect("the example's manifests");
        std::fs::write(folder.path().join(file), text.replace("shop:dev", IMAGE)).expect("write the file");
    }
    folder
}

async fn build_image() {
    let engine = kindmesh::internals::host::docker::Engine::connect().await.expect("connect to the engine");
    kindmesh::internals::host::images::of_program(&engine, IMAGE, &program()).await.expect("build the image");
}

fn document(said: &Said) -> Value {
    assert_eq!(said.code, 0, "{said:?}");
    serde_json::from_str(&said.stdout).expect(&said.stdout)
}

fn deploy(kindmesh: &Kindmesh, arguments: &[&str]) -> Said {
    kindmesh.run(&[&["deploy"], arguments, &["--output", "json"]].concat())
}

/// The response of checkout through the API server's proxy: from the node to the address of its pod, like its readiness probe.
fn checkout(kindmesh: &Kindmesh) -> Said {
    let service = "/api/v1/namespaces/shop/services/checkout:8080/proxy/checkout";
    kindmesh.kubectl("cluster1", &["get", "--raw", service])
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a container engine, kubectl and minutes"]
async fn an_application_is_deployed_where_it_belongs_its_call_crosses_and_all_of_it_is_removed() {
    let kindmesh = E2E.up();
    build_image().await;
    let folder = manifests();
    let path = folder.path().to_str().expect("a UTF-8 path");
    let said = deploy(kindmesh, &[path]);
    let deployed = document(&said)["deployed"].clone();
    let stubs = deployed["stubs"].as_array().expect("an array");
    assert_eq!(stubs.len(), 1, "{deployed}");
    assert_eq!(
        (&stubs[0]["object"]["cluster"], &stubs[0]["object"]["name"]),
        (&"cluster1".into(), &"orders".into())
    );
    let because = stubs[0]["because"].as_str().expect("a reason");
    assert!(
        because.contains("Deployment checkout in cluster1 names http://orders:8080 (ORDERS_URL)"),
        "{because}"
    );
    assert!(because.contains("cluster2"), "{because}");
    let images = deployed["images"].as_array().expect("an array");
    assert!(images.iter().all(|image| image["changed"] == true) && images.len() == 2, "{deployed}");

    let crossed = checkout(kindmesh);
    assert_eq!((crossed.code, crossed.stdout.contains("\"onOrder\":3")), (0, true), "{crossed:?}");
    let pods = |cluster: &str| {
        kindmesh.kubectl(cluster, &["-n", "shop", "get", "pods", "-o", "jsonpath={.items[*].metadata.labels.app}"])
    };
    assert_eq!((pods("cluster1").stdout.as_str(), pods("cluster2").stdout.as_str()), ("checkout", "orders"));

    // Deploying again changes nothing, not even in the nodes.
    let again = document(&deploy(kindmesh, &[path]))["deployed"].clone();
    assert_eq!(again["changed"], false, "{again}");
    let loaded = document(&kindmesh.run(&["image", "load", IMAGE, "--to", "cluster1", "--output", "json"]));
    assert_eq!(loaded["images"][0]["changed"], false, "{loaded}");

    // Objects that are no longer in the manifests are deleted.
    let orders = folder.path().join("orders.yaml");
    let kept = std::fs::read_to_string(&orders).expect("read the file");
    std::fs::remove_file(&orders).expect("remove the file");
    let fewer = document(&deploy(kindmesh, &[path]))["deployed"].clone();
    let mut gone: Vec<_> =
        fewer["removed"].as_array().expect("an array").iter().map(|o| o["kind"].clone()).collect();
    gone.sort_by_key(ToString::to_string);
    assert!(gone.contains(&"Deployment".into()) && gone.contains(&"Service".into()), "{fewer}");
    assert_eq!(pods("cluster1").stdout, "checkout");
    std::fs::write(&orders, kept).expect("write the file");

    let removed = document(&deploy(kindmesh, &["--delete", path]))["removed"].clone();
    assert!(removed.as_array().is_some_and(|removed| !removed.is_empty()), "{removed}");
    assert_eq!(document(&deploy(kindmesh, &["--delete", path]))["removed"], serde_json::json!([]));
    assert_ne!(checkout(kindmesh).code, 0);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a container engine, kubectl and minutes"]
async fn what_is_somebody_elses_or_has_no_place_is_refused_before_anything_changes() {
    let kindmesh = E2E.up();
    let folder = tempfile::tempdir().expect("create a temporary directory");
    let path = folder.path().to_str().expect("a UTF-8 path");
    let write = |text: &str| std::fs::write(folder.path().join("a.yaml"), text).expect("write the file");
    let made = kindmesh.kubectl("cluster1", &["create", "configmap", "e2e-deploy", "--from-literal=a=b"]);
    assert_eq!(made.code, 0, "{made:?}");
    write(
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: e2e-deploy}, data: {a: c}}\n---\n\
        {apiVersion: v1, kind: ConfigMap, metadata: {name: e2e-deploy-2}}\n",
    );
    let refused = kindmesh.run(&["deploy", path]);
    let kept = kindmesh.kubectl("cluster1", &["get", "configmap", "e2e-deploy", "-o", "jsonpath={.data.a}"]);
    let other = kindmesh.kubectl("cluster2", &["get", "configmap", "e2e-deploy-2"]);
    let deleted = kindmesh.kubectl("cluster1", &["delete", "configmap", "e2e-deploy"]);
    assert_eq!((refused.code, deleted.code), (2, 0), "{refused:?}");
    assert!(refused.stderr.contains("ConfigMap e2e-deploy in cluster cluster1"), "{refused:?}");
    assert_eq!((kept.stdout.as_str(), other.code), ("b", 1), "{other:?}");

    write("{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: a, image: b}]}}");
    let nowhere = kindmesh.run(&["deploy", path]);
    assert_eq!(nowhere.code, 2, "{nowhere:?}");
    assert!(nowhere.stderr.contains("a.yaml: Pod a") && nowhere.stderr.contains("--to"), "{nowhere:?}");
    let unknown = kindmesh.run(&["image", "load", "no-such-image:1"]);
    assert_eq!(unknown.code, 2, "{unknown:?}");
}
