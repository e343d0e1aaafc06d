//! What exists now, as plain data: found by labels on the engine, never by guessing from names.

use std::collections::BTreeMap;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::base::names;
use crate::spec::Label;
use crate::spec::validate::NAME_MAX;

/// The label of a Docker network that names its environment.
pub const ENVIRONMENT_LABEL: &str = "kindmesh.environment";
/// The label of a Docker network that lists the environment's clusters, separated by commas.
pub const CLUSTERS_LABEL: &str = "kindmesh.clusters";
/// The label of a Docker network with the kindmesh version that made it.
pub const VERSION_LABEL: &str = "kindmesh.version";
/// The label of a Docker network that keeps each cluster's pod and service subnet, as
/// `cluster=pods+services` separated by commas, so that a plan can be made again with the state lost.
pub const SUBNETS_LABEL: &str = "kindmesh.subnets";
/// The label by which kind finds its nodes.
pub const KIND_CLUSTER_LABEL: &str = "io.x-k8s.kind.cluster";
/// The label by which kind tells control planes from workers.
pub const KIND_ROLE_LABEL: &str = "io.x-k8s.kind.role";

/// All that a plan depends on besides the spec.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inventory {
    /// The engine itself.
    pub engine: EngineFacts,
    /// Subnets that belong to somebody else: other Docker networks and the host's routes.
    pub taken: Vec<Taken>,
    /// The environments on the engine, by name.
    pub environments: BTreeMap<String, Environment>,
    /// kind clusters that no environment lists.
    pub foreign_clusters: Vec<String>,
    /// The kindmesh executable that a sample image can be built from, if there is one.
    pub executable: Option<Executable>,
}

/// A kindmesh executable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Executable {
    /// The operating system it runs on, as in image names.
    pub os: String,
    /// The architecture it runs on, as in image names.
    pub architecture: String,
    /// The beginning of its SHA-256: 12 hexadecimal digits.
    pub digest: String,
}

/// What matters about the engine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EngineFacts {
    /// Its identity: two addresses with the same one are the same engine.
    pub id: String,
    /// Its version, such as `28.5.2`.
    pub version: String,
    /// The newest version of the API that it speaks, such as `1.51`.
    pub api_version: String,
    /// Its operating system, as in image names: `linux`.
    pub os: String,
    /// Its architecture, as in image names: `amd64`, `arm64`.
    pub architecture: String,
    /// 1 or 2.
    pub cgroup_version: u8,
    /// Memory in bytes.
    pub memory: u64,
    /// Processors.
    pub cpus: u64,
    /// The default bridge's MTU, where it differs from Docker's default.
    pub mtu: Option<u32>,
    /// The name of the machine it runs on.
    pub machine: String,
    /// That machine's kernel.
    pub kernel: String,
    /// That machine's system in words, such as `Docker Desktop`.
    pub system: String,
    /// The folder on that machine where it keeps images, containers and volumes.
    pub folder: String,
    /// Whether it is Podman, which speaks Docker's API too.
    pub podman: bool,
    /// Whether it runs without root's rights.
    pub rootless: bool,
    /// The cgroup controllers that a kubelet needs and the engine says it has not.
    pub missing_controllers: Vec<String>,
    /// Whether its kernel forwarded packets when it started, where it tells.
    pub forwarding: Option<bool>,
    /// What it writes its packet filter rules with, where it tells: `iptables`, `iptables+firewalld`, `nftables`.
    pub firewall: String,
    /// The proxy through which it pulls, if any.
    pub proxy: String,
    /// How far its clock is ahead of this machine's, in milliseconds; negative when behind.
    pub clock_ahead_ms: i64,
}

/// A subnet that belongs to somebody else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Taken {
    /// The subnet.
    pub subnet: Ipv4Net,
    /// Who has it, for people: `Docker network "bridge"`, `route via tun0`.
    pub by: String,
}

/// An environment as found on the engine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Environment {
    /// Its Docker network's name; none when only a register of clusters is left.
    pub network: Option<String>,
    /// The network's subnet.
    pub subnet: Option<Ipv4Net>,
    /// All networks labelled as this environment's, the registers of added clusters included.
    pub networks: Vec<String>,
    /// The clusters that the labels list, with the subnets they were planned with.
    pub clusters: BTreeMap<String, ClusterSubnets>,
    /// The nodes, stopped ones included.
    pub nodes: Vec<Node>,
    /// The kindmesh version that made it.
    pub version: String,
}

/// The subnets of a cluster, where the label tells them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterSubnets {
    /// The pods'.
    pub pods: Option<Ipv4Net>,
    /// The Services'.
    pub services: Option<Ipv4Net>,
}

