//! Whether a cluster that exists reaches the others: a pod in it asks their API servers, and on a shared network their pods. A remote
//! secret with a wrong URL stays wrong (istio#58047), and calls between pods without a route fail one by one.

use anyhow::Context;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject};
use serde_json::json;
use tokio::time::Instant;

use super::remote::Reader;
use super::{ISTIO_NAMESPACE, PodConnection, apply};
use crate::base::event::Step;
use crate::base::names::PORT;
use crate::base::wait::{self, Poll};
use crate::cluster::objects::delete_if_exists;
use crate::cluster::pods;
use crate::cluster::refusal::{Record, Retries};
use crate::sample::{ApiServer, Probe, Probed};

const POD: &str = include_str!("../../../mesh-manifests/existing/reach.yaml");
const NAME: &str = "kindmesh-reach";
/// The timeout of each attempt, in milliseconds.
const WITHIN_MILLIS: u64 = 5_000;

/// Returns the pod, with an image.
///
/// # Errors
/// If the built-in file is invalid.
pub fn objects(image: &str) -> anyhow::Result<Vec<DynamicObject>> {
    let mut objects = apply::objects(POD)?;
    for object in &mut objects {
        object.data["spec"]["containers"][0]["image"] = json!(image);
    }
    Ok(objects)
}

/// Waits until the pod is ready, and returns its address.
///
/// # Errors
/// If it is not ready by the deadline.
pub async fn wait_for_address(
    client: &Client,
    record: &Record,
    step: &Step,
    deadline: Instant,
) -> anyhow::Result<String> {
    let api: Api<Pod> = Api::namespaced(client.clone(), ISTIO_NAMESPACE);
    let what = format!("pod {NAME} to be ready");
    let mut retries = Retries::new(record);
    wait::until(step, &what, deadline, async || {
        let pod = match api.get_opt(NAME).await {
            Ok(Some(pod)) => pod,
            Ok(None) => return retries.absent(&what, "it does not exist".into()),
            Err(error) => return retries.failed(&what, error),
        };
        let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
        Ok(match address.filter(|_| pods::is_ready(&pod)) {
            Some(address) => Poll::Ready(address),
            None => Poll::NotYet(pods::state(&pod).into_iter().next().unwrap_or_else(|| "not ready".into())),
        })
    })
    .await
}

/// Deletes the pod.
///
/// # Errors
/// The API server's.
pub async fn delete(client: &Client) -> anyhow::Result<bool> {
    let api: Api<Pod> = Api::namespaced(client.clone(), ISTIO_NAMESPACE);
    delete_if_exists(&api, NAME, &DeleteParams::default().grace_period(0)).await.context("deleting the probe pod")
}

/// Returns why pods of a cluster do not reach an API server at a URL; none if they do.
///
/// # Errors
/// If the pod does not answer.
pub async fn api_server(client: &Client, url: &str, reader: &Reader) -> anyhow::Result<Option<String>> {
    let ca = String::from_utf8(reader.ca.clone()).context("the certificate authority is not text")?;
    let asked = ApiServer { url: url.to_owned(), ca, timeout_millis: WITHIN_MILLIS };
    let mut connection = PodConnection::open(client, ISTIO_NAMESPACE, NAME, PORT).await?;
    Ok(why(connection.post("/probe/api-server", &[], &asked).await?))
}

/// Returns why pods of a cluster do not reach a pod at an address; none if they do.
///
/// # Errors
/// If the pod does not answer.
pub async fn pod(client: &Client, address: &str) -> anyhow::Result<Option<String>> {
    let probe = Probe {
        url: format!("http://{address}:{PORT}"),
        path: "/probe/peer".into(),
        headers: std::collections::BTreeMap::new(),
        body: None,
        timeout_millis: WITHIN_MILLIS,
    };
    let mut connection = PodConnection::open(client, ISTIO_NAMESPACE, NAME, PORT).await?;
    Ok(why(connection.post("/probe/request", &[], &probe).await?))
}

fn why(probed: Probed) -> Option<String> {
    match probed.status {
        Some(_) => None,
        None => Some(probed.error.unwrap_or_else(|| "no response".into())),
    }
}
