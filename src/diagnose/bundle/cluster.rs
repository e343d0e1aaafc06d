//! Data from a cluster's API server: objects, without the content of Secrets, and the files of its pods.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Event, Namespace, Node, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, ListParams};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{Part, pods};
use crate::cluster::{kinds, objects};

/// The timeout for listing pods or Secrets.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);

/// Istio's objects: group and kind.
pub(super) const ISTIO: [(&str, &str); 8] = [
    ("networking.istio.io", "VirtualService"),
    ("networking.istio.io", "DestinationRule"),
    ("networking.istio.io", "ServiceEntry"),
    ("networking.istio.io", "Gateway"),
    ("networking.istio.io", "Sidecar"),
    ("security.istio.io", "PeerAuthentication"),
    ("security.istio.io", "AuthorizationPolicy"),
    ("security.istio.io", "RequestAuthentication"),
];

/// Returns a cluster's files.
pub(super) async fn parts<'a>(cluster: &'a str, client: &'a Client) -> Vec<Part<'a>> {
    let at = |file: &str| format!("clusters/{cluster}/{file}");
    let mut parts = vec![
        Part::new(at("version.json"), async {
            Ok(serde_json::to_vec_pretty(&client.apiserver_version().await?)?)
        }),
        Part::new(at("objects/nodes.json"), all::<Node>(client)),
        Part::new(at("objects/namespaces.json"), all::<Namespace>(client)),
        Part::new(at("objects/pods.json"), all::<Pod>(client)),
        Part::new(at("objects/deployments.json"), all::<Deployment>(client)),
        Part::new(at("objects/replicasets.json"), all::<ReplicaSet>(client)),
        Part::new(at("objects/daemonsets.json"), all::<DaemonSet>(client)),
        Part::new(at("objects/services.json"), all::<Service>(client)),
        Part::new(at("objects/serviceaccounts.json"), all::<ServiceAccount>(client)),
        Part::new(at("objects/endpointslices.json"), all::<EndpointSlice>(client)),
        Part::new(at("objects/events.json"), all::<Event>(client)),
        Part::new(at("objects/mutatingwebhooks.json"), all::<MutatingWebhookConfiguration>(client)),
        Part::new(at("objects/validatingwebhooks.json"), all::<ValidatingWebhookConfiguration>(client)),
        Part::new(at("objects/secrets.json"), secret_names(client)),
    ];
    parts.extend(ISTIO.map(|(group, kind)| {
        Part::new(at(&format!("objects/{}.json", kind.to_lowercase())), istio(client, group, kind))
    }));
    let listed =
        async { Ok::<_, kube::Error>(Api::<Pod>::all(client.clone()).list(&ListParams::default()).await?.items) };
    match tokio::time::timeout(LIST_TIMEOUT, listed).await {
        Ok(Ok(found)) => parts.extend(
            found
                .iter()
                .filter(|pod| !objects::is_terminating(*pod))
                .flat_map(|pod| pods::parts(cluster, client, pod)),
        ),
        Ok(Err(error)) => parts.push(Part::new(at("pods"), async move { Err::<String, _>(error.into()) })),
        Err(_) => parts.push(Part::new(at("pods"), async {
            anyhow::Result::<String>::Err(anyhow::anyhow!("listing timed out"))
        })),
    }
    parts
}

async fn all<K>(client: &Client) -> anyhow::Result<Vec<u8>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + Debug,
{
    let mut list = Api::<K>::all(client.clone()).list(&ListParams::default()).await?;
    list.items.iter_mut().for_each(|item| item.meta_mut().managed_fields = None);
    Ok(serde_json::to_vec_pretty(&list.items)?)
}

async fn istio(client: &Client, group: &str, kind: &str) -> anyhow::Result<Vec<u8>> {
    let api = kinds::api(client, &format!("{group}/v1"), kind, None);
    let mut list = api.list(&ListParams::default()).await?;
    list.items.iter_mut().for_each(|item| item.metadata.managed_fields = None);
    Ok(serde_json::to_vec_pretty(&list.items)?)
}

/// Lists Secrets with their types and keys, without their content.
async fn secret_names(client: &Client) -> anyhow::Result<Vec<u8>> {
    let list = Api::<Secret>::all(client.clone()).list(&ListParams::default()).await?;
    let rows: Vec<_> = list
        .items
        .iter()
        .map(|secret| {
            let keys: Vec<_> = secret
                .data
                .iter()
                .flatten()
                .map(|(key, value)| json!({"key": key, "bytes": value.0.len()}))
                .collect();
            json!({"namespace": secret.namespace(), "name": secret.name_any(), "type": secret.type_,
                "labels": secret.labels(), "annotations": secret.annotations(), "keys": keys})
        })
        .collect();
    Ok(serde_json::to_vec_pretty(&rows)?)
}

/// Returns the content of every Secret, to remove it from all files.
pub(super) async fn secrets(client: &Client) -> Vec<Vec<u8>> {
    let list = async { Api::<Secret>::all(client.clone()).list(&ListParams::default()).await.ok() };
    let list = tokio::time::timeout(LIST_TIMEOUT, list).await.ok().flatten();
    let secrets = list.into_iter().flat_map(|list| list.items);
    secrets
        .flat_map(|secret| secret.data.into_iter().flatten())
        // Public: the same text must stay in other files.
        .filter(|(key, _)| {
            !["ca.crt", "namespace", "ca-cert.pem", "cert-chain.pem", "root-cert.pem"].contains(&key.as_str())
        })
        .map(|(_, value)| value.0)
        .collect()
}
