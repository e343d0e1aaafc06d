//! Manifests with a name that change how the call behaves, or who may make it: applied to the clusters where they act,
//! taken away again, and listed. Nothing in them is special: kubectl does the same with the files.

use std::collections::BTreeMap;

use anyhow::Context;
use futures::future::try_join_all;
use kube::api::{Api, DeleteParams, DynamicObject, Preconditions};
use kube::{Client, ResourceExt};
use serde::Serialize;
use tokio::time::Instant;

use crate::base::error::Error;
use crate::base::event::{Events, Outcome};
use crate::cluster::environment::Environment;
use crate::cluster::kinds;
use crate::cluster::mesh::apply::Applier;
use crate::plan::{MANAGED_BY, MANAGED_BY_LABEL};

mod policy;

use policy::refuse_rivals;
pub(crate) use policy::{LABEL, called, is_ours};
pub use policy::{Policy, Side};

/// What became of one policy in one cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// The policy.
    pub policy: Policy,
    /// The cluster.
    pub cluster: String,
    /// Whether anything had to be changed.
    pub changed: bool,
    /// The policy that was there before and made way.
    pub replaced: Option<Policy>,
    /// The policy of `up`'s own that came back.
    pub restored: Option<Policy>,
    /// Whether the policy acts in this cluster: whether the side it acts at is there.
    pub acts_here: bool,
}

