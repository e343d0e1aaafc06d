//! Istio's objects: what istioctl rendered, started anew when the root of trust was replaced.

use k8s_openapi::api::apps::v1::Deployment;
use kube::Client;
use kube::api::{Api, DynamicObject};
use serde_json::{Value, json};

use super::{apply, remote};

/// All objects of Istio in a cluster: what istioctl rendered, and the token with which others read this cluster.
///
/// `trust` is what `bind_to_trust` takes.
///
/// # Errors
/// When a manifest cannot be read.
pub fn objects(rendered: &str, trust: &str) -> anyhow::Result<Vec<DynamicObject>> {
    let mut objects = apply::objects(rendered)?;
    for object in &mut objects {
        leave_to_istiod(object);
        bind_to_trust(object, trust);
        apply::mark_definition(object)?;
    }
    objects.extend(remote::token_objects()?);
    Ok(objects)
}

/// Whether an object is one that Kubernetes makes pods from.
pub fn runs_pods(object: &DynamicObject) -> bool {
    object.data.pointer("/spec/template/spec/containers").is_some()
}

/// Whether an object defines a kind of Istio's, or is of one.
pub fn is_of_own_kinds(object: &DynamicObject) -> bool {
    object.types.as_ref().is_some_and(|types| {
        let group = types.api_version.split_once('/').map_or("", |(group, _)| group);
        types.kind == "CustomResourceDefinition" || group.ends_with(".istio.io")
    })
}

/// Pods that do not survive a change of what istiod signs with carry a text that changes with it, such as
/// [`super::cacerts::revision`]: istiod keeps what it read, and a sidecar the root that it started with. A change of the
/// annotation starts them anew.
pub fn bind_to_trust(object: &mut DynamicObject, trust: &str) {
    // What is of another shape is no pod's, and is left for the API server to refuse.
    let Some(Value::Object(metadata)) = object.data.pointer_mut("/spec/template/metadata") else { return };
    let annotations = metadata.entry("annotations").or_insert(Value::Null);
    if annotations.is_null() {
        *annotations = json!({});
    }
    if let Value::Object(annotations) = annotations {
        annotations.insert(TRUST_ANNOTATION.into(), json!(trust));
    }
}

/// The annotation of pods that binds them to what istiod signs with.
const TRUST_ANNOTATION: &str = "kindmesh/trust";

/// istiod owns two fields of its webhooks, `failurePolicy` and `caBundle` (istio#45204). They are left out from the
/// start: taken back later, the door that istiod closed would open again.
fn leave_to_istiod(object: &mut DynamicObject) {
    if !object.types.as_ref().is_some_and(|types| types.kind.ends_with("WebhookConfiguration")) {
        return;
    }
    let Some(Value::Array(webhooks)) = object.data.get_mut("webhooks") else { return };
    for webhook in webhooks.iter_mut().filter_map(Value::as_object_mut) {
        webhook.remove("failurePolicy");
        if let Some(config) = webhook.get_mut("clientConfig").and_then(Value::as_object_mut) {
            config.remove("caBundle");
        }
    }
}

/// Whether there is an istiod, ready or not.
///
/// # Errors
/// The API server's.
pub async fn exists(client: &Client) -> anyhow::Result<bool> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), super::ISTIO_NAMESPACE);
    Ok(api.get_metadata_opt(ISTIOD).await?.is_some())
}

/// The name of Istio's control plane Deployment.
pub const ISTIOD: &str = "istiod";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_istiod_owns_is_left_to_it() {
        let mut webhook = apply::object(json!({"apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration", "metadata": {"name": "istio"},
            "webhooks": [{"name": "a", "failurePolicy": "Ignore", "clientConfig": {"caBundle": "x", "service": {}}}]}))
        .unwrap();
        leave_to_istiod(&mut webhook);
        assert_eq!(webhook.data["webhooks"], json!([{"name": "a", "clientConfig": {"service": {}}}]));
    }
}
