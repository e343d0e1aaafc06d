//! Gathers the facts about a cluster that exists. It changes nothing; [`read`] turns objects into facts.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use futures::{StreamExt, TryStreamExt};
use http_body_util::BodyExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, ResourceQuota, Secret, Service};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::version::Info;
use kube::api::{Api, DynamicObject, ListParams, PostParams};
use kube::{Client, ResourceExt};

use super::kinds;
use super::mesh::apply::MAX_CONCURRENT;
use super::mesh::{ISTIO_NAMESPACE, gateway, istio};
use super::objects::is_ours;
use crate::plan::existing::{self, Facts};
use crate::plan::permissions::{self, Permission};
use record::Before;

mod made;
mod read;
mod record;
pub mod remove;

pub use record::{add_kinds, record};

/// The config map in Istio's namespace with the name of the environment that `up` installed, and with what it found there.
pub const RECORD: &str = "kindmesh-environment";

/// Gathers the facts about a cluster. `server` is the URL of its API server in the context, `namespaces` are those that `up` uses.
///
/// If the user may not list something, it counts as absent: [`Facts::denied`] says what is missing, and nothing is changed then.
///
/// # Errors
/// If the API server does not respond, or refuses anything else.
pub async fn facts(client: &Client, server: &str, namespaces: &[&str]) -> anyhow::Result<Facts> {
    // First: without an answer, the others only repeat the error.
    let (version, clock_ahead_ms) = version(client).await?;
    let denied = denied(client).await?;
    let (uid, nodes, namespaces, istiods, webhooks, definitions, cacerts, remote_secrets, recorded) = futures::try_join!(
        uid(client),
        nodes(client),
        found_namespaces(client, namespaces),
        istiods(client),
        webhooks(client),
        definitions(client),
        cacerts(client),
        remote_secrets(client),
        recorded(client)
    )?;
    let (environment, root_certificates) = recorded;
    Ok(Facts {
        uid,
        server: server.to_owned(),
        version,
        clock_ahead_ms,
        denied,
        nodes,
        namespaces,
        istiods,
        webhooks,
        definitions,
        cacerts,
        remote_secrets,
        environment,
        root_certificates,
    })
}

/// Returns the UID of the namespace kube-system, which identifies a cluster.
///
/// # Errors
/// The API server's.
pub async fn uid(client: &Client) -> anyhow::Result<String> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let system = namespaces.get("kube-system").await.context("getting namespace kube-system")?;
    system.uid().context("namespace kube-system has no UID")
}

/// Returns the version of an API server, and how far its clock is ahead of the host's: by the header of its response.
async fn version(client: &Client) -> anyhow::Result<(String, i64)> {
    let request = http::Request::get("/version").body(kube::client::Body::empty())?;
    let before = jiff::Timestamp::now();
    let response = client.send(request).await.context("asking the API server for its version")?;
    let after = jiff::Timestamp::now();
    anyhow::ensure!(
        response.status().is_success(),
        "asking the API server for its version: {}",
        response.status()
    );
    let date = response.headers().get(http::header::DATE).and_then(|date| date.to_str().ok());
    let ahead = date.and_then(|date| read::clock_ahead_ms(date, before, after)).unwrap_or_default();
    let body = response.into_body().collect().await.context("reading the API server's version")?.to_bytes();
    let version: Info = serde_json::from_slice(&body).context("reading the API server's version")?;
    Ok((version.git_version, ahead))
}

/// Asks for every permission that kindmesh needs, and returns those that the user does not have.
async fn denied(client: &Client) -> anyhow::Result<BTreeSet<Permission>> {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let ask = async |permission: Permission| {
        let mut review = SelfSubjectAccessReview::default();
        review.spec.resource_attributes = Some(attributes(&permission));
        let what = || format!("asking whether the user may {permission}");
        let answer = reviews.create(&PostParams::default(), &review).await.with_context(what)?;
        let allowed = answer.status.is_some_and(|status| status.allowed);
        anyhow::Ok((!allowed).then_some(permission))
    };
    let asked = futures::stream::iter(permissions::needed()?).map(ask).buffer_unordered(MAX_CONCURRENT);
    let answers: Vec<Option<Permission>> = asked.try_collect().await?;
    Ok(answers.into_iter().flatten().collect())
}

fn attributes(permission: &Permission) -> ResourceAttributes {
    let (resource, subresource) = match permission.resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        None => (permission.resource.as_str(), None),
    };
    ResourceAttributes {
        group: Some(permission.group.clone()),
        resource: Some(resource.to_owned()),
        subresource,
        verb: Some(permission.verb.clone()),
        ..ResourceAttributes::default()
    }
}

/// Returns nothing instead of an error if the user may not read it.
fn permitted<T: Default>(answer: kube::Result<T>, what: &str) -> anyhow::Result<T> {
    match answer {
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(T::default()),
        answer => answer.with_context(|| format!("listing {what}")),
    }
}

async fn nodes(client: &Client) -> anyhow::Result<Vec<existing::Node>> {
    let api: Api<Node> = Api::all(client.clone());
    let listed = permitted(api.list(&ListParams::default()).await.map(|list| list.items), "nodes")?;
    Ok(listed.iter().map(read::node).collect())
}

async fn found_namespaces(
    client: &Client,
    names: &[&str],
) -> anyhow::Result<BTreeMap<String, existing::Namespace>> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let mut found = BTreeMap::new();
    for name in names {
        let Some(namespace) = permitted(namespaces.get_opt(name).await, "namespaces")? else { continue };
        let quotas: Api<ResourceQuota> = Api::namespaced(client.clone(), name);
        let listed = permitted(quotas.list(&ListParams::default()).await.map(|list| list.items), "quotas")?;
        found.insert((*name).to_owned(), read::namespace(&namespace, is_ours(&namespace), &listed));
    }
    Ok(found)
}

