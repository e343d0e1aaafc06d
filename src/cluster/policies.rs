//! Policies: named Istio manifests that change how calls behave, or who may call. They are applied to the clusters where
//! they take effect, removed, and listed. They are plain manifests: kubectl does the same with the files.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use futures::future::try_join_all;
use kube::api::{Api, DeleteParams, DynamicObject, Preconditions};
use kube::{Client, ResourceExt};
use serde::Serialize;
use tokio::time::Instant;

use crate::base::error::Error;
use crate::base::event::{Events, Outcome};
use crate::cluster::environment::Environment;
use crate::cluster::mesh::apply::Applier;
use crate::cluster::{kinds, objects};
use crate::plan::{MANAGED_BY, MANAGED_BY_LABEL};

mod policy;

use policy::refuse_rivals;
pub(crate) use policy::{LABEL, called, is_ours};
pub use policy::{Policy, Side};

/// The result for one policy in one cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// The policy.
    pub policy: Policy,
    /// The cluster.
    pub cluster: String,
    /// Whether anything was changed.
    pub changed: bool,
    /// The policy that this one replaced.
    pub replaced: Option<Policy>,
    /// The policy of `up` that was restored.
    pub restored: Option<Policy>,
    /// Whether the policy takes effect in this cluster: whether the cluster has the caller or producer that it is for.
    pub acts_here: bool,
}

/// A policy in the list.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// The policy.
    pub policy: Policy,
    /// The side at which it takes effect.
    pub acts_at: Side,
    /// The clusters in which it takes effect.
    pub acts_in: Vec<String>,
    /// What it does, in one sentence.
    pub does: String,
    /// The clusters to which it is applied.
    pub applied_in: Vec<String>,
}

/// The policies of one environment.
pub struct Policies<'a> {
    environment: &'a Environment,
    clients: BTreeMap<String, Client>,
    deadline: Instant,
}

impl std::fmt::Debug for Policies<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Policies { .. }")
    }
}

impl<'a> Policies<'a> {
    /// Returns the policies of an environment, whose clusters must respond by the deadline.
    ///
    /// # Errors
    /// A usage error if the environment has no samples, which every policy needs; or if a cluster's kubeconfig is missing.
    pub async fn of(environment: &'a Environment, deadline: Instant) -> anyhow::Result<Self> {
        if !environment.spec.samples.enabled {
            return Err(Error::usage("policies need the samples, which are disabled in this environment").into());
        }
        let mut clients = BTreeMap::new();
        for cluster in &environment.spec.clusters {
            clients.insert(cluster.name.to_string(), environment.client(cluster.name.as_str()).await?);
        }
        Ok(Self { environment, clients, deadline })
    }

    /// Applies policies where they take effect, or to one cluster. Nothing is changed unless kindmesh created every object
    /// that would be changed.
    ///
    /// # Errors
    /// A usage error for policies that are the same object, for an unknown cluster and for an object that kindmesh did not
    /// create; the API servers'.
    pub async fn apply(&self, policies: &[Policy], to: Option<&str>) -> anyhow::Result<Vec<Change>> {
        let policies = distinct(policies);
        refuse_rivals(&policies)?;
        let mut places = Vec::new();
        for policy in policies {
            let clusters = match to {
                Some(cluster) => vec![self.environment.cluster(cluster)?.name.to_string()],
                None => self.takes_effect_in(policy),
            };
            places.extend(clusters.into_iter().map(|cluster| (policy, cluster)));
        }
        let found = try_join_all(places.into_iter().map(|(policy, cluster)| self.look(policy, cluster))).await?;
        try_join_all(found.into_iter().map(|found| self.apply_one(found))).await
    }

