//! The sample services in a cluster: their objects, and whether they work.

use anyhow::Context;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DynamicObject};
use kube::core::GroupVersionKind;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::base::error::Error;
use crate::base::event::Step;
use crate::base::hint::up_hint;
use crate::base::names::{CALLER_NAME, PART_OF, PART_OF_LABEL, PORT, PRODUCER_NAME};
use crate::base::wait::{self, Poll};
use crate::cluster::environment::Environment;
use crate::cluster::mesh::{apply, envoy, gateway, istio};
use crate::cluster::pods;
use crate::cluster::refusal::{Record, Retries};
use crate::host::docker::Engine;
use crate::plan::{self, Plan, Samples};
use crate::spec::{Cluster, Spec};

const NAMESPACE: &str = include_str!("../../mesh-manifests/samples/namespace.yaml");
const CALLER: &str = include_str!("../../mesh-manifests/samples/caller.yaml");
const PRODUCER: &str = include_str!("../../mesh-manifests/samples/producer.yaml");
const SERVICE: &str = include_str!("../../mesh-manifests/samples/service.yaml");
/// The VirtualService with the timeout of calls: the policy `timeout` of [`crate::cluster::policies`].
pub(crate) const TIMEOUT: &str = include_str!("../../mesh-manifests/samples/timeout.yaml");
/// The DestinationRule with the circuit breaker: the policy `breaker` of [`crate::cluster::policies`].
pub(crate) const BREAKER: &str = include_str!("../../mesh-manifests/samples/breaker.yaml");

/// Returns the objects of the samples in one cluster; `trust` is the argument of `istio::bind_to_trust`. Routing is in the cluster
/// with the istiod of the caller's proxy.
///
/// # Errors
/// If a built-in file is invalid.
pub fn objects(
    samples: &Samples,
    spec: &Spec,
    cluster: &Cluster,
    trust: &str,
) -> anyhow::Result<Vec<DynamicObject>> {
    let name = cluster.name.as_str();
    let (calls, produces) =
        (samples.callers.iter().any(|c| c == name), samples.producers.iter().any(|c| c == name));
    let routes = |caller: &Cluster| {
        samples.callers.iter().any(|c| c == caller.name.as_str())
            && spec.control_plane_of(caller).name == cluster.name
    };
    let mut files = vec![NAMESPACE];
    if calls {
        files.push(CALLER);
    }
    if spec.clusters.iter().any(routes) {
        files.extend([TIMEOUT, BREAKER]);
    }
    if produces {
        files.push(PRODUCER);
    }
    if calls || produces {
        files.push(SERVICE);
    }
    let mut objects = Vec::new();
    for file in files {
        for mut object in apply::objects(file)? {
            adapt(&mut object, samples, cluster);
            istio::bind_to_trust(&mut object, trust);
            objects.push(object);
        }
    }
    Ok(objects)
}

/// Returns the kinds of the samples' objects, the namespace last. `up` searches them for leftovers of an earlier spec.
pub fn kinds() -> [GroupVersionKind; 6] {
    [
        GroupVersionKind::gvk("apps", "v1", "Deployment"),
        GroupVersionKind::gvk("", "v1", "Service"),
        GroupVersionKind::gvk("", "v1", "ServiceAccount"),
        GroupVersionKind::gvk("networking.istio.io", "v1", "VirtualService"),
        GroupVersionKind::gvk("networking.istio.io", "v1", "DestinationRule"),
        GroupVersionKind::gvk("", "v1", "Namespace"),
    ]
}

/// Returns the namespace and name of each Deployment among the objects.
pub fn deployments(objects: &[DynamicObject]) -> Vec<(String, String)> {
    let is_deployment = |object: &&DynamicObject| object.types.as_ref().is_some_and(|t| t.kind == "Deployment");
    let named = |object: &DynamicObject| (object.namespace().unwrap_or_default(), object.name_any());
    objects.iter().filter(is_deployment).map(named).collect()
}

/// Fills in the settings of the spec.
fn adapt(object: &mut DynamicObject, samples: &Samples, cluster: &Cluster) {
    object.labels_mut().insert(PART_OF_LABEL.to_owned(), PART_OF.to_owned());
    match object.types.as_ref().map(|types| types.kind.as_str()) {
        Some("Namespace") => object.metadata.name = Some(samples.namespace.clone()),
        _ => object.metadata.namespace = Some(samples.namespace.clone()),
    }
    if object.name_any() == PRODUCER_NAME && object.data.pointer("/spec/replicas").is_some() {
        object.data["spec"]["replicas"] = json!(samples.replicas);
    }
    let Some(container) = object.data.pointer_mut("/spec/template/spec/containers/0") else { return };
    container["image"] = json!(samples.image);
    set_location(container, cluster);
}

/// Sets the environment variables with the cluster, region and zone in a container of the sample image.
pub fn set_location(container: &mut Value, cluster: &Cluster) {
    for variable in container["env"].as_array_mut().into_iter().flatten() {
        let value = match variable["name"].as_str() {
            Some("CLUSTER_NAME") => cluster.name.as_str(),
            Some("CLUSTER_REGION") => &cluster.region,
            Some("CLUSTER_ZONE") => &cluster.zone,
            _ => continue,
        };
        variable["value"] = Value::String(value.to_owned());
    }
}

