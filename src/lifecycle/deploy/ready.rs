//! Waiting for what was deployed to run.

use kube::api::{Api, ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use kube::{Client, ResourceExt};
use serde_json::Value;
use tokio::time::Instant;

use crate::base::error;
use crate::base::event::Step;
use crate::base::wait::{self, Poll};
use crate::cluster::mesh::apply::kind;
use crate::cluster::mesh::debug;
use crate::diagnose::diagnosis::{self, gather};

/// Whether an object is one whose pods are awaited. Jobs end when they want.
pub(super) fn is_awaited(object: &DynamicObject) -> bool {
    matches!(kind(object), "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "Pod")
}

/// Waits until the pods of an object are ready, in its newest version.
///
/// # Errors
/// When they are not by the deadline, with what keeps them from it, and the cause where it is a known one.
pub(super) async fn wait_for(
    client: &Client,
    object: &DynamicObject,
    step: &Step,
    deadline: Instant,
) -> anyhow::Result<()> {
    let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
    let types = object.types.clone().unwrap_or_default();
    let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(&types)?);
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &resource);
    let selector = selector(object);
    let what = format!("{} {name} to be ready", types.kind);
    let waited = wait::until(step, &what, deadline, async || {
        Ok(match api.get_opt(&name).await {
            Ok(None) => Poll::NotYet("it does not exist".into()),
            Ok(Some(live)) => match lacking(&types.kind, &live) {
                None => Poll::Ready(()),
                Some(why) => {
                    let pods = debug::pods_state(client, &namespace, &selector).await;
                    Poll::NotYet(if pods.is_empty() { why } else { format!("{why}: {pods}") })
                }
            },
            Err(error) => Poll::NotYet(error::brief(error)),
        })
    })
    .await;
    diagnosis::explained(waited, async || gather::workload(client, &namespace, &name, &selector).await).await
}

/// The labels of an object's pods, as a selector.
fn selector(object: &DynamicObject) -> String {
    let labels = object.data.pointer("/spec/selector/matchLabels").and_then(Value::as_object);
    let pairs =
        labels.into_iter().flatten().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    let pairs: Vec<_> = pairs.collect();
    match pairs.is_empty() {
        true => object.labels().iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(","),
        false => pairs.join(","),
    }
}

/// Why an object's pods are not ready, if they are not.
fn lacking(kind: &str, live: &DynamicObject) -> Option<String> {
    let number = |path: &str| live.data.pointer(path).and_then(Value::as_i64);
    let status = |field: &str| number(&format!("/status/{field}")).unwrap_or_default();
    if kind == "Pod" {
        let conditions = live.data.pointer("/status/conditions").and_then(Value::as_array);
        let ready = conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True");
        return (!ready).then(|| "it is not ready".into());
    }
    if status("observedGeneration") < live.metadata.generation.unwrap_or_default() {
        return Some("its newest version is not taken up".into());
    }
    let (wanted, ready, updated, all) = match kind {
        "DaemonSet" => {
            let wanted = status("desiredNumberScheduled");
            (wanted, status("numberReady"), status("updatedNumberScheduled"), wanted)
        }
        "ReplicaSet" => {
            let wanted = number("/spec/replicas").unwrap_or(1);
            (wanted, status("readyReplicas"), wanted, status("replicas"))
        }
        _ => {
            let wanted = number("/spec/replicas").unwrap_or(1);
            (wanted, status("readyReplicas"), status("updatedReplicas"), status("replicas"))
        }
    };
    if ready < wanted || updated < wanted {
        Some(format!("{} of {wanted} ready", ready.min(updated)))
    } else if all > wanted {
        Some(format!("{} of an older version end", all - wanted))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::mesh::apply::object;
    use serde_json::json;

    #[test]
    fn each_kind_lacks_what_its_status_says() {
        let live = |spec: Value, status: Value| {
            object(json!({"apiVersion": "apps/v1", "kind": "X", "metadata": {"name": "x", "generation": 2},
                "spec": spec, "status": status}))
            .unwrap()
        };
        let set = json!({"observedGeneration": 2, "replicas": 2, "readyReplicas": 2, "updatedReplicas": 1});
        let stateful = live(json!({"replicas": 2}), set);
        assert_eq!(lacking("StatefulSet", &stateful).as_deref(), Some("1 of 2 ready"));
        let daemon = json!({"observedGeneration": 2, "desiredNumberScheduled": 1, "numberReady": 1,
            "updatedNumberScheduled": 1});
        assert_eq!(lacking("DaemonSet", &live(json!({}), daemon)), None);
        assert!(lacking("DaemonSet", &live(json!({}), json!({}))).is_some());
        let pod = live(json!({}), json!({"conditions": [{"type": "Ready", "status": "True"}]}));
        assert_eq!(lacking("Pod", &pod), None);
        // Scaled to nothing on purpose is as wanted.
        let none = live(json!({"replicas": 0}), json!({"observedGeneration": 2}));
        assert_eq!(lacking("Deployment", &none), None);
    }
}