/// A node: a container that kind made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// The container's name, which is the Kubernetes node's too.
    pub name: String,
    /// The cluster in the mesh that it belongs to.
    pub cluster: String,
    /// `control-plane` or `worker`.
    pub role: String,
    /// Docker's word: `running`, `paused`, `exited`, `created`, ….
    pub state: String,
    /// Its image.
    pub image: String,
}

impl Inventory {
    /// A machine with an engine like the executable's platform and nothing on it.
    pub fn of_an_empty_machine(executable: Option<Executable>) -> Self {
        let (os, architecture) = match &executable {
            Some(executable) => (executable.os.clone(), executable.architecture.clone()),
            None => ("linux".into(), "amd64".into()),
        };
        let engine = EngineFacts { os, architecture, cgroup_version: 2, ..EngineFacts::default() };
        Self { engine, executable, ..Self::default() }
    }
}

impl Environment {
    /// The nodes of one cluster.
    pub fn nodes_of<'a>(&'a self, cluster: &'a str) -> impl Iterator<Item = &'a Node> {
        self.nodes.iter().filter(move |node| node.cluster == cluster)
    }
}

/// The environment that a Docker network belongs to, by its label **and** its own name. Anybody can write any
/// label, and an environment's name becomes the path of a folder that `down` deletes: so only a valid name
/// counts, on a network that is called as we call the networks of that environment.
pub(crate) fn owner(network: &str, environment: &str) -> Option<Label> {
    let owner: Label = environment.parse().ok().filter(|_| environment.len() <= NAME_MAX)?;
    let rest = network.strip_prefix(&names::network_name(environment))?;
    let ours = rest.is_empty() || rest.strip_prefix('.').is_some_and(|cluster| cluster.parse::<Label>().is_ok());
    ours.then_some(owner)
}

/// Writes the value of [`SUBNETS_LABEL`].
pub fn subnets_label<'a>(clusters: impl IntoIterator<Item = (&'a str, Ipv4Net, Ipv4Net)>) -> String {
    let items: Vec<_> =
        clusters.into_iter().map(|(name, pods, services)| format!("{name}={pods}+{services}")).collect();
    items.join(",")
}

/// Reads the values of [`CLUSTERS_LABEL`] and [`SUBNETS_LABEL`]. What cannot be read, or is no name of a cluster,
/// counts as not told.
pub fn clusters_of_labels(clusters: &str, subnets: &str) -> BTreeMap<String, ClusterSubnets> {
    let mut found: BTreeMap<String, ClusterSubnets> = clusters
        .split(',')
        .filter(|name| name.parse::<Label>().is_ok())
        .map(|name| (name.to_owned(), ClusterSubnets::default()))
        .collect();
    for item in subnets.split(',') {
        let Some((name, nets)) = item.split_once('=') else { continue };
        let Some((pods, services)) = nets.split_once('+') else { continue };
        if let Some(cluster) = found.get_mut(name) {
            *cluster = ClusterSubnets { pods: pods.parse().ok(), services: services.parse().ok() };
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_round_trip() {
        let pods: Ipv4Net = "10.100.0.0/16".parse().unwrap();
        let services: Ipv4Net = "10.101.0.0/16".parse().unwrap();
        let label = subnets_label([("a", pods, services)]);
        let found = clusters_of_labels("a,b", &label);
        assert_eq!(found["a"], ClusterSubnets { pods: Some(pods), services: Some(services) });
        assert_eq!(found["b"], ClusterSubnets::default());
    }

    #[test]
    fn a_network_has_an_owner_only_when_label_and_name_agree() {
        let owner = |network, label| owner(network, label).map(|owner| owner.to_string());
        assert_eq!(owner("kindmesh-e", "e").as_deref(), Some("e"));
        assert_eq!(owner("kindmesh-e.c", "e").as_deref(), Some("e"));
        let long = "a-name-of-21-characte";
        for (network, label) in [
            ("kindmesh-..", ".."),
            ("kindmesh-/home/ada", "/home/ada"),
            ("kindmesh-", ""),
            ("kindmesh-E", "E"),
            ("shop_default", "e"),
            ("kindmesh-other", "e"),
            ("kindmesh-e-c", "e"),
            ("kindmesh-e.", "e"),
            ("kindmesh-e.c/d", "e"),
            (&names::network_name(long), long),
        ] {
            assert_eq!(owner(network, label), None, "{network} labelled {label}");
        }
    }

    #[test]
    fn only_names_of_clusters_are_read() {
        let found = clusters_of_labels("a,..,/home/ada,B, c,,d", "..=10.0.0.0/16+10.1.0.0/16");
        assert_eq!(found.keys().collect::<Vec<_>>(), ["a", "d"]);
    }

    #[test]
    fn a_cluster_that_is_not_listed_is_not_ours() {
        assert!(clusters_of_labels("", "a=10.0.0.0/16+10.1.0.0/16").is_empty());
    }
}
