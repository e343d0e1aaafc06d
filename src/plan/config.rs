//! The kind configuration and Istio values of one cluster: the files of `kind-configs/` and `mesh-manifests/`, with the
//! plan's decisions filled in and the user's settings merged last.

use std::net::Ipv4Addr;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::control_plane::Exposed;
use super::inventory::EngineFacts;
use super::subnets::Subnets;
use super::{Cluster, Mesh, image_names};
use crate::base::error::Error;
use crate::base::names::{control_plane_name, kind_name, subject};
use crate::spec::merge::merge;
use crate::spec::{self, Profile, Spec, kubernetes_version};

const KIND_CONFIG: &str = include_str!("../../kind-configs/cluster.yaml");
const CGROUP_V1: &str = include_str!("../../kind-configs/cgroup-v1.yaml");
const DISPOSABLE: &str = include_str!("../../kind-configs/disposable.yaml");
const REMOTE: &str = include_str!("../../mesh-manifests/istio/remote.yaml");
const ISTIO: &str = include_str!("../../mesh-manifests/istio/operator.yaml");
const GATEWAY: &str = include_str!("../../mesh-manifests/istio/eastwest-gateway.yaml");

/// The networks of a cluster.
pub(super) struct Network<'a> {
    /// Istio's network of its pods.
    pub name: &'a str,
    /// The address of the Docker network's gateway.
    pub gateway: Ipv4Addr,
    /// Whether there are more Istio networks, so that each cluster has an east-west gateway.
    pub has_gateways: bool,
    /// The istiod that the cluster's proxies use, if remote clusters use it.
    pub exposed: Option<Exposed>,
}

pub(super) fn cluster(
    spec: &Spec,
    cluster: &spec::Cluster,
    identity: &str,
    subnets: Subnets,
    engine: &EngineFacts,
    mesh: &Mesh,
    network: &Network<'_>,
) -> Result<Cluster, Error> {
    let environment = spec.name.as_str();
    let name = cluster.name.as_str();
    let kind_name = self::kind_name(environment, name);
    let nodes = node_names(&kind_name, cluster.workers);
    let node_image = spec.node_image_of(cluster);
    let version = kubernetes_version(node_image);
    // An image without a version in its tag is assumed to be new: new versions need the flag, and 1.31 and later know it.
    let refuses_v1 = version.is_none_or(|version| (version.major, version.minor) >= (1, 35));
    let cgroup_v1 = engine.cgroup_version == 1 && refuses_v1;
    let istio_version = spec.istio_version_of(cluster);
    Ok(Cluster {
        name: name.to_owned(),
        context: format!("kind-{kind_name}"),
        api_server: format!("https://{}:6443", control_plane_name(&self::kind_name(identity, name))),
        intermediate_subject: subject(environment, Some(spec.control_plane_of(cluster).name.as_str())).to_string(),
        primary: spec.primary_of(cluster).map(|primary| primary.name.to_string()),
        istiod_address: network.exposed.map(|exposed| exposed.address),
        istiod_through_gateway: network.exposed.is_some_and(|exposed| exposed.through_gateway),
        kind_config: kind_config(spec, &kind_name, cluster, subnets, cgroup_v1)?,
        istio: istio(spec, cluster, mesh, network)?,
        node_image: node_image.to_owned(),
        kubernetes_version: version.map(|version| version.to_string()),
        cgroup_v1,
        istio_version: istio_version.to_owned(),
        istio_images: image_names::istio(&spec.mesh.hub, istio_version, spec.primary_of(cluster).is_some()),
        kind_name,
        nodes,
        network: network.name.to_owned(),
        pod_subnet: subnets.pods,
        service_subnet: subnets.services,
        balancers: subnets.balancers,
    })
}

