//! Takes a cluster out of the mesh: its peers' istiods stop reading it, and their proxies stop sending calls to it.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::Context;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{Api, DeleteParams, ListParams};
use kube::{Client, ResourceExt};
use tokio::time::Instant;

use super::{ISTIO_NAMESPACE, envoy, istiod, remote};
use crate::base::event::Step;
use crate::base::wait::{self, Poll};
use crate::cluster::objects::delete_if_exists;
use crate::cluster::pods;
use crate::cluster::refusal::{Record, Retries};
use crate::plan::{Cluster, Removed};

/// The number of proxies that are read at the same time.
const MAX_CONCURRENT: usize = 4;

/// Deletes a cluster's remote secrets for removed peers. Returns whether there were any.
///
/// # Errors
/// The API server's.
pub async fn delete_secrets(client: &Client, removed: &[Removed]) -> anyhow::Result<bool> {
    let api: Api<Secret> = Api::namespaced(client.clone(), ISTIO_NAMESPACE);
    let mut changed = false;
    for cluster in removed {
        let name = remote::secret_name(&cluster.name);
        let deleted = delete_if_exists(&api, &name, &DeleteParams::default()).await;
        changed |= deleted.with_context(|| format!("deleting the secret {name}"))?;
    }
    Ok(changed)
}

/// Waits until a cluster's istiods, if it has any, know none of the removed peers, and no proxy in it has an endpoint there.
/// `record` is that of the cluster.
///
/// # Errors
/// If one of them does by the deadline.
pub async fn wait(
    client: &Client,
    cluster: &Cluster,
    removed: &[Removed],
    record: &Record,
    step: &Step,
    deadline: Instant,
) -> anyhow::Result<()> {
    let what = "istiod and the proxies to forget the removed cluster";
    let mut retries = Retries::new(record);
    wait::until(step, what, deadline, async || match remaining(client, cluster, removed).await {
        Ok(None) => Ok(Poll::Ready(())),
        Ok(Some(remaining)) => Ok(Poll::NotYet(remaining)),
        Err(error) => retries.failed(what, error),
    })
    .await
}

/// Returns who still knows a removed peer, if anyone.
async fn remaining(client: &Client, cluster: &Cluster, removed: &[Removed]) -> anyhow::Result<Option<String>> {
    let known = if cluster.is_remote() { Vec::new() } else { istiod::remote_clusters(client).await? };
    if let Some(cluster) =
        known.iter().flatten().find_map(|known| removed.iter().find(|removed| removed.name == known.id))
    {
        return Ok(Some(format!("istiod still reads {}", cluster.name)));
    }
    let pods: Api<Pod> = Api::all(client.clone());
    let pods = pods.list(&ListParams::default()).await.context("listing pods")?;
    let proxies = pods.into_iter().filter(|pod| pods::has_container(pod, envoy::CONTAINER) && pods::is_ready(pod));
    let each = proxies.map(async |pod| {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        let said = match envoy::page(client, &namespace, &name, "clusters").await {
            Ok(said) => said,
            // It was deleted in the meantime.
            Err(_) if !is_ready(client, &namespace, &name).await? => return Ok(None),
            Err(error) => return Err(error),
        };
        let left = endpoints_of(&said, removed);
        anyhow::Ok(
            left.map(|endpoint| format!("the proxy of {namespace}/{name} still has the endpoint {endpoint}")),
        )
    });
    let found: Vec<Option<String>> = futures::stream::iter(each).buffered(MAX_CONCURRENT).try_collect().await?;
    Ok(found.into_iter().flatten().next())
}

async fn is_ready(client: &Client, namespace: &str, name: &str) -> kube::Result<bool> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    Ok(api.get_opt(name).await?.is_some_and(|pod| pods::is_ready(&pod)))
}

/// Returns an endpoint of a removed peer in the page `clusters` of a proxy.
fn endpoints_of<'a>(said: &'a str, removed: &[Removed]) -> Option<&'a str> {
    let address = |endpoint: &envoy::Endpoint<'a>| endpoint.address.parse::<SocketAddrV4>().ok();
    let owned = |ip: Ipv4Addr| removed.iter().any(|removed| removed.owned(ip));
    envoy::endpoints(said)
        .find(|endpoint| address(endpoint).is_some_and(|address| owned(*address.ip())))
        .map(|endpoint| endpoint.address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_of_a_removed_cluster_is_found() {
        let said = "outbound|80||a.b::10.1.0.5:80::health_flags::healthy\n\
            outbound|80||a.b::10.3.0.7:80::health_flags::/failed_outlier_check\n\
            xds-grpc::unix:///etc/istio/proxy/XDS::health_flags::healthy\n";
        let removed = |subnet: &str| Removed {
            name: "c".into(),
            kind_name: "e-c".into(),
            nodes: Vec::new(),
            subnets: vec![subnet.parse().unwrap()],
            register: None,
            marker: None,
        };
        assert_eq!(endpoints_of(said, &[removed("10.9.0.0/16"), removed("10.3.0.0/16")]), Some("10.3.0.7:80"));
        assert_eq!(endpoints_of(said, &[removed("10.9.0.0/16")]), None);
    }
}
