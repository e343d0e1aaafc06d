//! Deletes objects that were deployed from a directory, found by label in every cluster: all of them, or those that
//! its manifests no longer contain.

use std::collections::BTreeSet;

use anyhow::Context;
use futures::future::try_join_all;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Preconditions};
use kube::discovery::verbs;
use kube::{Client, ResourceExt};

use super::{DEPLOY, Object};
use crate::cluster::existing;
use crate::cluster::kinds::{Addressed, Kinds, same};
use crate::cluster::objects;
use crate::plan::{MANAGED_BY, MANAGED_BY_LABEL};

/// Objects that Kubernetes and Istio create in every namespace.
const OWN: [&str; 4] = ["kube-root-ca.crt", "istio-ca-root-cert", "istio-ca-crl", "default"];
/// Kinds of objects that controllers create about other objects.
const ABOUT: [&str; 4] = ["Event", "Endpoints", "EndpointSlice", "Lease"];

/// An object in a cluster, and the API resource of its kind.
struct Found {
    addressed: Addressed,
    object: DynamicObject,
}

/// The objects of a deployment in one cluster that its manifests do not contain.
pub(super) struct Unwanted<'a> {
    cluster: &'a str,
    client: &'a Client,
    /// All kinds that can be listed and deleted, and those of them that the user may list everywhere.
    all: Vec<Addressed>,
    kinds: Vec<Addressed>,
    namespaces: Vec<Found>,
    others: Vec<Found>,
}

/// Finds the objects of a deployment in one cluster that are no longer in the manifests. `exists` tells whether the cluster
/// existed before the environment.
///
/// # Errors
/// The API server's errors.
pub(super) async fn unwanted<'a>(
    (cluster, client): (&'a str, &'a Client),
    exists: bool,
    deploy: &str,
    wanted: &BTreeSet<Object>,
    kinds: &Kinds,
) -> anyhow::Result<Unwanted<'a>> {
    let known = kinds.ask(client).await?;
    let can = |kind: &Addressed, verb| kind.capabilities.supports_operation(verb);
    let all: Vec<_> = known.all().filter(|kind| can(kind, verbs::LIST) && can(kind, verbs::DELETE)).collect();
    let mut kinds = all.clone();
    if exists {
        // Its user may not list all kinds. `down` looks for the same ones.
        let listed = existing::remove::kinds(client).await?;
        kinds.retain(|kind| listed.iter().any(|other| same(&kind.resource, other)));
    }
    let selector = format!("{MANAGED_BY_LABEL}={MANAGED_BY},{DEPLOY}={deploy}");
    let parameters = ListParams::default().labels(&selector);
    let lists = kinds.iter().map(|addressed| list(client, addressed, &parameters));
    let mut found: Vec<Found> = try_join_all(lists).await?.into_iter().flatten().collect();
    // Controllers copy labels to the objects that they create, and some objects may already be terminating.
    found.retain(|found| is_applied(&found.object) && !objects::is_terminating(&found.object));
    found.retain(|found| {
        let there = object_of(cluster, found);
        let everywhere = !found.addressed.is_namespaced();
        let same = |wanted: &Object| {
            (&wanted.kind, &wanted.name) == (&there.kind, &there.name)
                && (everywhere || wanted.namespace == there.namespace)
        };
        !wanted.iter().any(same)
    });
    let (namespaces, others): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|f| f.addressed.resource.kind == "Namespace");
    Ok(Unwanted { cluster, client, all, kinds, namespaces, others })
}

