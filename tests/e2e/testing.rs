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
async fn environment_provides_clients_and_calls() {
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

const SERVICE_WITHOUT_PODS: &str = "
apiVersion: v1
kind: Service
metadata: {name: orders}
spec: {selector: {app: orders}, ports: [{name: http, port: 8080}]}
";

#[tokio::test]
#[ignore = "needs a container engine and minutes"]
async fn failed_test_is_dumped_and_its_namespace_deleted() {
    let mesh = mesh().await;
    let mut name = String::new();
    let result = mesh
        .test(async |ns| {
            name = ns.name().to_owned();
            ns.apply("cluster2", SERVICE_WITHOUT_PODS).await?;
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
    let error = format!("{:#}", result.expect_err("orders has no pods"));
    assert!(error.contains("orders answered 503 (UH)"), "{error}");
    let dir = error.split("evidence written to ").nth(1).and_then(|tail| tail.split(" (").next()).expect(&error);
    let dir = Path::new(dir);
    let read = |file: &str| std::fs::read_to_string(dir.join(file)).expect(file);
    let summary = read("failure.txt");
    assert!(summary.contains("orders answered 503") && summary.contains("\"GET / HTTP/1.1\" 503 UH"), "{summary}");
    assert!(read("clusters/cluster2/objects/services.json").contains("\"orders\""));
    let pods = std::fs::read_dir(dir.join("clusters/cluster1/pods").join(&name)).expect("pods").count();
    assert_eq!(pods, 1, "only the caller's pod");
    std::fs::remove_dir_all(dir).expect("remove the directory");
    for cluster in mesh.sides() {
        let api: kube::Api<k8s_openapi::api::core::v1::Namespace> = kube::Api::all(cluster.client.clone());
        let namespace = api.get_opt(&name).await.expect("a response");
        assert!(
            namespace.is_none_or(|namespace| namespace.metadata.deletion_timestamp.is_some()),
            "{name} is not deleted in {}",
            cluster.name
        );
    }
}

#[tokio::test]
#[ignore = "needs a container engine and minutes"]
async fn disabling_a_link_requires_an_exclusive_test() {
    let result = mesh().await.test(async |ns| ns.cut_link("cluster1", "cluster2").await).await;
    let error = result.expect_err("a link is shared by all tests");
    let kindmesh_error = kindmesh::find_error(&error).expect("an error of kindmesh");
    assert!(kindmesh_error.hint.as_deref().is_some_and(|hint| hint.contains("test_alone")), "{kindmesh_error:?}");
}
