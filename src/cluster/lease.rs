//! Temporary namespaces with a lease. `kill -9` prevents cleanup, so each run deletes the expired namespaces of killed
//! runs.

use std::time::Duration;

use anyhow::Context;
use futures::future::join_all;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::time::Instant;

use crate::base::event::Events;
use crate::base::names::PART_OF_LABEL;
use crate::base::wait::{self, Poll};
use crate::cluster::mesh::apply;
use crate::cluster::refusal::{Record, Retries};
use crate::plan::{MANAGED_BY, MANAGED_BY_LABEL};

/// The annotation with the time at which the lease of a namespace expires, in seconds since 1970.
const LEASE: &str = "kindmesh/lease-until";
/// How long deleting expired namespaces may delay a run.
const SWEEP_TIMEOUT: Duration = Duration::from_secs(10);
/// The timeout for deleting a namespace. One with pods took 3 to 8 s on two cores.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(60);

/// Returns a namespace of the mesh whose lease starts now. `part_of` is its purpose.
///
/// # Errors
/// None are expected: the object is built in.
pub(crate) fn namespace(name: &str, part_of: &str, lasts: Duration) -> anyhow::Result<DynamicObject> {
    apply::object(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
        "name": name, "labels": {"istio-injection": "enabled", PART_OF_LABEL: part_of},
        "annotations": {LEASE: until(lasts).to_string()}}}))
}

fn until(lasts: Duration) -> i64 {
    jiff::Timestamp::now().as_second() + i64::try_from(lasts.as_secs()).unwrap_or(i64::MAX / 2)
}

/// Renews the lease of a namespace from now on.
///
/// # Errors
/// The API server's.
pub(crate) async fn renew(client: &Client, name: &str, lasts: Duration) -> anyhow::Result<()> {
    let api: Api<Namespace> = Api::all(client.clone());
    let patch = Patch::Merge(json!({"metadata": {"annotations": {LEASE: until(lasts).to_string()}}}));
    api.patch(name, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// Deletes namespaces with expired leases. Ends within 10 s: a failure must not keep a run from starting.
pub(crate) async fn sweep(client: &Client, part_of: &str) {
    let api: Api<Namespace> = Api::all(client.clone());
    let ours = format!("{MANAGED_BY_LABEL}={MANAGED_BY},{PART_OF_LABEL}={part_of}");
    let is_over = |namespace: &Namespace| {
        let until = namespace.annotations().get(LEASE).and_then(|until| until.parse::<i64>().ok());
        until.is_some_and(|until| until < jiff::Timestamp::now().as_second())
    };
    let removed = async {
        let Ok(found) = api.list(&ListParams::default().labels(&ours)).await else { return };
        let over: Vec<String> = found.iter().filter(|found| is_over(found)).map(ResourceExt::name_any).collect();
        join_all(over.iter().map(|name| delete(client, name))).await;
    };
    let _ = tokio::time::timeout(SWEEP_TIMEOUT, removed).await;
}

/// Deletes a namespace, and its pods without a grace period.
///
/// # Errors
/// The API server's.
pub(crate) async fn delete(client: &Client, namespace: &str) -> anyhow::Result<()> {
    let api: Api<Namespace> = Api::all(client.clone());
    match api.delete(namespace, &DeleteParams::background()).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
        Err(error) => return Err(error).with_context(|| format!("deleting namespace {namespace}")),
    }
    // Their Deployments are deleted at the same time. A pod that one of them still creates is deleted with the namespace.
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let _ = deployments.delete_collection(&DeleteParams::background(), &ListParams::default()).await;
    let _ = pods.delete_collection(&DeleteParams::default().grace_period(0), &ListParams::default()).await;
    Ok(())
}

/// Waits until a namespace of a cluster is deleted.
///
/// # Errors
/// If it is not deleted within a minute.
pub(crate) async fn gone(client: &Client, namespace: &str, cluster: &str) -> anyhow::Result<()> {
    let api: Api<Namespace> = Api::all(client.clone());
    let step = Events::silent().step("lease", None);
    let what = format!("namespace {namespace} of {cluster} to be deleted");
    let record = Record::default();
    let mut retries = Retries::new(&record);
    wait::until(&step, &what, Instant::now() + REMOVE_TIMEOUT, async || match api.get_opt(namespace).await {
        Ok(None) => Ok(Poll::Ready(())),
        Ok(Some(_)) => Ok(Poll::NotYet("terminating".into())),
        Err(error) => retries.failed(&what, error),
    })
    .await
}
