//! What istiods say of themselves: their debug pages, asked inside their pods.

use anyhow::Context;
use k8s_openapi::api::core::v1::Pod;
use kube::{Client, ResourceExt};
use serde::Deserialize;

use super::ISTIO_NAMESPACE;
use crate::base::error::Error;
use crate::cluster::exec::exec;
use crate::cluster::pods;

/// The label of istiod's pods.
pub const SELECTOR: &str = "app=istiod";
/// The container of istiod in its pod.
pub const CONTAINER: &str = "discovery";
/// Its debug pages: clusters, networks, what proxies have acknowledged, endpoints, services, configuration.
pub const PAGES: [&str; 8] =
    ["clusterz", "networkz", "syncz", "endpointz", "registryz", "configz", "mesh", "push_status"];

/// The ready istiods of a cluster, oldest first.
///
/// # Errors
/// The API server's.
pub async fn ready(client: &Client) -> kube::Result<Vec<Pod>> {
    pods::ready(client, ISTIO_NAMESPACE, SELECTOR).await
}

/// A debug page of the istiod in a pod.
///
/// # Errors
/// When it gives no answer.
pub async fn page(client: &Client, pod: &str, page: &str) -> anyhow::Result<String> {
    let path = format!("/debug/{page}");
    exec(client, ISTIO_NAMESPACE, pod, CONTAINER, &["pilot-discovery", "request", "GET", &path]).await
}

/// One remote cluster as an istiod sees it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemoteCluster {
    /// The cluster's name.
    pub id: String,
    /// `synced` once all its endpoints are known.
    pub sync_status: String,
}

/// The clusters that each of this cluster's ready istiods knows, itself included.
///
/// # Errors
/// When no istiod is ready or one gives no answer.
pub async fn remote_clusters(client: &Client) -> anyhow::Result<Vec<Vec<RemoteCluster>>> {
    let pods = ready(client).await?;
    if pods.is_empty() {
        return Err(Error::environment("no istiod is ready").into());
    }
    let mut all = Vec::new();
    for pod in pods {
        let said = page(client, &pod.name_any(), "clusterz").await?;
        let known = serde_json::from_str(&said);
        all.push(known.with_context(|| format!("reading istiod's list of clusters: {said}"))?);
    }
    Ok(all)
}
