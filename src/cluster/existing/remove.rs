//! Removes what `up` made in a cluster that exists, and what its istiod made there. Objects of others stay, and what they need.
//!
//! The order: what refers to other clusters, what runs in the mesh, the mesh from its edges to istiod, what istiod left behind, and last
//! what says that the environment is here. A second run continues an interrupted one, and finds nothing after a complete one.

use anyhow::Context;
use futures::{StreamExt, TryStreamExt};
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::{Client, ResourceExt};
use tokio::time::Instant;

use super::RECORD;
use super::record::{self, Before};
use crate::base::error::Error;
use crate::base::event::Step;
use crate::base::hint::down_hint;
use crate::cluster::mesh::apply::MAX_CONCURRENT;
use crate::cluster::mesh::{ISTIO_NAMESPACE, gateway, istio};
use crate::cluster::objects::is_terminating;
use crate::cluster::refusal::Record;
use delete::{Among, Deleter};
use owner::{Metadata, resource};

mod definitions;
mod delete;
mod istiod;
mod owner;
#[cfg(test)]
mod tests;

/// The label of a remote secret.
const REMOTE_LABEL: &str = "istio/multiCluster";

/// What became of an environment's objects in a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Whether anything was deleted.
    pub changed: bool,
    /// What was left and why, a line each.
    pub left: Vec<String>,
}

/// Deletes the remote secrets of an environment in a cluster, so that its istiod stops reading peers that are about to go. Returns
/// whether there were any.
///
/// # Errors
/// The API server's, or if one still exists at the deadline; a usage error if the cluster belongs to another environment.
pub async fn withdraw(
    client: &Client,
    environment: &str,
    record: &Record,
    step: &Step,
    deadline: Instant,
) -> anyhow::Result<bool> {
    let deleter = Deleter { client, environment, record, step, deadline };
    before(&deleter).await?;
    delete_remote_secrets(&deleter).await
}

/// Removes what an environment's `up`, and its istiod, left in a cluster. `record` is the record of the cluster's refusals.
///
/// # Errors
/// The API server's, or if something still exists at the deadline: with its last status and its events; a usage error if the
/// cluster belongs to another environment.
pub async fn remove(
    client: &Client,
    environment: &str,
    cluster: &str,
    record: &Record,
    step: &Step,
    deadline: Instant,
) -> anyhow::Result<Removed> {
    let deleter = Deleter { client, environment, record, step, deadline };
    let before = before(&deleter).await?;
    let mut removal = Removal { deleter, cluster, before, removed: Removed::default() };
    removal.removed.changed |= delete_remote_secrets(&removal.deleter).await?;
    removal.samples_and_deployed().await?;
    removal.webhooks().await?;
    removal.gateways().await?;
    if removal.before.as_ref().is_some_and(|before| before.uses_istio) {
        removal.rest().await?;
        removal.record_and_namespace().await?;
        return Ok(removal.removed);
    }
    let other = removal.other_istiod().await?;
    removal.istiod(other.as_ref()).await?;
    removal.rest().await?;
    removal.made_by_istiod(other.as_ref()).await?;
    removal.definitions().await?;
    removal.record_and_namespace().await?;
    removal.keep_trust(other.as_ref()).await?;
    Ok(removal.removed)
}

/// Reads the record of the environment; none if the cluster has none. A cluster with that of another environment is refused: all
/// objects of kindmesh in it are that one's.
async fn before(deleter: &Deleter<'_>) -> anyhow::Result<Option<Before>> {
    let get = async || record::live(deleter.client).await.context("getting the record of the environment");
    let Some(map) = deleter.retried("the record of the environment", get).await? else { return Ok(None) };
    let recorded = Before::environment(&map);
    if recorded != deleter.environment {
        let message = format!("the cluster belongs to environment \"{recorded}\"");
        return Err(Error::usage(message).hint(down_hint(recorded)).into());
    }
    Ok(Before::of(&map))
}

/// Returns the kinds that the user of a cluster that exists has to be allowed to list: those of kindmesh's objects, those that `deploy`
/// applied, and those that are looked for before a namespace is deleted.
///
/// # Errors
/// The API server's.
pub async fn kinds(client: &Client) -> anyhow::Result<Vec<ApiResource>> {
    let found = record::live(client).await.context("getting the record of the environment")?;
    let before = found.and_then(|map| Before::of(&map));
    let mut kinds = owner::looked_for(before.as_ref().map_or(&[], |before| &before.kinds));
    kinds.extend(owner::everywhere());
    Ok(kinds)
}

async fn delete_remote_secrets(deleter: &Deleter<'_>) -> anyhow::Result<bool> {
    let remote = |secret: &Metadata| secret.labels().contains_key(REMOTE_LABEL);
    deleter.delete_ours(&[resource(owner::SECRET)], remote).await
}

/// The removal of an environment from one cluster.
struct Removal<'a> {
    deleter: Deleter<'a>,
    cluster: &'a str,
    /// What was there before `up`; none without a record.
    before: Option<Before>,
    removed: Removed,
}

