//! The istiod of a primary, for remote clusters: exposing it, and waiting in a remote cluster until it serves that cluster.

use std::net::Ipv4Addr;

use anyhow::Context;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, DeleteParams, DynamicObject};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{ISTIO_NAMESPACE, apply, cacerts, gateway, istio};
use crate::base::event::Step;
use crate::base::wait::{self, Poll};
use crate::cluster::kinds;
use crate::cluster::objects::delete_if_exists;
use crate::cluster::refusal::{Record, Retries};
use crate::plan::Cluster;

const EXPOSED: &str = include_str!("../../../mesh-manifests/istio/exposed-istiod.yaml");
const GATEWAY: &str = include_str!("../../../mesh-manifests/istio/gateway-to-istiod.yaml");
/// The name of the Service that remote clusters use.
pub const SERVICE: &str = "istiod-for-remote-clusters";
/// The webhook that adds proxies to pods.
const WEBHOOK: &str = "istio-sidecar-injector";
/// The annotation of Istio's namespace in a remote cluster with the clusters whose istiods serve it.
const SERVED_BY: &str = "topology.istio.io/controlPlaneClusters";

/// Returns the objects that expose the istiod of a primary; none if it has no remote clusters.
///
/// # Errors
/// If a built-in file is invalid.
pub fn objects(cluster: &Cluster) -> anyhow::Result<Vec<DynamicObject>> {
    let Some(address) = cluster.istiod_address.filter(|_| !cluster.is_remote()) else { return Ok(Vec::new()) };
    let mut service: Value = serde_yaml::from_str(EXPOSED)?;
    service["spec"]["loadBalancerIP"] = json!(address);
    let mut objects = Vec::new();
    if cluster.istiod_through_gateway {
        service["spec"]["selector"] = json!({"istio": "eastwestgateway"});
        objects = apply::objects(GATEWAY)?;
    }
    objects.push(apply::object(service)?);
    Ok(objects)
}

/// Returns the objects that exposed the istiod of a cluster, and that it no longer needs.
///
/// # Errors
/// The API server's.
pub async fn unneeded(client: &Client, cluster: &Cluster) -> anyhow::Result<Vec<DynamicObject>> {
    let key = |object: &DynamicObject| (apply::kind(object).to_owned(), object.name_any());
    let needed: Vec<_> = objects(cluster)?.iter().map(key).collect();
    let all = apply::objects(GATEWAY)?.into_iter().chain(apply::objects(EXPOSED)?);
    let mut found = Vec::new();
    for object in all.filter(|object| !needed.contains(&key(object))) {
        let exists = kinds::api_of(client, &object)?.get_opt(&object.name_any()).await;
        if exists.with_context(|| format!("getting {}", object.name_any()))?.is_some() {
            found.push(object);
        }
    }
    Ok(found)
}

/// Deletes objects that exposed istiod. Returns whether there were any.
///
/// # Errors
/// The API server's.
pub async fn delete(client: &Client, objects: &[DynamicObject]) -> anyhow::Result<bool> {
    let mut changed = false;
    for object in objects {
        let api = kinds::api_of(client, object)?;
        changed |= delete_if_exists(&api, &object.name_any(), &DeleteParams::default()).await?;
    }
    Ok(changed)
}

/// Returns Istio's namespace of a remote cluster.
///
/// # Errors
/// If the built-in file is invalid.
pub fn namespace(cluster: &Cluster) -> anyhow::Result<DynamicObject> {
    let mut namespace = cacerts::namespace(&cluster.network)?;
    namespace.annotations_mut().insert(SERVED_BY.into(), cluster.primary.clone().unwrap_or_default());
    Ok(namespace)
}

/// Returns the address at which a primary's istiod is exposed; none if it has none.
///
/// # Errors
/// The API server's.
pub async fn address(client: &Client) -> anyhow::Result<Option<Ipv4Addr>> {
    let addresses = gateway::addresses_of(client, SERVICE).await?;
    Ok(addresses.iter().find_map(|address| address.parse().ok()))
}

/// Waits until the istiod of a primary has its address. `record` is that of the cluster.
///
/// # Errors
/// If it has none by the deadline.
pub async fn wait_for_address(
    client: &Client,
    cluster: &Cluster,
    record: &Record,
    step: &Step,
    deadline: Instant,
) -> anyhow::Result<()> {
    let wanted = cluster.istiod_address;
    let what =
        format!("the Service {SERVICE} to get {}", wanted.map(|address| address.to_string()).unwrap_or_default());
    let why = format!("docker exec {} journalctl -u kindmesh-balancer says why", cluster.kind()?.control_plane());
    let mut retries = Retries::new(record);
    wait::until(step, &what, deadline, async || match address(client).await {
        Ok(has) if has == wanted => Ok(Poll::Ready(())),
        Ok(Some(has)) => Ok(Poll::NotYet(format!("it has {has}; {why}"))),
        Ok(None) => Ok(Poll::NotYet(format!("it has none; {why}"))),
        Err(error) => retries.failed(&what, error),
    })
    .await
}

/// Returns why pods of a remote cluster get no proxies, if they do not: whether its Service `istiod` leads to this address, and whether
/// its webhook has this root certificate (PEM). The primary's istiod writes it when it has synced the cluster; a cluster from a
/// template has that of another environment until then.
///
/// # Errors
/// The API server's.
pub async fn unserved(client: &Client, cluster: &Cluster, root: &str) -> anyhow::Result<Option<String>> {
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), ISTIO_NAMESPACE);
    let wanted = cluster.istiod_address.map(|address| address.to_string()).unwrap_or_default();
    let slice = slices.get_opt(istio::ISTIOD).await.context("getting the endpoints of the Service istiod")?;
    let has: Vec<String> =
        slice.into_iter().flat_map(|slice| slice.endpoints).flatten().flat_map(|one| one.addresses).collect();
    if has != [wanted.clone()] {
        return Ok(Some(format!("its Service istiod leads to {}, not {wanted}", has.join(", "))));
    }
    let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let Some(found) = api.get_opt(WEBHOOK).await.context("getting the injection webhook")? else {
        return Ok(Some(format!("it has no webhook {WEBHOOK}")));
    };
    let primary = cluster.primary.as_deref().unwrap_or_default();
    let without = |webhook: &k8s_openapi::api::admissionregistration::v1::MutatingWebhook| {
        let bundle = webhook.client_config.ca_bundle.as_ref().map(|bundle| String::from_utf8_lossy(&bundle.0));
        bundle.is_none_or(|bundle| !bundle.contains(root.trim()))
    };
    let lacks = found.webhooks.iter().flatten().any(without);
    Ok(lacks.then(|| format!("istiod of {primary} has not written its certificate into the webhook {WEBHOOK}")))
}

/// Waits until the primary's istiod serves a remote cluster, with this root certificate (PEM). `record` is that of the cluster.
///
/// # Errors
/// If it does not by the deadline.
pub async fn wait_served(
    client: &Client,
    (cluster, root): (&Cluster, &str),
    record: &Record,
    step: &Step,
    deadline: Instant,
) -> anyhow::Result<()> {
    let what = format!("istiod of {} to serve this cluster", cluster.primary.as_deref().unwrap_or_default());
    let mut retries = Retries::new(record);
    wait::until(step, &what, deadline, async || match unserved(client, cluster, root).await {
        Ok(None) => Ok(Poll::Ready(())),
        Ok(Some(why)) => Ok(Poll::NotYet(why)),
        Err(error) => retries.failed(&what, error),
    })
    .await
}
