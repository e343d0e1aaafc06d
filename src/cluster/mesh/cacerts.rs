//! The secret `cacerts` with the intermediate CA that istiod signs with. It must exist before istiod starts.

use anyhow::Context;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DynamicObject};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::apply;
use crate::base::digest::hex;
use crate::host::trust::Intermediate;

const NAMESPACE: &str = include_str!("../../../mesh-manifests/istio/namespace.yaml");
const CACERTS: &str = include_str!("../../../mesh-manifests/istio/cacerts.yaml");

/// The annotation of the secret that changes whenever kindmesh replaces its content. A secret that was restored from a
/// template before any pod started keeps it, so that no pod restarts.
pub const REVISION_ANNOTATION: &str = "kindmesh/revision";

/// Istio's namespace and the secret in it.
pub struct CaCerts {
    /// The objects to apply.
    pub objects: Vec<DynamicObject>,
    /// Changes with every replacement of the secret.
    pub revision: String,
}

/// Returns the objects with an intermediate CA. The revision of a live secret with the same content is kept.
///
/// # Errors
/// The API server's, or if a built-in file is invalid.
pub async fn prepare(client: &Client, network: &str, intermediate: &Intermediate) -> anyhow::Result<CaCerts> {
    let api: Api<Secret> = Api::namespaced(client.clone(), super::ISTIO_NAMESPACE);
    let live = api.get_opt("cacerts").await.context("getting secret cacerts")?;
    let revision = revision(live.as_ref(), intermediate, &format!("r{:x}", Timestamp::now().as_nanosecond()));
    Ok(CaCerts { objects: objects(network, intermediate, &revision)?, revision })
}

/// Returns the revision of the secret in a cluster, if kindmesh created it.
///
/// # Errors
/// The API server's.
pub async fn live_revision(client: &Client) -> anyhow::Result<Option<String>> {
    let api: Api<Secret> = Api::namespaced(client.clone(), super::ISTIO_NAMESPACE);
    let live = api.get_metadata_opt("cacerts").await.context("getting secret cacerts")?;
    Ok(live.and_then(|live| live.annotations().get(REVISION_ANNOTATION).cloned()))
}

/// Returns the revision of a secret of another owner, which changes with its certificates.
///
/// # Errors
/// The API server's, or if there is no secret.
pub async fn revision_of_others(client: &Client) -> anyhow::Result<String> {
    let api: Api<Secret> = Api::namespaced(client.clone(), super::ISTIO_NAMESPACE);
    let live = api.get("cacerts").await.context("getting secret cacerts")?;
    let data = live.data.unwrap_or_default();
    let certificates =
        data.into_iter().filter(|(name, _)| name.ends_with("cert.pem") || name.ends_with("chain.pem"));
    let text: Vec<u8> = certificates.flat_map(|(_, pem)| pem.0).collect();
    Ok(hex(&Sha256::digest(text))[..12].to_owned())
}

/// Returns the revision of the live secret if it has the wanted content, else `new`. Earlier versions used the UID and the
/// resource version.
fn revision(live: Option<&Secret>, wanted: &Intermediate, new: &str) -> String {
    let same = live.filter(|live| {
        let data = live.data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone()));
        data.eq(wanted.secret_data())
    });
    let kept = same.and_then(|live| {
        let annotated = live.metadata.annotations.as_ref().and_then(|all| all.get(REVISION_ANNOTATION)).cloned();
        annotated.or_else(|| {
            Some(format!("{}.{}", live.metadata.uid.as_ref()?, live.metadata.resource_version.as_ref()?))
        })
    });
    kept.unwrap_or_else(|| new.to_owned())
}

/// Returns Istio's namespace, with the label of this Istio network, and the secret in it, with this revision.
///
/// # Errors
/// If a built-in file is invalid.
pub fn objects(network: &str, intermediate: &Intermediate, revision: &str) -> anyhow::Result<Vec<DynamicObject>> {
    let mut objects = vec![namespace(network)?];
    let mut secret: Value = serde_yaml::from_str(CACERTS)?;
    secret["data"] = data(intermediate);
    secret["metadata"]["annotations"] = json!({REVISION_ANNOTATION: revision});
    objects.push(apply::object(secret)?);
    Ok(objects)
}

/// Returns the data of the secret, as in manifests.
pub(super) fn data(intermediate: &Intermediate) -> Value {
    let data = intermediate.secret_data().into_iter();
    data.map(|(key, value)| (key, json!(k8s_openapi::ByteString(value)))).collect()
}

/// Returns Istio's namespace, with the label of this Istio network.
///
/// # Errors
/// If the built-in file is invalid.
pub fn namespace(network: &str) -> anyhow::Result<DynamicObject> {
    let mut namespace: Value = serde_yaml::from_str(NAMESPACE)?;
    namespace["metadata"]["labels"]["topology.istio.io/network"] = json!(network);
    apply::object(namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revision_changes_only_with_the_content() {
        let of = |key: &str| Intermediate {
            cert_pem: "cert".into(),
            key_pem: key.into(),
            chain_pem: "chain".into(),
            root_pem: "root".into(),
        };
        let live = |wanted: &Intermediate, annotations: Value| -> Secret {
            serde_json::from_value(json!({"data": data(wanted), "metadata": {"uid": "u", "resourceVersion": "7",
                "annotations": annotations}}))
            .unwrap()
        };
        let one = of("one");
        let annotated = json!({REVISION_ANNOTATION: "old"});
        assert_eq!(revision(None, &one, "new"), "new");
        assert_eq!(revision(Some(&live(&one, annotated.clone())), &one, "new"), "old");
        assert_eq!(revision(Some(&live(&of("two"), annotated)), &one, "new"), "new");
        assert_eq!(revision(Some(&live(&one, json!({}))), &one, "new"), "u.7");
    }
}
