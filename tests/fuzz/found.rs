//! What fuzzing found, each as an ordinary test.

use kindmesh::internals::cluster::mesh::istio;

/// A panic: the pod template's metadata were indexed as a map.
#[test]
fn a_manifest_of_another_shape_is_left_as_it_is() {
    for metadata in ["text", "[]", "null", "{annotations: text}", "{annotations: null}"] {
        let manifest = format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: a}}\nspec: {{template: {{metadata: {metadata}}}}}\n"
        );
        istio::objects(&manifest, "digest").unwrap();
    }
}
