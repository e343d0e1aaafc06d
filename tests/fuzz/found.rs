//! Bugs that fuzzing found, each as an ordinary test.

use kindmesh::internals::cluster::mesh::istio;

/// It panicked: the pod template's metadata was indexed as a map.
#[test]
fn unexpected_manifest_is_unchanged() {
    for metadata in ["text", "[]", "null", "{annotations: text}", "{annotations: null}"] {
        let manifest = format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: a}}\nspec: {{template: {{metadata: {metadata}}}}}\n"
        );
        istio::objects(&manifest, "digest").unwrap();
    }
}