/// A policy as it is listed.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// The policy.
    pub policy: Policy,
    /// Where it acts.
    pub acts_at: Side,
    /// The clusters with that side.
    pub acts_in: Vec<String>,
    /// What it does.
    pub does: String,
    /// The clusters it is applied in now.
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
    /// Those of an environment, whose clusters have to answer by the deadline.
    ///
    /// # Errors
    /// A usage error when it has no samples, to which every policy belongs; a cluster's kubeconfig that is missing.
    pub async fn of(environment: &'a Environment, deadline: Instant) -> anyhow::Result<Self> {
        if !environment.spec.samples.enabled {
            return Err(Error::usage("this environment has no samples that a policy could act on").into());
        }
        let mut clients = BTreeMap::new();
        for cluster in &environment.spec.clusters {
            clients.insert(cluster.name.to_string(), environment.client(cluster.name.as_str()).await?);
        }
        Ok(Self { environment, clients, deadline })
    }

    /// Applies policies where they act, or to one cluster. Nothing is changed before every object that would be
    /// changed was seen to be kindmesh's own.
    ///
    /// # Errors
    /// A usage error for policies that are the same object, for an unknown cluster and for a user's own object; the
    /// API servers'.
    pub async fn apply(&self, policies: &[Policy], to: Option<&str>) -> anyhow::Result<Vec<Change>> {
        let policies = distinct(policies);
        refuse_rivals(&policies)?;
        let mut places = Vec::new();
        for policy in policies {
            let clusters = match to {
                Some(cluster) => vec![self.environment.cluster(cluster)?.name.to_string()],
                None => self.acts_in(policy),
            };
            places.extend(clusters.into_iter().map(|cluster| (policy, cluster)));
        }
        let found = try_join_all(places.into_iter().map(|(policy, cluster)| self.look(policy, cluster))).await?;
        try_join_all(found.into_iter().map(|found| self.apply_one(found))).await
    }

    /// Takes policies away, from one cluster or wherever they are. What took the place of `up`'s own makes way for
    /// it again, unless that is taken away, too.
    ///
    /// # Errors
    /// As [`Policies::apply`].
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
        // Where it neither is nor acts there is nothing to tell.
        let told = found.into_iter().filter(|found| from.is_some() || found.acts_here || found.is_applied());
        try_join_all(told.map(|found| self.unapply_one(found, policies))).await
    }

    /// Every policy, and where it is applied.
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
                acts_in: self.acts_in(policy),
                does: policy.does(),
                applied_in: applied_in.into_iter().flatten().collect(),
            })
        });
        try_join_all(rows).await
    }

    fn clusters(&self) -> Vec<String> {
        self.environment.spec.clusters.iter().map(|cluster| cluster.name.to_string()).collect()
    }

    fn acts_in(&self, policy: Policy) -> Vec<String> {
        let samples = &self.environment.spec.samples;
        let clusters = match policy.side() {
            Side::Caller => &samples.caller.clusters,
            Side::Producer => &samples.producer.clusters,
        };
        clusters.iter().map(ToString::to_string).collect()
    }

    fn namespace(&self) -> &str {
        self.environment.spec.samples.namespace.as_str()
    }

    /// The object of a policy's kind and name, whoever made it.
    async fn live(&self, policy: Policy, cluster: &str) -> anyhow::Result<Option<DynamicObject>> {
        let object = policy.object(self.namespace())?;
        let what = || format!("asking cluster {cluster} for {}", called(&object));
        let (api, name) = (self.api(cluster, &object)?, object.name_any());
        let answer = tokio::time::timeout_at(self.deadline, api.get_opt(&name)).await;
        answer.map_err(|_| late(cluster))?.with_context(what)
    }

    /// Looks at what there is of a policy in a cluster, and refuses a user's own.
    async fn look(&self, policy: Policy, cluster: String) -> anyhow::Result<Found> {
        let live = self.live(policy, &cluster).await?;
        if let Some(foreign) = live.as_ref().filter(|live| !is_ours(live)) {
            return Err(self.refused(foreign, &cluster).into());
        }
        let acts_here = self.acts_in(policy).contains(&cluster);
        Ok(Found { policy, cluster, live, acts_here })
    }

    fn refused(&self, foreign: &DynamicObject, cluster: &str) -> Error {
        let kind = foreign.types.as_ref().map(|types| types.kind.to_lowercase()).unwrap_or_default();
        Error::usage(format!("{} in cluster {cluster} is not kindmesh's: left as it is", called(foreign)))
            .evidence(format!("it has no label {MANAGED_BY_LABEL}={MANAGED_BY}"))
            .hint(format!(
                "to do without it: kubectl --context {} -n {} delete {kind} {}",
                self.environment.context(cluster),
                self.namespace(),
                foreign.name_any()
            ))
    }

    async fn apply_one(&self, found: Found) -> anyhow::Result<Change> {
        let changed = self.put(&found, found.policy).await?;
        let replaced = found.there().filter(|there| *there != found.policy);
        Ok(Change { changed, replaced, ..found.unchanged() })
    }

    async fn unapply_one(&self, found: Found, policies: &[Policy]) -> anyhow::Result<Change> {
        let Some(live) = found.live.as_ref().filter(|_| found.is_applied()) else {
            return Ok(found.unchanged());
        };
        let own = found.policy.replaces().filter(|own| found.acts_here && !policies.contains(own));
        match own {
            Some(own) => self.put(&found, own).await.map(drop)?,
            None => self.delete(&found, live).await?,
        }
        Ok(Change { changed: true, restored: own, ..found.unchanged() })
    }

    async fn put(&self, found: &Found, policy: Policy) -> anyhow::Result<bool> {
        let object = policy.object(self.namespace())?;
        // Over within a fraction of a second: shown by its result alone.
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

    /// Deletes what was looked at, and nothing that took its place since.
    async fn delete(&self, found: &Found, live: &DynamicObject) -> anyhow::Result<()> {
        let seen = Preconditions { uid: live.uid(), resource_version: live.resource_version() };
        let parameters = DeleteParams { preconditions: Some(seen), ..DeleteParams::default() };
        let (api, name) = (self.api(&found.cluster, live)?, live.name_any());
        let what = || format!("deleting {} in cluster {}", called(live), found.cluster);
        let deleted = tokio::time::timeout_at(self.deadline, api.delete(&name, &parameters)).await;
        match deleted.map_err(|_| late(&found.cluster))? {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            result => result.map(drop).with_context(what),
        }
    }

    fn api(&self, cluster: &str, object: &DynamicObject) -> anyhow::Result<Api<DynamicObject>> {
        let client = self.clients.get(cluster).with_context(|| format!("no client for cluster {cluster}"))?;
        kinds::api_of(client, object)
    }
}

fn late(cluster: &str) -> Error {
    Error::environment(format!("cluster {cluster} gave no answer in time"))
        .hint("kindmesh status shows what is wrong; --timeout gives it longer")
}

/// What there is of a policy in a cluster.
struct Found {
    policy: Policy,
    cluster: String,
    /// The object of its kind and name, kindmesh's own.
    live: Option<DynamicObject>,
    acts_here: bool,
}

impl Found {
    /// The policy that is there now.
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