/// Returns a ready caller pod of a cluster.
///
/// # Errors
/// If there is none.
pub async fn caller_pod(client: &Client, namespace: &str) -> anyhow::Result<Pod> {
    ready_pod(client, namespace, CALLER_NAME).await
}

/// Returns a ready pod of a Deployment whose pods have its name as label `app`.
///
/// # Errors
/// If there is none.
pub async fn ready_pod(client: &Client, namespace: &str, app: &str) -> anyhow::Result<Pod> {
    let mut pods = pods::ready(client, namespace, &format!("app={app}")).await?;
    let what = app.strip_prefix("sample-").unwrap_or(app);
    // The youngest: during a rollout the older ones are about to be deleted.
    pods.pop().ok_or_else(|| {
        Error::environment(format!("no {what} is ready")).hint("kindmesh status shows what is missing").into()
    })
}

/// Returns the image of the sample caller, which is present on the nodes.
///
/// # Errors
/// If there is no sample caller, or the API server does not respond.
pub async fn sample_image(client: &Client, environment: &Environment) -> anyhow::Result<String> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), environment.spec.samples.namespace.as_str());
    let missing = || {
        Error::environment("the sample services are missing, but their image is required")
            .hint(up_hint(environment.name()))
    };
    let found = api.get_opt(CALLER_NAME).await.context("getting the sample caller")?;
    let spec = found.and_then(|found| found.spec).and_then(|spec| spec.template.spec);
    let image = spec.and_then(|spec| spec.containers.into_iter().find(|c| c.name == "app")?.image);
    Ok(image.ok_or_else(missing)?)
}

/// Waits until the proxy of a cluster's caller has a healthy endpoint for every producer on its network, and one for the
/// gateway of every other network with producers. `record` is that of the cluster.
///
/// # Errors
/// If it does not have them by the deadline.
pub async fn wait_for_endpoints(
    client: &Client,
    plan: &Plan,
    from: &plan::Cluster,
    samples: &Samples,
    record: &Record,
    step: &Step,
    deadline: Instant,
) -> anyhow::Result<()> {
    let producing = samples.producers.iter().filter_map(|name| plan.cluster(name));
    let wanted: usize = producing
        .map(|cluster| if cluster.network == from.network { usize::from(samples.replicas) } else { 1 })
        .sum();
    let what = "the caller's proxy to have all producer endpoints";
    let mut retries = Retries::new(record);
    wait::until(step, what, deadline, async || match known_endpoints(client, plan, from, samples).await {
        Ok(known) if known.len() >= wanted => Ok(Poll::Ready(())),
        Ok(known) => Ok(Poll::NotYet(format!("{} of {wanted} endpoints are known", known.len()))),
        Err(error) => retries.failed(what, error),
    })
    .await
}

/// Waits until the gateway in front of producers on another network than a cluster's can forward to all of them, and accepts
/// connections from that cluster if kind created it; `client` and `record` are those of the producers' cluster.
///
/// # Errors
/// If it cannot by the deadline.
pub async fn wait_for_gateway(
    (engine, client): (Option<&Engine>, &Client),
    (from, to): (&plan::Cluster, &plan::Cluster),
    samples: &Samples,
    record: &Record,
    step: &Step,
    deadline: Instant,
) -> anyhow::Result<()> {
    if from.network == to.network || !samples.producers.contains(&to.name) {
        return Ok(());
    }
    let wanted = usize::from(samples.replicas);
    gateway::wait_for_endpoints(client, to, (&host(samples), PORT), wanted, record, step, deadline).await?;
    // From pods of a cluster that exists, only the call itself shows it.
    match (engine, from.host.kind()) {
        (Some(engine), Some(kind)) => {
            let from = (engine, kind.control_plane());
            gateway::wait_for_connections((client, to), from, record, step, deadline).await
        }
        _ => Ok(()),
    }
}

/// Returns the producers' full name.
fn host(samples: &Samples) -> String {
    format!("{PRODUCER_NAME}.{}.svc.cluster.local", samples.namespace)
}

/// Returns the producer endpoints that the caller's proxy of a cluster has: pods, which are in a pod subnet of the plan, and
/// gateways.
///
/// # Errors
/// If there is no caller or its proxy does not respond.
pub async fn known_endpoints(
    client: &Client,
    plan: &Plan,
    from: &plan::Cluster,
    samples: &Samples,
) -> anyhow::Result<Vec<String>> {
    let pod = caller_pod(client, &samples.namespace).await?.name_any();
    let mut known = envoy::healthy_endpoints(client, &samples.namespace, &pod, &host(samples), PORT).await?;
    known.retain(|endpoint| {
        let address = endpoint.rsplit_once(':').and_then(|(ip, _)| ip.parse::<std::net::Ipv4Addr>().ok());
        // Without a gateway, istiod sends the addresses of pods, which are not reached.
        let serves = |cluster: &plan::Cluster, ip| match cluster.network == from.network {
            // Nodes of some clouds do not name the subnets of their pods.
            true => cluster.pod_subnets().is_empty() || cluster.has_pod(ip),
            false => cluster.may_balance(ip),
        };
        address.is_some_and(|ip| plan.clusters.iter().any(|cluster| serves(cluster, ip)))
    });
    Ok(known)
}
