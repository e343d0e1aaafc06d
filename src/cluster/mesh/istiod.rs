//! istiod: reads its debug pages, from inside its pods.

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
/// The name of istiod's container.
pub const CONTAINER: &str = "discovery";
/// Its debug pages: clusters, networks, proxy sync status, endpoints, services, configuration.
pub const PAGES: [&str; 8] =
    ["clusterz", "networkz", "syncz", "endpointz", "registryz", "configz", "mesh", "push_status"];

/// Returns the ready istiod pods of a cluster, oldest first.
///
/// # Errors
/// The API server's.
pub async fn ready(client: &Client) -> kube::Result<Vec<Pod>> {
    pods::ready(client, ISTIO_NAMESPACE, SELECTOR).await
}

/// Returns a debug page of the istiod in a pod.
///
/// # Errors
/// If it does not respond.
pub async fn page(client: &Client, pod: &str, page: &str) -> anyhow::Result<String> {
    let path = format!("/debug/{page}");
    exec(client, ISTIO_NAMESPACE, pod, CONTAINER, &["pilot-discovery", "request", "GET", &path]).await
}

/// A remote cluster as istiod reports it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemoteCluster {
    /// The cluster's name.
    pub id: String,
    /// Its status: `synced` once istiod knows all its endpoints.
    pub sync_status: String,
}

/// A proxy that is connected to istiod.
#[derive(Debug, Clone, Deserialize)]
pub struct ConnectedProxy {
    /// The cluster that it is in.
    pub cluster_id: String,
    /// Its pod: `NAME.NAMESPACE`.
    pub proxy: String,
}

/// Returns the proxies that are connected to the istiod in a pod.
///
/// # Errors
/// If it does not respond.
pub async fn proxies(client: &Client, pod: &str) -> anyhow::Result<Vec<ConnectedProxy>> {
    let said = page(client, pod, "syncz").await?;
    // Null without proxies.
    let known: Option<Vec<ConnectedProxy>> =
        serde_json::from_str(&said).with_context(|| format!("reading istiod's list of proxies: {said}"))?;
    Ok(known.unwrap_or_default())
}

/// Returns the clusters that each ready istiod of this cluster knows, including its own.
///
/// # Errors
/// If no istiod is ready or one does not respond.
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
