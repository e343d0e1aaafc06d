//! The secret `cacerts`: what istiod signs with. It has to be there before istiod starts.

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

/// Which of the secrets of that name, and which version of it, is there: whoever replaced it, even if what it holds was
/// put back since, istiod may have read what was there in between.
///
/// # Errors
/// The API server's, or when there is none.
pub async fn revision(client: &Client) -> anyhow::Result<String> {
    let api: Api<Secret> = Api::namespaced(client.clone(), super::ISTIO_NAMESPACE);
    let metadata = api.get_metadata("cacerts").await.context("asking for the secret cacerts")?.metadata;
    let part = |part: Option<String>| part.context("a secret without an identity");
    Ok(format!("{}.{}", part(metadata.uid)?, part(metadata.resource_version)?))
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