    /// Removes policies, from one cluster or from all. If one replaced a policy of `up`, that policy is restored, unless it is
    /// removed, too.
    ///
    /// # Errors
    /// See [`Policies::apply`].
    pub async fn unapply(&self, policies: &[Policy], from: Option<&str>) -> anyhow::Result<Vec<Change>> {
        let clusters = match from {
            Some(cluster) => vec![self.environment.cluster(cluster)?.name.to_string()],
            None => self.clusters(),
        };
        let policies = &distinct(policies);
        let mut places = Vec::new();
        for &policy in policies {
            places.extend(clusters.iter().map(|cluster| self.look(policy, cluster.clone())));
        }
        let found = try_join_all(places).await?;
        // Skip clusters where the policy is not applied and does not take effect.
        let told = found.into_iter().filter(|found| from.is_some() || found.acts_here || found.is_applied());
        try_join_all(told.map(|found| self.unapply_one(found, policies))).await
    }

    /// Lists every policy and where it is applied.
    ///
    /// # Errors
    /// The API servers'.
    pub async fn list(&self) -> anyhow::Result<Vec<Listed>> {
        let rows = Policy::all().iter().map(|&policy| async move {
            let look = async |cluster: String| {
                let live = self.live(policy, &cluster).await?;
                let applied = live.filter(is_ours).and_then(|live| policy.found_in(&live)) == Some(policy);
                anyhow::Ok(applied.then_some(cluster))
            };
            let applied_in = try_join_all(self.clusters().into_iter().map(look)).await?;
            anyhow::Ok(Listed {
                policy,
                acts_at: policy.side(),
                acts_in: self.takes_effect_in(policy),
                does: policy.does(),
                applied_in: applied_in.into_iter().flatten().collect(),
            })
        });
        try_join_all(rows).await
    }

    fn clusters(&self) -> Vec<String> {
        self.environment.spec.clusters.iter().map(|cluster| cluster.name.to_string()).collect()
    }

    fn takes_effect_in(&self, policy: Policy) -> Vec<String> {
        let samples = &self.environment.spec.samples;
        let clusters = match policy.side() {
            Side::Caller => &samples.caller.clusters,
            Side::Producer => &samples.producer.clusters,
        };
        // An istiod reads Istio's objects from its own cluster.
        let places: BTreeSet<&str> = clusters.iter().map(|name| self.control_plane_of(name.as_str())).collect();
        self.clusters().into_iter().filter(|cluster| places.contains(cluster.as_str())).collect()
    }

    /// Returns the cluster with the istiod of a cluster's proxies.
    fn control_plane_of<'b>(&'b self, name: &'b str) -> &'b str {
        let spec = &self.environment.spec;
        let cluster = spec.clusters.iter().find(|cluster| cluster.name.as_str() == name);
        cluster.map_or(name, |cluster| spec.control_plane_of(cluster).name.as_str())
    }

    fn namespace(&self) -> &str {
        self.environment.spec.samples.namespace.as_str()
    }

    /// Returns the live object of a policy's kind and name, even if kindmesh did not create it.
    async fn live(&self, policy: Policy, cluster: &str) -> anyhow::Result<Option<DynamicObject>> {
        let object = policy.object(self.namespace())?;
        let what = || format!("getting {} from cluster {cluster}", called(&object));
        let (api, name) = (self.api(cluster, &object)?, object.name_any());
        let answer = tokio::time::timeout_at(self.deadline, api.get_opt(&name)).await;
        answer.map_err(|_| late(cluster))?.with_context(what)
    }

    /// Finds a policy in a cluster. Refuses an object that kindmesh did not create.
    async fn look(&self, policy: Policy, cluster: String) -> anyhow::Result<Found> {
        let live = self.live(policy, &cluster).await?;
        if let Some(foreign) = live.as_ref().filter(|live| !is_ours(live)) {
            return Err(self.refused(foreign, &cluster).into());
        }
        let acts_here = self.takes_effect_in(policy).contains(&cluster);
        Ok(Found { policy, cluster, live, acts_here })
    }

