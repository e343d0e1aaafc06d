//! Creates an environment, lists the nodes of each cluster, calls from one cluster to the other, and deletes it.
//!
//! ```text
//! KINDMESH_EXE=target/debug/kindmesh cargo run --example environment -- NAME
//! ```

#![expect(clippy::print_stdout, reason = "what it found is its result")]

use k8s_openapi::api::core::v1::Node;
use kindmesh::Environment;
use kindmesh::environment::Request;
use kindmesh::testing::{k8s_openapi, kube};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let name = std::env::args().nth(1).unwrap_or("example".into());
    let environment = Environment::builder().name(name).up().await?;
    for cluster in environment.clusters() {
        let nodes: kube::Api<Node> = kube::Api::all(environment.client(cluster).await?);
        println!("{cluster} has {} nodes", nodes.list(&Default::default()).await?.items.len());
    }
    let answer = environment.call("cluster1", &Request::default()).await?;
    println!("{} from {}", answer.status_code, answer.served_by().unwrap_or("nobody"));
    environment.down().await
}
