//! istiod: there, ready, and started anew when its root of trust was replaced.

use k8s_openapi::api::apps::v1::Deployment;
use kube::Client;
use kube::api::{Api, DynamicObject};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{apply, remote};
use crate::base::error;
use crate::base::event::Step;
use crate::base::wait::{self, Poll};

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

/// Waits until a Deployment is as its newest version says, all replicas ready.
///
/// # Errors
/// When it is not by the deadline.
pub async fn wait_for_deployment(
    client: &Client,
    namespace: &str,
    name: &str,
    step: &Step,
    deadline: Instant,
) -> anyhow::Result<()> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    wait::until(step, &format!("{name} to be ready"), deadline, async || {
        Ok(match api.get_opt(name).await {
            Ok(None) => Poll::NotYet("it does not exist".into()),
            Ok(Some(deployment)) => match lacking(&deployment) {
                None => Poll::Ready(()),
                Some(why) => {
                    let pods = super::debug::pods_state(client, namespace, &format!("app={name}")).await;
                    Poll::NotYet(if pods.is_empty() { why } else { format!("{why}: {pods}") })
                }
            },
            Err(error) => Poll::NotYet(error::brief(error)),
        })
    })
    .await
}

/// Why a Deployment is not ready, if it is not.
pub fn lacking(deployment: &Deployment) -> Option<String> {
    let status = deployment.status.as_ref();
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let number = |get: fn(&k8s_openapi::api::apps::v1::DeploymentStatus) -> Option<i32>| {
        status.and_then(get).unwrap_or_default()
    };
    let observed = status.and_then(|status| status.observed_generation);
    let (updated, ready, all) =
        (number(|s| s.updated_replicas), number(|s| s.ready_replicas), number(|s| s.replicas));
    if observed < deployment.metadata.generation {
        Some("its newest version is not taken up".into())
    } else if ready < wanted || updated < wanted {
        Some(format!("{} of {wanted} ready", ready.min(updated)))
    } else if all > wanted {
        Some(format!("{} of an older version end", all - wanted))
    } else {
        None
    }
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

    #[test]
    fn a_deployment_lacks_what_its_status_says() {
        let deployment = |status: Value| -> Deployment {
            serde_json::from_value(json!({"metadata": {"generation": 2}, "spec": {"replicas": 2, "selector": {},
                "template": {}}, "status": status}))
            .unwrap()
        };
        let ready = json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2});
        assert_eq!(lacking(&deployment(ready.clone())), None);
        let mut of_old = ready.clone();
        of_old["observedGeneration"] = json!(1);
        assert!(lacking(&deployment(of_old)).is_some());
        let mut half = ready.clone();
        half["readyReplicas"] = json!(1);
        assert_eq!(lacking(&deployment(half)).as_deref(), Some("1 of 2 ready"));
        let mut rolling = ready;
        rolling["replicas"] = json!(3);
        assert!(lacking(&deployment(rolling)).is_some());
    }
}
