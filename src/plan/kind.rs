//! What only a cluster has that kind creates: containers as nodes, their image, subnets that the plan chooses, and kind's
//! configuration, from the files of `kind-configs/` with the user's settings merged last.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde_json::{Map, Value, json};

use super::config::parse;
use super::first_address;
use super::inventory::EngineFacts;
use super::subnets::Subnets;
use crate::base::error::Error;
use crate::base::names::{self, control_plane_name};
use crate::spec::kind::merge_kind;
use crate::spec::{self, Profile, Spec, kubernetes_version};

const CONFIG: &str = include_str!("../../kind-configs/cluster.yaml");
const CGROUP_V1: &str = include_str!("../../kind-configs/cgroup-v1.yaml");
const DISPOSABLE: &str = include_str!("../../kind-configs/disposable.yaml");

/// The part of a cluster that only one has that kind creates.
#[derive(Debug, Clone, PartialEq)]
pub struct KindCluster {
    /// Its name in kind.
    pub name: String,
    /// The name that its control plane has for Kubernetes: in its certificates, and for the other clusters.
    pub host_name: String,
    /// Its nodes, the control plane first.
    pub nodes: Vec<String>,
    /// The kind node image of its nodes.
    pub node_image: String,
    /// The version of Kubernetes in the image's tag, if any.
    pub kubernetes_version: Option<String>,
    /// Whether its kubelets are configured to accept cgroup v1.
    pub cgroup_v1: bool,
    /// Its pod subnet.
    pub pod_subnet: Ipv4Net,
    /// Its Service subnet.
    pub service_subnet: Ipv4Net,
    /// The addresses of the Docker network for its Services of type LoadBalancer; none in a network of an earlier version.
    pub balancers: Option<Ipv4Net>,
    /// Its kind configuration.
    pub config: Value,
}

impl KindCluster {
    /// Plans the cluster of an environment.
    pub(super) fn of(
        spec: &Spec,
        cluster: &spec::Cluster,
        identity: &str,
        subnets: Subnets,
        engine: &EngineFacts,
    ) -> Result<Self, Error> {
        let name = names::kind_name(spec.name.as_str(), cluster.name.as_str());
        let node_image = spec.node_image_of(cluster);
        let version = kubernetes_version(node_image);
        // An image without a version in its tag is assumed to be new: new versions need the flag, and 1.31 and later know it.
        let refuses_v1 = version.is_none_or(|version| (version.major, version.minor) >= (1, 35));
        let cgroup_v1 = engine.cgroup_version == 1 && refuses_v1;
        Ok(Self {
            nodes: node_names(&name, cluster.workers),
            host_name: control_plane_name(&names::kind_name(identity, cluster.name.as_str())),
            node_image: node_image.to_owned(),
            kubernetes_version: version.map(|version| version.to_string()),
            cgroup_v1,
            pod_subnet: subnets.pods,
            service_subnet: subnets.services,
            balancers: subnets.balancers,
            config: config(spec, &name, cluster, subnets, cgroup_v1)?,
            name,
        })
    }

    /// Returns the address of the Service `kubernetes`: by Kubernetes' rule, the first of the subnet.
    pub fn api_service(&self) -> Ipv4Addr {
        first_address(self.service_subnet)
    }

    /// Whether an address is one of those for its Services of type LoadBalancer.
    pub fn balances(&self, address: Ipv4Addr) -> bool {
        self.balancers.is_some_and(|range| range.contains(&address))
    }

    /// Returns the node through which peers on the same network reach this cluster's pods.
    pub fn control_plane(&self) -> &str {
        &self.nodes[0]
    }
}

/// Returns node names as kind assigns them: the first worker has no number.
fn node_names(kind_name: &str, workers: u8) -> Vec<String> {
    let worker = |i: u8| match i {
        1 => format!("{kind_name}-worker"),
        _ => format!("{kind_name}-worker{i}"),
    };
    std::iter::once(control_plane_name(kind_name)).chain((1..=workers).map(worker)).collect()
}

fn config(
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

    let mut config: Value = parse(CONFIG)?;
    config["name"] = json!(kind_name);
    config["networking"]["podSubnet"] = json!(subnets.pods);
    config["networking"]["serviceSubnet"] = json!(subnets.services);
    config["nodes"] = Value::Array(nodes);
    if spec.kubernetes.profile == Profile::Disposable {
        merge_kind(&mut config, &parse(DISPOSABLE)?);
    }
    if cgroup_v1 {
        // Merged like a user's settings: its patches are appended to the existing ones.
        merge_kind(&mut config, &parse(CGROUP_V1)?);
    }
    merge_kind(&mut config, &cluster.kind);
    Ok(config)
}
