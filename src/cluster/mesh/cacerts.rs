//! The secret `cacerts` with the intermediate CA that istiod signs with. It must exist before istiod starts.

use anyhow::Context;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, DynamicObject};
use serde_json::{Value, json};

use super::apply;
use crate::host::trust::Intermediate;
use crate::plan::Mesh;

const NAMESPACE: &str = include_str!("../../../mesh-manifests/istio/namespace.yaml");
const CACERTS: &str = include_str!("../../../mesh-manifests/istio/cacerts.yaml");

/// Returns Istio's namespace and the secret in it.
///
/// # Errors
/// If a built-in file is invalid.
pub fn objects(mesh: &Mesh, intermediate: &Intermediate) -> anyhow::Result<Vec<DynamicObject>> {
    let mut objects = vec![namespace(mesh)?];
    let mut secret: Value = serde_yaml::from_str(CACERTS)?;
    let data = intermediate.secret_data();
    secret["data"] = data.into_iter().map(|(key, value)| (key, json!(k8s_openapi::ByteString(value)))).collect();
    objects.push(apply::object(secret)?);
    Ok(objects)
}

/// Returns the UID and resource version of the live secret. They change with every replacement, even if the content was
/// restored since: istiod may have read the content in between.
///
/// # Errors
/// The API server's, or if the secret does not exist.
pub async fn revision(client: &Client) -> anyhow::Result<String> {
    let api: Api<Secret> = Api::namespaced(client.clone(), super::ISTIO_NAMESPACE);
    let metadata = api.get_metadata("cacerts").await.context("getting secret cacerts")?.metadata;
    let part = |part: Option<String>| part.context("secret has no UID or resource version");
    Ok(format!("{}.{}", part(metadata.uid)?, part(metadata.resource_version)?))
}

/// Returns Istio's namespace.
///
/// # Errors
/// If the built-in file is invalid.
pub fn namespace(mesh: &Mesh) -> anyhow::Result<DynamicObject> {
    let mut namespace: Value = serde_yaml::from_str(NAMESPACE)?;
    namespace["metadata"]["labels"]["topology.istio.io/network"] = json!(mesh.network);
    apply::object(namespace)
}