/// Returns node names as kind assigns them: the first worker has no number.
fn node_names(kind_name: &str, workers: u8) -> Vec<String> {
    let worker = |i: u8| match i {
        1 => format!("{kind_name}-worker"),
        _ => format!("{kind_name}-worker{i}"),
    };
    std::iter::once(control_plane_name(kind_name)).chain((1..=workers).map(worker)).collect()
}

fn kind_config(
    spec: &Spec,
    kind_name: &str,
    cluster: &spec::Cluster,
    subnets: Subnets,
    cgroup_v1: bool,
) -> Result<Value, Error> {
    let mut labels = Map::new();
    for (key, value) in [("region", &cluster.region), ("zone", &cluster.zone)] {
        if !value.is_empty() {
            labels.insert(format!("topology.kubernetes.io/{key}"), json!(value));
        }
    }
    let node = |role: &str| {
        let mut node = json!({"role": role, "image": spec.node_image_of(cluster)});
        if !labels.is_empty() {
            node["labels"] = Value::Object(labels.clone());
        }
        node
    };
    let mut nodes = vec![node("control-plane")];
    nodes.extend((0..cluster.workers).map(|_| node("worker")));

    let mut config: Value = parse(KIND_CONFIG)?;
    config["name"] = json!(kind_name);
    config["networking"]["podSubnet"] = json!(subnets.pods);
    config["networking"]["serviceSubnet"] = json!(subnets.services);
    config["nodes"] = Value::Array(nodes);
    if spec.kubernetes.profile == Profile::Disposable {
        spec::kind::merge_kind(&mut config, &parse(DISPOSABLE)?);
    }
    if cgroup_v1 {
        // Merged like a user's settings: its patches are appended to the existing ones.
        spec::kind::merge_kind(&mut config, &parse(CGROUP_V1)?);
    }
    spec::kind::merge_kind(&mut config, &cluster.kind);
    Ok(config)
}

fn istio(spec: &Spec, cluster: &spec::Cluster, mesh: &Mesh, network: &Network<'_>) -> Result<Value, Error> {
    let is_remote = spec.primary_of(cluster).is_some();
    let mut operator: Value = parse(if is_remote { REMOTE } else { ISTIO })?;
    let ours = json!({"spec": {
        "hub": spec.mesh.hub,
        "tag": spec.istio_version_of(cluster),
        "values": {"global": {
            "meshID": mesh.id,
            "network": network.name,
            "multiCluster": {"clusterName": cluster.name},
        }},
    }});
    merge(&mut operator, ours);
    let values = &mut operator["spec"]["values"];
    match network.exposed {
        Some(exposed) if is_remote => {
            values["global"]["remotePilotAddress"] = json!(exposed.address);
            let path = format!("/inject/cluster/{}/net/{}", cluster.name, network.name);
            values["istiodRemote"]["injectionPath"] = json!(path);
        }
        // istiod then also injects pods of remote clusters, and writes its root certificate into their namespaces.
        Some(_) => values["global"]["externalIstiod"] = json!(true),
        None => {}
    }
    let patches =
        operator.pointer_mut("/spec/components/pilot/k8s/overlays/0/patches").and_then(Value::as_array_mut);
    let names = patches.into_iter().flatten().find(|patch| patch["path"] == "spec.template.spec.dnsConfig");
    if let Some(patch) = names {
        patch["value"]["nameservers"] = json!([network.gateway]);
    }
    if network.has_gateways {
        let mut gateway: Value = parse(GATEWAY)?;
        let component = &mut gateway["spec"]["components"]["ingressGateways"][0];
        component["label"]["topology.istio.io/network"] = json!(network.name);
        component["k8s"]["env"][0]["value"] = json!(network.name);
        merge(&mut operator, gateway);
    }
    merge(&mut operator["spec"]["values"], json!(spec.mesh.values));
    Ok(operator)
}

fn parse<T: DeserializeOwned>(yaml: &str) -> Result<T, Error> {
    serde_yaml::from_str(yaml).map_err(|error| Error::environment(format!("invalid built-in file: {error}")))
}
