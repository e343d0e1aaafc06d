//! The application `examples/shop`: its manifests for any two clusters, and its image.

#![expect(clippy::unwrap_used, reason = "clippy does not recognize the helpers of tests")]

use std::path::{Path, PathBuf};

use kindmesh::internals::host::docker::Engine;
use kindmesh::internals::host::images;

use crate::environment::{Kindmesh, Output};

pub const IMAGE: &str = "shop:e2e";

/// The example's program, which `cargo test` compiles with everything else.
fn program() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_kindmesh")).with_file_name("examples").join("shop");
    assert!(path.exists(), "{} not found: run cargo build --examples", path.display());
    path
}

/// The example's manifests, with a different image name. Its application checkout is in the first cluster, orders in the second.
pub fn copy_manifests(clusters: [&str; 2]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in ["checkout.yaml", "orders.yaml"] {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/shop/manifests").join(file);
        let mut text = std::fs::read_to_string(source).unwrap().replace("shop:dev", IMAGE);
        for (number, cluster) in clusters.iter().enumerate() {
            text = text.replace(
                &format!("kindmesh/clusters: cluster{}", number + 1),
                &format!("kindmesh/clusters: {cluster}"),
            );
        }
        std::fs::write(dir.path().join(file), text).unwrap();
    }
    dir
}

/// Builds the image in the engine.
pub fn build_image() {
    let build = async { images::of_program(&Engine::connect().await?, IMAGE, &program()).await };
    tokio::runtime::Runtime::new().unwrap().block_on(build).unwrap();
}

/// Deploys manifests.
pub fn deploy(kindmesh: &Kindmesh, arguments: &[&str]) -> Output {
    kindmesh.run(&[&["deploy"], arguments, &["--output", "json"]].concat())
}

/// The response of checkout through the API server's proxy: from the node to the address of its pod, like its readiness probe.
pub fn call_checkout(kindmesh: &Kindmesh) -> Output {
    let service = "/api/v1/namespaces/shop/services/checkout:8080/proxy/checkout";
    kindmesh.kubectl("cluster1", &["get", "--raw", service])
}
