//! `kindmesh::testing` itself: what a failing test leaves behind, and what a test must not do.

use std::path::Path;

use kindmesh::Environment;
use kindmesh::environment::Request;
use kindmesh::testing::{Mesh, k8s_openapi, kube};

use super::environment::E2E;

fn environment() -> Environment {
    let kindmesh = E2E.up();
    let state = kindmesh.state().parent().expect("a parent directory").to_owned();
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("e2e-cache");
    Environment::builder().name(kindmesh.name()).folders(state, cache).open().expect("open the environment")
}

async fn mesh() -> Mesh {
    Mesh::open(&environment()).await.expect("open the mesh")
}

#[tokio::test]
#[ignore = "needs a container engine and minutes"]
async fn the_facade_has_a_client_for_each_cluster_and_calls() {
    let environment = environment();
    assert_eq!(environment.clusters(), ["cluster1", "cluster2"]);
    for cluster in environment.clusters() {
        let client = environment.client(cluster).await.expect("a client");
        let nodes: kube::Api<k8s_openapi::api::core::v1::Node> = kube::Api::all(client);
        assert!(!nodes.list(&Default::default()).await.expect("nodes").items.is_empty(), "{cluster}");
    }
    let answer = environment.call("cluster1", &Request::default()).await.expect("a response");
    assert_eq!((answer.status_code, answer.served_by()), (200, Some("cluster2")));
    let error = environment.call("cluster2", &Request::default()).await.expect_err("cluster2 has no caller");
    assert_eq!(error.to_string(), "cluster cluster2 has no caller");
}

const BROKEN: &str = "
apiVersion: v1
kind: Service
metadata: {name: orders}
spec: {selector: {app: orders}, ports: [{name: http, port: 8080}]}
";

#[tokio::test]
#[ignore = "needs a container engine and minutes"]
async fn what_fails_is_dumped_and_its_namespace_goes() {
    let mesh = mesh().await;
    let mut name = String::new();
    let failed = mesh
        .test(async |ns| {
            name = ns.name().to_owned();
            ns.apply("cluster2", BROKEN).await?;
            let answer = ns.call("cluster1", "http://orders:8080/").await?;
            anyhow::ensure!(
                answer.status == 200,
                "orders answered {} ({})",
                answer.status,
                answer.served_by.flags
            );
            Ok(())
        })
        .await;
    let error = format!("{:#}", failed.expect_err("orders has no pods"));
    assert!(error.contains("orders answered 503 (UH)"), "{error}");
    let folder = error.split("dumped to ").nth(1).and_then(|rest| rest.split(" (").next()).expect(&error);
    let folder = Path::new(folder);
    let read = |file: &str| std::fs::read_to_string(folder.join(file)).expect(file);
    let short = read("failure.txt");
    assert!(short.contains("orders answered 503") && short.contains("\"GET / HTTP/1.1\" 503 UH"), "{short}");
    assert!(read("clusters/cluster2/objects/services.json").contains("\"orders\""));
    let pods = std::fs::read_dir(folder.join("clusters/cluster1/pods").join(&name)).expect("pods").count();
    assert_eq!(pods, 1, "only the caller's pod");
    std::fs::remove_dir_all(folder).expect("remove the directory");
    for side in mesh.sides() {
        let api: kube::Api<k8s_openapi::api::core::v1::Namespace> = kube::Api::all(side.client.clone());
        let left = api.get_opt(&name).await.expect("a response");
        assert!(
            left.is_none_or(|left| left.metadata.deletion_timestamp.is_some()),
            "{name} is not deleted in {}",
            side.name
        );
    }
}

#[tokio::test]
#[ignore = "needs a container engine and minutes"]
async fn a_link_is_cut_by_a_test_that_runs_alone() {
    let refused = mesh().await.test(async |ns| ns.cut_link("cluster1", "cluster2").await).await;
    let error = refused.expect_err("a link is shared by all tests");
    let told = kindmesh::find_error(&error).expect("an error of kindmesh");
    assert!(told.hint.as_deref().is_some_and(|hint| hint.contains("test_alone")), "{told:?}");
}