impl Removal<'_> {
    /// Returns the kinds that `deploy` applied besides those of kindmesh itself.
    fn deployed_kinds(&self) -> &[ApiResource] {
        self.before.as_ref().map_or(&[], |before| &before.kinds)
    }

    /// Deletes the namespaces that the environment created, except Istio's, and its objects in others. A namespace with objects of others
    /// stays.
    async fn samples_and_deployed(&mut self) -> anyhow::Result<()> {
        let mut whole = Vec::new();
        for namespace in self.namespaces().await? {
            if namespace.name_any() != ISTIO_NAMESPACE && self.is_only_ours(&namespace).await? {
                whole.push(namespace.name_any());
            }
        }
        let of_whole = |namespace: &Metadata| whole.contains(&namespace.name_any());
        self.removed.changed |= self.deleter.delete_ours(&[resource(owner::NAMESPACE)], of_whole).await?;
        let kinds = owner::applied(self.deployed_kinds());
        let of_users = |object: &Metadata| object.namespace().as_deref() != Some(ISTIO_NAMESPACE);
        self.removed.changed |= self.deleter.delete_ours(&kinds, of_users).await?;
        Ok(())
    }

    /// Deletes the configurations of webhooks, before the istiod that they call: without it, no pod could be created.
    async fn webhooks(&mut self) -> anyhow::Result<()> {
        let kinds = owner::WEBHOOKS.map(resource);
        self.removed.changed |= self.deleter.delete_ours(&kinds, |_| true).await?;
        Ok(())
    }

    /// Deletes the Services of Istio's namespace except istiod's, and waits until their load balancers are gone: then the cloud has
    /// released their addresses. Deletes the gateway's pods after them.
    async fn gateways(&mut self) -> anyhow::Result<()> {
        let exposed = |service: &Metadata| service.name_any() != istio::ISTIOD;
        self.removed.changed |= self.deleter.delete_ours(&[resource(owner::SERVICE)], exposed).await?;
        let gateways = |deployment: &Metadata| deployment.name_any().starts_with(gateway::NAME);
        self.removed.changed |= self.deleter.delete_ours(&[resource(owner::DEPLOYMENT)], gateways).await?;
        Ok(())
    }

    /// Deletes all other objects of the environment, except its CRDs, its record and its namespace: the reader and its token, roles and
    /// their bindings, `cacerts`, the configuration of Istio.
    async fn rest(&mut self) -> anyhow::Result<()> {
        let mut kinds = owner::applied(self.deployed_kinds());
        kinds.extend(owner::CLUSTER_WIDE.map(resource));
        let not_record = |object: &Metadata| object.name_any() != RECORD;
        self.removed.changed |= self.deleter.delete_ours(&kinds, not_record).await?;
        Ok(())
    }

    /// Deletes what says that the environment is here: Istio's namespace with the record in it, or only the record if the namespace is not
    /// ours, or not only ours.
    async fn record_and_namespace(&mut self) -> anyhow::Result<()> {
        let ours = self.namespaces().await?.into_iter().find(|namespace| namespace.name_any() == ISTIO_NAMESPACE);
        let whole = match &ours {
            Some(namespace) => self.is_only_ours(namespace).await?,
            None => false,
        };
        if whole {
            let istios = |namespace: &Metadata| namespace.name_any() == ISTIO_NAMESPACE;
            self.removed.changed |= self.deleter.delete_ours(&[resource(owner::NAMESPACE)], istios).await?;
        } else {
            let maps = [resource(owner::CONFIG_MAP)];
            self.removed.changed |= self.deleter.delete_ours(&maps, |map| map.name_any() == RECORD).await?;
        }
        Ok(())
    }

    /// Whether a namespace that the environment created has nothing of others, or is being deleted. If it has, this is noted as what was
    /// left.
    async fn is_only_ours(&mut self, namespace: &Metadata) -> anyhow::Result<bool> {
        if is_terminating(namespace) {
            return Ok(true);
        }
        let namespace = namespace.name_any();
        let looked_for = owner::looked_for(self.deployed_kinds());
        let deleter = &self.deleter;
        let lists = looked_for.iter().map(async |kind| {
            let among = Among { namespace: Some(&namespace), labels: "" };
            let what = format!("the {} of namespace {namespace}", kind.plural);
            let listed = deleter.retried(&what, async || deleter.list(kind, among).await).await?;
            let others = listed.into_iter().filter(|object| owner::is_foreign(&kind.kind, object, &looked_for));
            anyhow::Ok(others.map(|object| format!("{} {}", kind.kind, object.name_any())).collect::<Vec<_>>())
        });
        let others = futures::stream::iter(lists).buffered(MAX_CONCURRENT).try_collect::<Vec<_>>().await?.concat();
        if others.is_empty() {
            return Ok(true);
        }
        let line =
            format!("namespace {namespace} in {}: it has {} of others", self.cluster, owner::named(&others));
        self.removed.left.push(line);
        Ok(false)
    }

    /// Returns the namespaces that the environment created.
    async fn namespaces(&self) -> anyhow::Result<Vec<Metadata>> {
        let (kind, labels) = (resource(owner::NAMESPACE), owner::selector());
        let among = Among { namespace: None, labels: &labels };
        self.deleter
            .retried("the namespaces of the environment", async || self.deleter.list(&kind, among).await)
            .await
    }

    /// Returns all objects of a kind that the API server may not serve.
    async fn list_all(&self, kind: owner::Kind) -> anyhow::Result<Vec<DynamicObject>> {
        let kind = resource(kind);
        let list = async || match self.deleter.api(&kind, None).list(&ListParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
            listed => Ok(listed.with_context(|| format!("listing {}", kind.plural))?.items),
        };
        self.deleter.retried(&format!("the {}", kind.plural), list).await
    }
}
