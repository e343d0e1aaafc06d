//! The kind configuration and Istio values of one cluster: the files of `kind-configs/` and `mesh-manifests/`, with the
//! plan's decisions filled in and the user's settings merged last.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{Cluster, Kubernetes, Mesh};
use crate::base::error::Error;
use crate::base::names::{control_plane_name, kind_name, subject};
use crate::spec::merge::merge;
use crate::spec::{self, Profile, Spec};

const KIND_CONFIG: &str = include_str!("../../kind-configs/cluster.yaml");
const CGROUP_V1: &str = include_str!("../../kind-configs/cgroup-v1.yaml");
const DISPOSABLE: &str = include_str!("../../kind-configs/disposable.yaml");
const ISTIO: &str = include_str!("../../mesh-manifests/istio/operator.yaml");

pub(super) fn cluster(
    spec: &Spec,
    cluster: &spec::Cluster,
    identity: &str,
    (pod_subnet, service_subnet): (Ipv4Net, Ipv4Net),
    kubernetes: &Kubernetes,
    mesh: &Mesh,
    gateway: Ipv4Addr,
) -> Result<Cluster, Error> {
    let environment = spec.name.as_str();
    let name = cluster.name.as_str();
    let kind_name = self::kind_name(environment, name);
    let nodes = node_names(&kind_name, cluster.workers);
    Ok(Cluster {
        name: name.to_owned(),
        context: format!("kind-{kind_name}"),
        api_server: format!("https://{}:6443", control_plane_name(&self::kind_name(identity, name))),
        intermediate_subject: subject(environment, Some(name)).to_string(),
        kind_config: kind_config(&kind_name, cluster, pod_subnet, service_subnet, kubernetes)?,
        istio: istio(spec, name, mesh, gateway)?,
        kind_name,
        nodes,
        pod_subnet,
        service_subnet,
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
    kind_name: &str,
    cluster: &spec::Cluster,
    pod_subnet: Ipv4Net,
    service_subnet: Ipv4Net,
    kubernetes: &Kubernetes,
) -> Result<Value, Error> {
    let mut labels = Map::new();
    for (key, value) in [("region", &cluster.region), ("zone", &cluster.zone)] {
        if !value.is_empty() {
            labels.insert(format!("topology.kubernetes.io/{key}"), json!(value));
        }
    }
    let node = |role: &str| {
        let mut node = json!({"role": role, "image": kubernetes.node_image});
        if !labels.is_empty() {
            node["labels"] = Value::Object(labels.clone());
        }
        node
    };
    let mut nodes = vec![node("control-plane")];
    nodes.extend((0..cluster.workers).map(|_| node("worker")));

    let mut config: Value = parse(KIND_CONFIG)?;
    config["name"] = json!(kind_name);
    config["networking"]["podSubnet"] = json!(pod_subnet);
    config["networking"]["serviceSubnet"] = json!(service_subnet);
    config["nodes"] = Value::Array(nodes);
    if kubernetes.profile == Profile::Disposable {
        spec::kind::merge_kind(&mut config, &parse(DISPOSABLE)?);
    }
    if kubernetes.cgroup_v1 {
        // Merged like a user's settings: its patches are appended to the existing ones.
        spec::kind::merge_kind(&mut config, &parse(CGROUP_V1)?);
    }
    spec::kind::merge_kind(&mut config, &cluster.kind);
    Ok(config)
}

fn istio(spec: &Spec, cluster: &str, mesh: &Mesh, gateway: Ipv4Addr) -> Result<Value, Error> {
    let mut operator: Value = parse(ISTIO)?;
    let ours = json!({"spec": {
        "hub": spec.mesh.hub,
        "tag": spec.mesh.version,
        "values": {"global": {
            "meshID": mesh.id,
            "network": mesh.network,
            "multiCluster": {"clusterName": cluster},
        }},
    }});
    merge(&mut operator, ours);
    let patches = operator["spec"]["components"]["pilot"]["k8s"]["overlays"][0]["patches"].as_array_mut();
    let names = patches.into_iter().flatten().find(|patch| patch["path"] == "spec.template.spec.dnsConfig");
    if let Some(patch) = names {
        patch["value"]["nameservers"] = json!([gateway]);
    }
    merge(&mut operator["spec"]["values"], json!(spec.mesh.values));
    Ok(operator)
}

fn parse<T: DeserializeOwned>(yaml: &str) -> Result<T, Error> {
    serde_yaml::from_str(yaml).map_err(|error| Error::environment(format!("invalid built-in file: {error}")))
}
