//! Snapshots: what a user deployed is back after the environment was deleted.

use std::path::Path;

use super::deploy::{build_image, call_checkout, copy_manifests, deploy};
use super::environment::{E2E, Kindmesh, docker};

const NAME: &str = "e2e-test";
/// kind's default storage class keeps its volumes here.
const VOLUME: &str = "/var/local-path-provisioner/e2e/data";

fn root(kindmesh: &Kindmesh) -> Vec<u8> {
    std::fs::read(kindmesh.state().join("trust/root-cert.pem")).expect("read the root's certificate")
}

/// Runs a command that must succeed, and returns what it printed.
fn succeeds(kindmesh: &Kindmesh, arguments: &[&str]) -> String {
    let output = kindmesh.run(arguments);
    assert_eq!(output.code, 0, "{arguments:?}: {output:?}");
    output.stdout
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a container engine, kubectl and minutes"]
async fn deployed_application_is_back_after_a_restore() {
    let kindmesh = E2E.up();
    kindmesh.run(&["snapshot", "remove", NAME]);
    build_image().await;
    let dir = copy_manifests();
    let deployed = deploy(kindmesh, &[dir.path().to_str().expect("a UTF-8 path")]);
    assert_eq!(deployed.code, 0, "{deployed:?}");
    let node = format!("{}-cluster2-control-plane", kindmesh.name());
    let folder = Path::new(VOLUME).parent().expect("a folder").display().to_string();
    docker(&["exec", &node, "sh", "-c", &format!("mkdir -p {folder} && echo kept >{VOLUME}")]);

    succeeds(kindmesh, &["snapshot", "save", NAME]);
    let twice = kindmesh.run(&["snapshot", "save", NAME]);
    assert_eq!(twice.code, 2, "an existing snapshot is not overwritten: {twice:?}");
    assert!(succeeds(kindmesh, &["snapshot", "list"]).contains(NAME));
    let before = root(kindmesh);
    succeeds(kindmesh, &["down"]);
    succeeds(kindmesh, &["snapshot", "restore", NAME]);

    let response = call_checkout(kindmesh);
    assert!(response.stdout.contains("\"onOrder\":3"), "{response:?}");
    assert_eq!(docker(&["exec", &node, "cat", VOLUME]), "kept");
    assert_eq!(root(kindmesh), before);
    assert_eq!(kindmesh.json_lines(&["call"])[0]["statusCode"], 200);
    let again = kindmesh.json_lines(&["up"]);
    assert!(again.iter().all(|event| event["changed"] != true), "{again:?}");

    succeeds(kindmesh, &["snapshot", "remove", NAME]);
    let absent = kindmesh.run(&["snapshot", "restore", NAME]);
    assert_eq!(absent.code, 2, "{absent:?}");
    docker(&["exec", &node, "rm", "-r", &folder]);
    assert_eq!(deploy(kindmesh, &["--delete", dir.path().to_str().expect("a UTF-8 path")]).code, 0);
}
