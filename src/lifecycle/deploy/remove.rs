//! Removing what a folder's deploy made, found by label in every cluster; what no manifest tells of any more, too.

use std::collections::BTreeSet;

use anyhow::Context;
use futures::future::try_join_all;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams, Preconditions};
use kube::discovery::{ApiCapabilities, Discovery, Scope, verbs};
use kube::{Client, ResourceExt};

use super::{DEPLOY, Object};
use crate::plan::{MANAGED_BY, MANAGED_BY_LABEL};

/// What Kubernetes and Istio themselves put into every namespace.
const OWN: [&str; 4] = ["kube-root-ca.crt", "istio-ca-root-cert", "istio-ca-crl", "default"];
/// Kinds that others make about what is there.
const ABOUT: [&str; 4] = ["Event", "Endpoints", "EndpointSlice", "Lease"];

/// An object in a cluster, and how its kind is addressed.
struct Found {
    resource: ApiResource,
    scope: Scope,
    object: DynamicObject,
}

/// Deletes the objects of a deploy in one cluster that are not among the wanted. Namespaces go last, and only those in
/// which nothing else is. Says what was deleted, and what was left.
///
/// # Errors
/// The API server's.
pub(super) async fn prune(
    cluster: &str,
    client: &Client,
    deploy: &str,
    wanted: &BTreeSet<Object>,
) -> anyhow::Result<(Vec<Object>, Vec<String>)> {
    let discovery = Discovery::new(client.clone()).run_aggregated().await.context("asking for all kinds")?;
    let kinds = deletable(&discovery);
    let selector = format!("{MANAGED_BY_LABEL}={MANAGED_BY},{DEPLOY}={deploy}");
    let parameters = ListParams::default().labels(&selector);
    let lists = kinds.iter().map(|(resource, capabilities)| list(client, resource, capabilities, &parameters));
    let mut found: Vec<Found> = try_join_all(lists).await?.into_iter().flatten().collect();
    // Controllers copy labels to what they make; and what is going already is gone.
    found.retain(|found| is_applied(&found.object) && found.object.metadata.deletion_timestamp.is_none());
    found.retain(|found| {
        let there = told(cluster, found);
        let everywhere = found.scope == Scope::Cluster;
        let same = |wanted: &Object| {
            (&wanted.kind, &wanted.name) == (&there.kind, &there.name)
                && (everywhere || wanted.namespace == there.namespace)
        };
        !wanted.iter().any(same)
    });
    let (namespaces, others): (Vec<_>, Vec<_>) = found.into_iter().partition(|f| f.resource.kind == "Namespace");
    let (mut removed, mut notes) = (Vec::new(), Vec::new());
    for found in others {
        delete(client, &found).await?;
        removed.push(told(cluster, &found));
    }
    for found in namespaces {
        let name = found.object.name_any();
        let left = foreign(client, &kinds, &name, &removed).await?;
        if left.is_empty() {
            delete(client, &found).await?;
            removed.push(told(cluster, &found));
        } else {
            notes.push(format!("left alone: namespace {name} in {cluster}, which has {}", left.join(", ")));
        }
    }
    Ok((removed, notes))
}

fn deletable(discovery: &Discovery) -> Vec<(ApiResource, ApiCapabilities)> {
    let all = discovery.groups().flat_map(|group| group.recommended_resources());
    all.filter(|(_, can)| can.supports_operation(verbs::LIST) && can.supports_operation(verbs::DELETE)).collect()
}

async fn list(
    client: &Client,
    resource: &ApiResource,
    capabilities: &ApiCapabilities,
    parameters: &ListParams,
) -> anyhow::Result<Vec<Found>> {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), resource);
    let items = api.list(parameters).await.with_context(|| format!("listing every {}", resource.kind))?.items;
    let found = |object| Found { resource: resource.clone(), scope: capabilities.scope.clone(), object };
    Ok(items.into_iter().map(found).collect())
}

/// Whether kindmesh itself applied an object.
fn is_applied(object: &DynamicObject) -> bool {
    let managers = object.metadata.managed_fields.iter().flatten();
    managers.filter_map(|fields| fields.manager.as_deref()).any(|manager| manager == MANAGED_BY)
}

fn told(cluster: &str, found: &Found) -> Object {
    let namespace = if found.scope == Scope::Namespaced { found.object.namespace() } else { None };
    Object {
        cluster: cluster.to_owned(),
        kind: found.resource.kind.clone(),
        namespace: namespace.unwrap_or_default(),
        name: found.object.name_any(),
    }
}

async fn delete(client: &Client, found: &Found) -> anyhow::Result<()> {
    let name = found.object.name_any();
    let api: Api<DynamicObject> = match (&found.scope, found.object.namespace()) {
        (Scope::Namespaced, Some(namespace)) => Api::namespaced_with(client.clone(), &namespace, &found.resource),
        _ => Api::all_with(client.clone(), &found.resource),
    };
    let seen = Preconditions { uid: found.object.uid(), resource_version: None };
    let parameters = DeleteParams { preconditions: Some(seen), ..DeleteParams::background() };
    match api.delete(&name, &parameters).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        result => result.map(drop).with_context(|| format!("deleting {} {name}", found.resource.kind)),
    }
}

/// What is in a namespace that neither goes with what was removed nor is there in every namespace.
async fn foreign(
    client: &Client,
    kinds: &[(ApiResource, ApiCapabilities)],
    namespace: &str,
    removed: &[Object],
) -> anyhow::Result<Vec<String>> {
    let namespaced = kinds.iter().filter(|(resource, capabilities)| {
        capabilities.scope == Scope::Namespaced && !ABOUT.contains(&resource.kind.as_str())
    });
    let lists = namespaced.map(async |(resource, _)| {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, resource);
        let items = api.list(&ListParams::default()).await;
        let items = items.with_context(|| format!("listing every {} of {namespace}", resource.kind))?.items;
        let others = items.into_iter().filter(|object| {
            let gone = |gone: &Object| {
                gone.kind == resource.kind && gone.namespace == namespace && gone.name == object.name_any()
            };
            object.owner_references().is_empty()
                && object.metadata.deletion_timestamp.is_none()
                && !OWN.contains(&object.name_any().as_str())
                && !removed.iter().any(gone)
        });
        anyhow::Ok(others.map(|object| format!("{} {}", resource.kind, object.name_any())).collect::<Vec<_>>())
    });
    Ok(try_join_all(lists).await?.concat())
}
