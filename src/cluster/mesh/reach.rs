//! Whether a cluster that exists reaches the others: a pod in it asks their API servers, and on a shared network their pods. A remote
//! secret with a wrong URL stays wrong (istio#58047), and calls between pods without a route fail one by one.

use anyhow::Context;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject};
use serde_json::json;

use super::remote::Reader;
use super::{ISTIO_NAMESPACE, PodConnection, apply};
use crate::base::names::PORT;
use crate::cluster::objects::delete_if_exists;
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

/// Returns the address of the pod, which is ready.
///
/// # Errors
/// The API server's, or if it has none.
pub async fn address(client: &Client) -> anyhow::Result<String> {
    let api: Api<Pod> = Api::namespaced(client.clone(), ISTIO_NAMESPACE);
    let pod = api.get(NAME).await.with_context(|| format!("getting pod {NAME}"))?;
    pod.status.and_then(|status| status.pod_ip).with_context(|| format!("pod {NAME} has no address"))
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
