//! The secret `cacerts`: what istiod signs with. It has to be there before istiod starts.

use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::apply;
use crate::plan::Mesh;
use crate::trust::Intermediate;

const NAMESPACE: &str = include_str!("../../mesh-manifests/istio/namespace.yaml");
const CACERTS: &str = include_str!("../../mesh-manifests/istio/cacerts.yaml");

/// Istio's namespace and the secret in it.
///
/// # Errors
/// When a built-in file is broken.
pub fn objects(mesh: &Mesh, intermediate: &Intermediate) -> anyhow::Result<Vec<DynamicObject>> {
    let mut objects = vec![namespace(mesh)?];
    let mut secret: Value = serde_yaml::from_str(CACERTS)?;
    let data = intermediate.secret_data();
    secret["data"] = data.into_iter().map(|(key, value)| (key, json!(k8s_openapi::ByteString(value)))).collect();
    objects.push(apply::object(secret)?);
    Ok(objects)
}

/// Istio's namespace.
///
/// # Errors
/// When the built-in file is broken.
pub fn namespace(mesh: &Mesh) -> anyhow::Result<DynamicObject> {
    let mut namespace: Value = serde_yaml::from_str(NAMESPACE)?;
    namespace["metadata"]["labels"]["topology.istio.io/network"] = json!(mesh.network);
    apply::object(namespace)
}
