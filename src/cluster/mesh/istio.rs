//! Istio's objects as istioctl rendered them. Their pods restart when the root of trust is replaced.

use anyhow::Context;
use k8s_openapi::api::apps::v1::Deployment;
use kube::Client;
use kube::api::{Api, DynamicObject};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{apply, remote};

/// Returns all of Istio's objects in a cluster: the rendered manifests, and the token with which peers read this cluster.
///
/// `trust` is the argument of `bind_to_trust`.
///
/// # Errors
/// If a manifest cannot be parsed.
pub fn objects(rendered: &str, trust: &str) -> anyhow::Result<Vec<DynamicObject>> {
    let mut objects = parsed(rendered)?;
    for object in &mut objects {
        leave_to_istiod(object);
        bind_to_trust(object, trust);
        apply::mark_definition(object)?;
    }
    objects.extend(remote::token_objects()?);
    Ok(objects)
}

/// Parses istioctl's output. It means the same in YAML 1.1 and 1.2, and is a megabyte: the reader of users' manifests, which notes the
/// positions of all fields, takes twice as long.
fn parsed(rendered: &str) -> anyhow::Result<Vec<DynamicObject>> {
    let mut objects = Vec::new();
    for document in serde_yaml::Deserializer::from_str(rendered) {
        let value = Value::deserialize(document).context("reading Istio's manifests")?;
        if !value.is_null() {
            objects.push(apply::object(value)?);
        }
    }
    Ok(objects)
}

/// Reports whether an object has a pod template.
pub fn runs_pods(object: &DynamicObject) -> bool {
    object.data.pointer("/spec/template/spec/containers").is_some()
}

/// Reports whether an object is a CRD or belongs to one of Istio's API groups.
pub fn is_of_own_kinds(object: &DynamicObject) -> bool {
    object.types.as_ref().is_some_and(|types| {
        let group = types.api_version.split_once('/').map_or("", |(group, _)| group);
        types.kind == "CustomResourceDefinition" || group.ends_with(".istio.io")
    })
}

/// Annotates the pod template of an object with `trust`, a text that changes with istiod's CA, such as
/// [`super::cacerts::revision`]. istiod keeps the CA that it read, and a proxy keeps the root that it started with. A
/// change of the annotation replaces the pods.
pub fn bind_to_trust(object: &mut DynamicObject, trust: &str) {
    // Anything else is not a valid pod template: leave it for the API server to refuse.
    let Some(Value::Object(metadata)) = object.data.pointer_mut("/spec/template/metadata") else { return };
    let annotations = metadata.entry("annotations").or_insert(Value::Null);
    if annotations.is_null() {
        *annotations = json!({});
    }
    if let Value::Object(annotations) = annotations {
        annotations.insert(TRUST_ANNOTATION.into(), json!(trust));
    }
}

/// The annotation of pods that changes with istiod's CA.
const TRUST_ANNOTATION: &str = "kindmesh/trust";

/// Removes `failurePolicy` and `caBundle` from webhooks: istiod owns these fields (istio#45204). They are never applied,
/// because a later apply would undo what istiod has set.
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

/// Reports whether istiod exists, ready or not.
///
/// # Errors
/// The API server's.
pub async fn exists(client: &Client) -> anyhow::Result<bool> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), super::ISTIO_NAMESPACE);
    Ok(api.get_metadata_opt(ISTIOD).await?.is_some())
}

/// The name of istiod's Deployment.
pub const ISTIOD: &str = "istiod";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_owned_by_istiod_are_not_applied() {
        let mut webhook = apply::object(json!({"apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration", "metadata": {"name": "istio"},
            "webhooks": [{"name": "a", "failurePolicy": "Ignore", "clientConfig": {"caBundle": "x", "service": {}}}]}))
        .unwrap();
        leave_to_istiod(&mut webhook);
        assert_eq!(webhook.data["webhooks"], json!([{"name": "a", "clientConfig": {"service": {}}}]));
    }
}