    fn refused(&self, foreign: &DynamicObject, cluster: &str) -> Error {
        let kind = foreign.types.as_ref().map(|types| types.kind.to_lowercase()).unwrap_or_default();
        Error::usage(format!("{} in cluster {cluster} exists, but kindmesh did not create it", called(foreign)))
            .evidence(format!("the label {MANAGED_BY_LABEL}={MANAGED_BY} is missing"))
            .hint(format!(
                "to delete it: kubectl --context {} -n {} delete {kind} {}",
                self.environment.context(cluster),
                self.namespace(),
                foreign.name_any()
            ))
    }

    async fn apply_one(&self, found: Found) -> anyhow::Result<Change> {
        let changed = self.apply_found(&found, found.policy).await?;
        let replaced = found.there().filter(|there| *there != found.policy);
        Ok(Change { changed, replaced, ..found.unchanged() })
    }

    async fn unapply_one(&self, found: Found, policies: &[Policy]) -> anyhow::Result<Change> {
        let Some(live) = found.live.as_ref().filter(|_| found.is_applied()) else {
            return Ok(found.unchanged());
        };
        let own = found.policy.replaces().filter(|own| found.acts_here && !policies.contains(own));
        match own {
            Some(own) => self.apply_found(&found, own).await.map(drop)?,
            None => self.delete(&found, live).await?,
        }
        Ok(Change { changed: true, restored: own, ..found.unchanged() })
    }

    async fn apply_found(&self, found: &Found, policy: Policy) -> anyhow::Result<bool> {
        let object = policy.object(self.namespace())?;
        // It takes a fraction of a second, so only the result is shown.
        let step = Events::silent().step("policies", Some(&found.cluster));
        step.run(async |step| {
            let client = self.clients[&found.cluster].clone();
            let record = self.environment.record(&found.cluster);
            let applier = Applier::new(client, step, self.deadline).recording(&record);
            let changed = { applier }.apply(vec![object]).await?;
            Ok(Outcome { value: changed, changed })
        })
        .await
    }

    /// Deletes the object that was found, but not one that has replaced it since.
    async fn delete(&self, found: &Found, live: &DynamicObject) -> anyhow::Result<()> {
        let seen = Preconditions { uid: live.uid(), resource_version: live.resource_version() };
        let parameters = DeleteParams { preconditions: Some(seen), ..DeleteParams::default() };
        let (api, name) = (self.api(&found.cluster, live)?, live.name_any());
        let what = || format!("deleting {} in cluster {}", called(live), found.cluster);
        let deleted =
            tokio::time::timeout_at(self.deadline, objects::delete_if_exists(&api, &name, &parameters)).await;
        deleted.map_err(|_| late(&found.cluster))?.map(drop).with_context(what)
    }

    fn api(&self, cluster: &str, object: &DynamicObject) -> anyhow::Result<Api<DynamicObject>> {
        let client = self.clients.get(cluster).with_context(|| format!("no client for cluster {cluster}"))?;
        kinds::api_of(client, object)
    }
}

fn late(cluster: &str) -> Error {
    Error::environment(format!("cluster {cluster} did not respond in time"))
        .hint("kindmesh status shows what is wrong; --timeout allows more time")
}

/// A policy as found in a cluster.
struct Found {
    policy: Policy,
    cluster: String,
    /// The live object of its kind and name, created by kindmesh.
    live: Option<DynamicObject>,
    acts_here: bool,
}

impl Found {
    /// Returns the policy that the live object is.
    fn there(&self) -> Option<Policy> {
        self.live.as_ref().and_then(|live| self.policy.found_in(live))
    }

    fn is_applied(&self) -> bool {
        self.there() == Some(self.policy)
    }

    fn unchanged(&self) -> Change {
        Change {
            policy: self.policy,
            cluster: self.cluster.clone(),
            changed: false,
            replaced: None,
            restored: None,
            acts_here: self.acts_here,
        }
    }
}

fn distinct(policies: &[Policy]) -> Vec<Policy> {
    let mut distinct = Vec::new();
    for &policy in policies {
        if !distinct.contains(&policy) {
            distinct.push(policy);
        }
    }
    distinct
}
