//! What istiod and the proxies say of themselves, asked inside their pods.

use anyhow::Context;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, AttachParams, ListParams};
use kube::{Client, ResourceExt};
use serde::Deserialize;
use tokio::io::AsyncReadExt;

use super::ISTIO_NAMESPACE;
use crate::base::error::Error;

/// The ready pods of a namespace with a label, oldest first.
///
/// # Errors
/// The API server's.
pub async fn ready_pods(client: &Client, namespace: &str, selector: &str) -> anyhow::Result<Vec<Pod>> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let mut pods = api.list(&ListParams::default().labels(selector)).await?.items;
    pods.retain(is_ready);
    pods.sort_by_key(|pod| pod.creation_timestamp().map(|time| time.0));
    Ok(pods)
}

/// Whether a pod is ready and not on its way out.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// Whether a container of a pod runs.
pub fn is_running(pod: &Pod, container: &str) -> bool {
    let status = pod.status.as_ref();
    let init = status.and_then(|status| status.init_container_statuses.as_ref()).into_iter().flatten();
    let main = status.and_then(|status| status.container_statuses.as_ref()).into_iter().flatten();
    let found = init.chain(main).find(|found| found.name == container);
    found.and_then(|found| found.state.as_ref()).is_some_and(|state| state.running.is_some())
}

/// Runs a command in a container of a pod; gives its standard output.
///
/// # Errors
/// The API server's, or the command's with what it said.
pub async fn exec(
    client: &Client,
    namespace: &str,
    pod: &str,
    container: &str,
    command: &[&str],
) -> anyhow::Result<String> {
    let what = || format!("running {} in pod {pod}", command.first().copied().unwrap_or_default());
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let parameters = AttachParams::default().container(container).stderr(true);
    let mut process = api.exec(pod, command.iter().copied(), &parameters).await.with_context(what)?;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let (stdout, stderr) = (process.stdout(), process.stderr());
    let status = process.take_status();
    let (first, second) = futures::join!(read_all(stdout, &mut out), read_all(stderr, &mut err));
    first.and(second).with_context(what)?;
    let status = match status {
        Some(status) => status.await,
        None => None,
    };
    match status {
        Some(status) if status.status.as_deref() == Some("Success") => {
            Ok(String::from_utf8_lossy(&out).into_owned())
        }
        other => Err(Error::environment(format!(
            "{} failed: {}",
            what(),
            other.and_then(|status| status.message).unwrap_or_else(|| "the connection broke".into())
        ))
        .evidence(String::from_utf8_lossy(&err))
        .into()),
    }
}

async fn read_all(stream: Option<impl tokio::io::AsyncRead + Unpin>, into: &mut Vec<u8>) -> std::io::Result<()> {
    match stream {
        Some(mut stream) => stream.read_to_end(into).await.map(drop),
        None => Ok(()),
    }
}

/// Why pods with a label are not ready, in Kubernetes' own words; empty when nothing more is known.
pub async fn pods_state(client: &Client, namespace: &str, selector: &str) -> String {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let Ok(pods) = api.list(&ListParams::default().labels(selector)).await else { return String::new() };
    let mut states: Vec<String> = pods.items.iter().filter(|pod| !is_ready(pod)).filter_map(state).collect();
    states.dedup();
    states.join("; ")
}

/// The first thing that keeps a pod from being ready: it is not scheduled, a container waits or ended badly.
fn state(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let containers =
        status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    for container in containers {
        let Some(state) = &container.state else { continue };
        if let Some(waiting) = &state.waiting {
            let reason = waiting.reason.clone().unwrap_or_default();
            if reason != "PodInitializing" && reason != "ContainerCreating" {
                let message = waiting.message.clone().unwrap_or_default();
                return Some(format!("{}: {reason} {message}", container.name).trim_end().to_owned());
            }
        }
        if let Some(ended) = state.terminated.as_ref().filter(|ended| ended.exit_code != 0) {
            return Some(format!("{} ended with status {}", container.name, ended.exit_code));
        }
    }
    let scheduled = status.conditions.iter().flatten().find(|c| c.type_ == "PodScheduled" && c.status != "True");
    scheduled.map(|condition| condition.message.clone().unwrap_or_else(|| "not scheduled".into()))
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
    let pods = ready_pods(client, ISTIO_NAMESPACE, "app=istiod").await?;
    if pods.is_empty() {
        return Err(Error::environment("no istiod is ready").into());
    }
    let mut all = Vec::new();
    for pod in pods {
        let command = ["pilot-discovery", "request", "GET", "/debug/clusterz"];
        let said = exec(client, ISTIO_NAMESPACE, &pod.name_any(), "discovery", &command).await?;
        let known = serde_json::from_str(&said);
        all.push(known.with_context(|| format!("reading istiod's list of clusters: {said}"))?);
    }
    Ok(all)
}

/// The endpoints that a pod's proxy has for a host and are healthy, as `address:port`.
///
/// # Errors
/// When the proxy gives no answer.
pub async fn healthy_endpoints(
    client: &Client,
    namespace: &str,
    pod: &str,
    host: &str,
    port: u16,
) -> anyhow::Result<Vec<String>> {
    let said = exec(client, namespace, pod, "istio-proxy", &["pilot-agent", "request", "GET", "clusters"]).await?;
    Ok(healthy(&said, &format!("outbound|{port}||{host}")))
}

/// The healthy endpoints of a cluster in Envoy's `/clusters`: lines `CLUSTER::ADDRESS::health_flags::FLAGS`.
pub fn healthy(said: &str, cluster: &str) -> Vec<String> {
    let endpoint = |line: &str| {
        let (address, flags) = line.strip_prefix(cluster)?.strip_prefix("::")?.split_once("::health_flags::")?;
        (flags == "healthy").then(|| address.to_owned())
    };
    said.lines().filter_map(endpoint).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn healthy_endpoints_of_one_cluster_are_read() {
        let said = "outbound|8080||a.b::10.0.0.1:8080::health_flags::healthy\n\
            outbound|8080||a.b::10.0.0.2:8080::health_flags::/failed_outlier_check\n\
            outbound|8080||a.b::10.0.0.1:8080::weight::1\n\
            outbound|8080||a.bc::10.0.0.3:8080::health_flags::healthy\n";
        assert_eq!(healthy(said, "outbound|8080||a.b"), ["10.0.0.1:8080"]);
    }
}