async fn istiods(client: &Client) -> anyhow::Result<Vec<existing::Istiod>> {
    let api: Api<Deployment> = Api::all(client.clone());
    let labelled = ListParams::default().labels(&format!("app={}", istio::ISTIOD));
    let listed = permitted(api.list(&labelled).await.map(|list| list.items), "deployments")?;
    let mut found = Vec::new();
    for deployment in &listed {
        let namespace = deployment.namespace().unwrap_or_default();
        let mut istiod = read::istiod(deployment, is_ours(deployment));
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
        // Revisions have a suffix.
        let suffix = match istiod.revision.as_str() {
            "" | "default" => String::new(),
            revision => format!("-{revision}"),
        };
        if let Some(map) = permitted(maps.get_opt(&format!("istio{suffix}")).await, "config maps")? {
            read::mesh(&map, &mut istiod.mesh);
        }
        let injector = format!("istio-sidecar-injector{suffix}");
        if let Some(map) = permitted(maps.get_opt(&injector).await, "config maps")? {
            read::injector(&map, &mut istiod.mesh);
        }
        let namespaces: Api<Namespace> = Api::all(client.clone());
        if let Some(namespace) = permitted(namespaces.get_opt(&namespace).await, "namespaces")? {
            istiod.mesh.network = namespace.labels().get(read::NETWORK_LABEL).cloned().unwrap_or_default();
        }
        let services: Api<Service> = Api::namespaced(client.clone(), &namespace);
        let service = permitted(services.get_opt(gateway::NAME).await, "services")?;
        istiod.mesh.gateway = service.is_some_and(|service| !gateway::addresses_in(&service).is_empty());
        found.push(istiod);
    }
    Ok(found)
}

async fn webhooks(client: &Client) -> anyhow::Result<Vec<existing::Webhook>> {
    let mut found = Vec::new();
    for kind in ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"] {
        let api: Api<DynamicObject> = kinds::api(client, "admissionregistration.k8s.io/v1", kind, None);
        let listed = permitted(api.list(&ListParams::default()).await.map(|list| list.items), kind)?;
        let istios = listed.iter().filter(|webhook| read::calls_istiod(&webhook.data));
        let of = |webhook: &DynamicObject| existing::Webhook {
            kind: kind.to_owned(),
            name: webhook.name_any(),
            ours: is_ours(webhook),
        };
        found.extend(istios.map(of));
    }
    Ok(found)
}

async fn definitions(client: &Client) -> anyhow::Result<BTreeMap<String, existing::Definition>> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let listed = permitted(api.list(&ListParams::default()).await.map(|list| list.items), "CRDs")?;
    let istios = listed.iter().filter(|definition| definition.spec.group.ends_with(".istio.io"));
    let of = |definition: &CustomResourceDefinition| {
        let served = definition.spec.versions.iter().filter(|version| version.served);
        let served = served.map(|version| version.name.clone()).collect();
        (definition.name_any(), existing::Definition { served, ours: is_ours(definition) })
    };
    Ok(istios.map(of).collect())
}

async fn cacerts(client: &Client) -> anyhow::Result<Option<existing::CaCerts>> {
    let api: Api<Secret> = Api::namespaced(client.clone(), ISTIO_NAMESPACE);
    let found = permitted(api.get_opt("cacerts").await, "secrets")?;
    Ok(found.map(|secret| existing::CaCerts { roots: read::roots(&secret), ours: is_ours(&secret) }))
}

async fn remote_secrets(client: &Client) -> anyhow::Result<Vec<existing::RemoteSecret>> {
    let api: Api<Secret> = Api::namespaced(client.clone(), ISTIO_NAMESPACE);
    // Metadata only: the content is secret.
    let labelled = ListParams::default().labels("istio/multiCluster=true");
    let listed = permitted(api.list_metadata(&labelled).await.map(|list| list.items), "secrets")?;
    let of = |secret: &kube::core::PartialObjectMeta<Secret>| existing::RemoteSecret {
        name: secret.name_any(),
        cluster: secret.annotations().get("networking.istio.io/cluster").cloned().unwrap_or_default(),
        ours: is_ours(secret),
    };
    Ok(listed.iter().map(of).collect())
}

/// Returns the environment that is recorded in a cluster, if kindmesh wrote the record.
///
/// # Errors
/// The API server's.
pub async fn recorded_environment(client: &Client) -> kube::Result<Option<String>> {
    Ok(record::live(client).await?.map(|map| Before::environment(&map).to_owned()))
}

/// Returns the environment that the record names, if kindmesh wrote it, and the namespaces that had Istio's root certificate
/// before it was written: if there is none, those that have it now.
async fn recorded(client: &Client) -> anyhow::Result<(Option<String>, BTreeSet<String>)> {
    if let Some(map) = permitted(record::live(client).await, "config maps")? {
        return Ok((Some(Before::environment(&map).to_owned()), Before::trusting(&map)));
    }
    let api: Api<ConfigMap> = Api::all(client.clone());
    let listed = api.list_metadata(&ListParams::default().labels(made::TRUST_LABEL)).await;
    let listed = permitted(listed.map(|list| list.items), "config maps")?;
    Ok((None, listed.iter().filter_map(ResourceExt::namespace).collect()))
}
