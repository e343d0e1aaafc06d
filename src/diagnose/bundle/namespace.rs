//! Evidence of a failed test: one namespace in all clusters, with its objects and the output of its pods and proxies.

use futures::future::join_all;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use kube::api::{Api, ListParams};
use kube::core::NamespaceResourceScope;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::redact::Redactor;
use super::{Files, PART_TIMEOUT, Part, cluster, collect, pods};
use crate::cluster::kinds;
use crate::cluster::mesh::istiod;

/// Returns the files of a namespace, without keys and tokens, and what is missing.
pub(crate) async fn files(clusters: &[(&str, &Client)], namespace: &str) -> (Files, Vec<String>) {
    let mut redactor = Redactor::default();
    let secrets = join_all(clusters.iter().map(|(_, client)| cluster::secrets(client))).await;
    secrets.into_iter().flatten().for_each(|secret| redactor.learn(&secret));
    let mut parts = Vec::new();
    for (name, client) in clusters {
        parts.extend(of_cluster(name, client, namespace).await);
    }
    let (mut files, missing) = collect(parts, PART_TIMEOUT).await;
    for (_, content) in &mut files {
        *content = redactor.redact(std::mem::take(content));
    }
    files.sort();
    (files, missing)
}

async fn of_cluster<'a>(name: &'a str, client: &'a Client, namespace: &'a str) -> Vec<Part<'a>> {
    let at = |file: &str| format!("clusters/{name}/objects/{file}.json");
    let mut parts = vec![
        Part::new(at("pods"), all::<Pod>(client, namespace)),
        Part::new(at("services"), all::<Service>(client, namespace)),
        Part::new(at("deployments"), all::<Deployment>(client, namespace)),
        Part::new(at("endpointslices"), all::<EndpointSlice>(client, namespace)),
        Part::new(at("events"), all::<Event>(client, namespace)),
    ];
    parts.extend(cluster::ISTIO.map(|(group, kind)| {
        Part::new(at(&kind.to_lowercase()), async move {
            let api = kinds::api(client, &format!("{group}/v1"), kind, Some(namespace));
            Ok(serde_json::to_vec_pretty(&api.list(&ListParams::default()).await?.items)?)
        })
    }));
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let mut found = api.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default();
    found.extend(istiod::ready(client).await.unwrap_or_default());
    parts.extend(found.iter().flat_map(|pod| pods::parts(name, client, pod)));
    parts
}

async fn all<K>(client: &Client, namespace: &str) -> anyhow::Result<Vec<u8>>
where
    K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Serialize
        + std::fmt::Debug,
{
    let mut list = Api::<K>::namespaced(client.clone(), namespace).list(&ListParams::default()).await?;
    list.items.iter_mut().for_each(|item| item.meta_mut().managed_fields = None);
    Ok(serde_json::to_vec_pretty(&list.items)?)
}
