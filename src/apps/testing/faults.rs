//! Faults that a test injects: between clusters, and a drained cluster.

use std::time::Duration;

use anyhow::Context;
use kube::ResourceExt;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::namespace::CALLER;
use super::{Fault, Namespace, Poll};
use crate::base::error::Error;
use crate::cluster::fault;
use crate::cluster::kinds;
use crate::cluster::mesh::envoy;
use crate::cluster::rollout::{Kind, Rollout};

/// The number of a Deployment's pods before its cluster was drained.
const REPLICAS: &str = "kindmesh/replicas";
/// How long pods may take to terminate or become ready, and every proxy to be updated.
const PODS_TIMEOUT: Duration = Duration::from_secs(90);

impl Namespace {
    /// Injects a fault between clusters, or into istiod of one. Returns when it is in effect; it ends with the test, or by
    /// [`Namespace::end_faults`].
    ///
    /// # Errors
    /// A usage error unless the test runs alone: faults affect all tests; a missing prerequisite if the engine's kernel
    /// cannot do it.
    pub async fn inject(&self, fault: Fault, clusters: &[&str]) -> anyhow::Result<()> {
        if !self.alone {
            return Err(Error::usage("a fault affects all tests")
                .hint("start this test with mesh.test_alone(…), which runs while no other test does")
                .into());
        }
        let clusters = clusters
            .iter()
            .map(|name| Ok(self.planned(name)?.name.clone()))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let fault = fault::Fault::new(fault, clusters, fault::LONGEST);
        fault::inject(&self.mesh.engine, &self.mesh.plan, &fault).await
    }

    /// Cuts the link between two clusters: no packet of a pod of one reaches a pod of the other, while both control planes
    /// stay connected. Returns when it is cut.
    ///
    /// # Errors
    /// As for [`Namespace::inject`].
    pub async fn cut_link(&self, one: &str, other: &str) -> anyhow::Result<()> {
        self.inject(Fault::Cut, &[one, other]).await
    }

    /// Ends every fault. Returns when none is in effect.
    ///
    /// # Errors
    /// The engine's errors.
    pub async fn end_faults(&self) -> anyhow::Result<()> {
        self.mesh.end_faults().await
    }

    fn planned(&self, cluster: &str) -> anyhow::Result<&crate::plan::Cluster> {
        self.mesh.side(cluster)?;
        self.mesh.plan.cluster(cluster).with_context(|| format!("the plan has no cluster {cluster}"))
    }

    /// Drains a cluster: every Deployment of this namespace in it is scaled to zero, except the caller. Returns
    /// when no proxy in any cluster has an endpoint there.
    ///
    /// # Errors
    /// The API server's errors, or if it takes too long.
    pub async fn drain(&self, cluster: &str) -> anyhow::Result<()> {
        self.planned(cluster)?;
        let api = self.deployments(cluster)?;
        for deployment in self.own(&api).await? {
            let replicas = deployment.data.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1);
            if replicas > 0 {
                let patch = json!({"metadata": {"annotations": {REPLICAS: replicas.to_string()}},
                    "spec": {"replicas": 0}});
                scale(&api, &deployment.name_any(), patch).await?;
            }
        }
        let what = format!("every proxy to know that {cluster} is drained");
        self.until_everywhere(&what, PODS_TIMEOUT, async |side| {
            let pod = self.caller(side).await?.name_any();
            let said = envoy::page(&side.client, &self.name, &pod, "clusters").await?;
            let ours = format!(".{}.svc.cluster.local", self.name);
            let left = envoy::endpoints(&said).filter(|endpoint| {
                endpoint.of.starts_with("outbound|")
                    && endpoint.of.ends_with(&ours)
                    && self.is_in(endpoint.address, cluster)
            });
            Ok(match left.count() {
                0 => Poll::Ready(()),
                count => Poll::NotYet(format!("{count} endpoints left")),
            })
        })
        .await
    }

    /// Restores a drained cluster. Returns when its pods are ready again.
    ///
    /// # Errors
    /// As for [`Namespace::drain`].
    pub async fn refill(&self, cluster: &str) -> anyhow::Result<()> {
        let api = self.deployments(cluster)?;
        for deployment in self.own(&api).await? {
            let Some(replicas) = deployment.annotations().get(REPLICAS).and_then(|n| n.parse::<i32>().ok()) else {
                continue;
            };
            let patch = json!({"metadata": {"annotations": {REPLICAS: null}}, "spec": {"replicas": replicas}});
            scale(&api, &deployment.name_any(), patch).await?;
        }
        self.until(&format!("the pods in {cluster} to be ready"), PODS_TIMEOUT, async || {
            for deployment in self.own(&api).await? {
                if let Some(why) = Rollout::of(Kind::Deployment, &deployment).lacks() {
                    return Ok(Poll::NotYet(format!("{}: {why}", deployment.name_any())));
                }
            }
            Ok(Poll::Ready(()))
        })
        .await
    }

    fn deployments(&self, cluster: &str) -> anyhow::Result<Api<DynamicObject>> {
        Ok(kinds::api(&self.mesh.side(cluster)?.client, "apps/v1", "Deployment", Some(&self.name)))
    }

    /// The test's own Deployments, without the caller.
    async fn own(&self, api: &Api<DynamicObject>) -> anyhow::Result<Vec<DynamicObject>> {
        let mut found = api.list(&ListParams::default()).await?.items;
        found.retain(|deployment| deployment.name_any() != CALLER);
        Ok(found)
    }
}

async fn scale(api: &Api<DynamicObject>, name: &str, patch: serde_json::Value) -> anyhow::Result<()> {
    let patched = api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
    patched.map(drop).with_context(|| format!("scaling {name}"))
}
