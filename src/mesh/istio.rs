//! istiod: there, ready, and started anew when its root of trust was replaced.

use k8s_openapi::api::apps::v1::Deployment;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use tokio::time::Instant;

use super::ISTIO_NAMESPACE;
use crate::event::Step;
use crate::plan::MANAGED_BY;
use crate::wait::{self, Poll};

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
            Err(error) => Poll::NotYet(error.to_string()),
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

/// Starts a Deployment's pods anew, as `kubectl rollout restart` does; one that does not exist is fine.
///
/// # Errors
/// The API server's.
pub async fn restart(client: &Client, namespace: &str, name: &str) -> anyhow::Result<()> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let now = jiff::Timestamp::now().to_string();
    let patch = json!({"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": now}}}}});
    let parameters = PatchParams { field_manager: Some(MANAGED_BY.into()), ..PatchParams::default() };
    match api.patch(name, &parameters, &Patch::Strategic(patch)).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => Ok(other.map(drop)?),
    }
}

/// The name of Istio's control plane Deployment.
pub const ISTIOD: &str = "istiod";

/// Whether istiod exists already.
///
/// # Errors
/// The API server's.
pub async fn exists(client: &Client) -> anyhow::Result<bool> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), ISTIO_NAMESPACE);
    Ok(api.get_opt(ISTIOD).await?.is_some())
}