impl Unwanted<'_> {
    /// Deletes them: namespaces last, and only if they contain nothing else. Returns the deleted objects, and a note about each
    /// kept namespace.
    ///
    /// # Errors
    /// The API server's errors.
    pub(super) async fn delete(self) -> anyhow::Result<(Vec<Object>, Vec<String>)> {
        self.each(async |found| found.delete(self.client).await).await
    }

    /// Returns what [`delete`](Self::delete) would return.
    ///
    /// # Errors
    /// The API server's errors.
    pub(super) async fn dry_run(self) -> anyhow::Result<(Vec<Object>, Vec<String>)> {
        self.each(async |_| Ok(())).await
    }

    async fn each(
        &self,
        delete: impl AsyncFn(&Found) -> anyhow::Result<()>,
    ) -> anyhow::Result<(Vec<Object>, Vec<String>)> {
        let (cluster, mut removed, mut notes) = (self.cluster, Vec::new(), Vec::new());
        for found in &self.others {
            delete(found).await?;
            removed.push(object_of(cluster, found));
        }
        for found in &self.namespaces {
            let name = found.object.name_any();
            let left = foreign(self.client, &self.all, &self.kinds, &name, &removed).await?;
            if left.is_empty() {
                delete(found).await?;
                removed.push(object_of(cluster, found));
            } else {
                notes.push(format!("skipped: namespace {name} in {cluster}, which contains {}", left.join(", ")));
            }
        }
        Ok((removed, notes))
    }
}

async fn list(client: &Client, addressed: &Addressed, parameters: &ListParams) -> anyhow::Result<Vec<Found>> {
    let items = addressed.everywhere(client).list(parameters).await;
    let items = items.with_context(|| format!("listing all {} objects", addressed.resource.kind))?.items;
    Ok(items.into_iter().map(|object| Found { addressed: addressed.clone(), object }).collect())
}

/// Whether kindmesh applied an object.
fn is_applied(object: &DynamicObject) -> bool {
    let managers = object.metadata.managed_fields.iter().flatten();
    managers.filter_map(|fields| fields.manager.as_deref()).any(|manager| manager == MANAGED_BY)
}

fn object_of(cluster: &str, found: &Found) -> Object {
    let namespace = if found.addressed.is_namespaced() { found.object.namespace() } else { None };
    Object {
        cluster: cluster.to_owned(),
        kind: found.addressed.resource.kind.clone(),
        namespace: namespace.unwrap_or_default(),
        name: found.object.name_any(),
    }
}

impl Found {
    async fn delete(&self, client: &Client) -> anyhow::Result<()> {
        let api = self.addressed.api(client, self.object.namespace().as_deref());
        let deleted = delete(&api, &self.object).await;
        deleted.with_context(|| format!("deleting {} {}", self.addressed.resource.kind, self.object.name_any()))
    }
}

/// Deletes an object that was seen, not another one that has its name since.
pub(super) async fn delete(api: &Api<DynamicObject>, object: &DynamicObject) -> kube::Result<()> {
    let seen = Preconditions { uid: object.uid(), resource_version: None };
    let parameters = DeleteParams { preconditions: Some(seen), ..DeleteParams::background() };
    objects::delete_if_exists(api, &object.name_any(), &parameters).await.map(drop)
}

/// Returns the objects of a namespace, except those that are deleted and those that every namespace contains. Of all kinds, those outside
/// of `kinds` are skipped if the user may not list them.
async fn foreign(
    client: &Client,
    all: &[Addressed],
    kinds: &[Addressed],
    namespace: &str,
    removed: &[Object],
) -> anyhow::Result<Vec<String>> {
    let about = |addressed: &&Addressed| ABOUT.contains(&addressed.resource.kind.as_str());
    let namespaced = all.iter().filter(|addressed| addressed.is_namespaced() && !about(addressed));
    let lists = namespaced.map(async |addressed| {
        let kind = &addressed.resource.kind;
        let items = addressed.api(client, Some(namespace)).list(&ListParams::default()).await;
        let is_needed = || kinds.iter().any(|known| same(&known.resource, &addressed.resource));
        let items = match items {
            Err(kube::Error::Api(status)) if status.code == 403 && !is_needed() => Vec::new(),
            items => items.with_context(|| format!("listing {kind} objects in namespace {namespace}"))?.items,
        };
        let others = items.into_iter().filter(|object| {
            let gone = |gone: &Object| {
                gone.kind == *kind && gone.namespace == namespace && gone.name == object.name_any()
            };
            object.owner_references().is_empty()
                && !objects::is_terminating(object)
                && !OWN.contains(&object.name_any().as_str())
                && !removed.iter().any(gone)
        });
        anyhow::Ok(others.map(|object| format!("{kind} {}", object.name_any())).collect::<Vec<_>>())
    });
    Ok(try_join_all(lists).await?.concat())
}
