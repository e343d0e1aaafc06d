//! What exists on the engine, as plain data: found by labels, never guessed from names.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::existing::Known;
use crate::base::error::Error;
use crate::base::hint::down_hint;
use crate::base::names;
use crate::spec::Label;
use crate::spec::subnets::{Use, overlaps};
use crate::spec::validate::NAME_MAX;

/// The label of a Docker network that names its environment.
pub const ENVIRONMENT_LABEL: &str = "kindmesh.environment";
/// The label of a Docker network that lists the environment's clusters, separated by commas.
pub const CLUSTERS_LABEL: &str = "kindmesh.clusters";
/// The label of a Docker network with the kindmesh version that created it.
pub const VERSION_LABEL: &str = "kindmesh.version";
/// The label of a Docker network with each cluster's pod and Service subnet and its addresses for Services of type
/// LoadBalancer, as `cluster=pods+services+balancers` separated by commas, so that the plan can be restored when the state
/// directory is lost.
pub const SUBNETS_LABEL: &str = "kindmesh.subnets";
/// The label of a Docker network with the name that its clusters were created under, if they were restored from a template of
/// another environment: it is part of the names of their Kubernetes nodes, and the name of the mesh.
pub const IDENTITY_LABEL: &str = "kindmesh.identity";
/// The label of a register that names a cluster that was removed, although the network's own label, which cannot be changed,
/// still lists it.
pub const REMOVED_LABEL: &str = "kindmesh.removed";
/// The label that kind sets on its nodes.
pub const KIND_CLUSTER_LABEL: &str = "io.x-k8s.kind.cluster";
/// The label with which kind distinguishes control planes and workers.
pub const KIND_ROLE_LABEL: &str = "io.x-k8s.kind.role";

/// Everything that a plan depends on besides the spec.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inventory {
    /// The engine.
    pub engine: EngineFacts,
    /// Subnets in use by other Docker networks and by the host's routes.
    pub taken: Vec<Taken>,
    /// The environments on the engine, by name.
    pub environments: BTreeMap<String, Environment>,
    /// kind clusters that belong to no environment.
    pub foreign_clusters: Vec<String>,
    /// The kindmesh executable for building the sample image, if found.
    pub executable: Option<Executable>,
    /// What is known about the clusters that exist, by their names in the environment that is planned.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub existing: BTreeMap<String, Known>,
}

/// A kindmesh executable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Executable {
    /// Its operating system, as in image names.
    pub os: String,
    /// Its architecture, as in image names.
    pub architecture: String,
    /// The first 12 hexadecimal digits of its SHA-256.
    pub digest: String,
}

/// Facts about the engine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EngineFacts {
    /// Its id: two endpoints with the same id are the same engine.
    pub id: String,
    /// Its version, such as `28.5.2`.
    pub version: String,
    /// The newest API version that it supports, such as `1.51`.
    pub api_version: String,
    /// Its operating system, as in image names: `linux`.
    pub os: String,
    /// Its architecture, as in image names: `amd64`, `arm64`.
    pub architecture: String,
    /// The cgroup version: 1 or 2.
    pub cgroup_version: u8,
    /// The memory in bytes.
    pub memory: u64,
    /// The number of CPUs.
    pub cpus: u64,
    /// The default bridge's MTU, if it differs from Docker's default.
    pub mtu: Option<u32>,
    /// The name of the engine's host.
    pub machine: String,
    /// The kernel of the engine's host.
    pub kernel: String,
    /// The operating system of the engine's host as text, such as `Docker Desktop`.
    pub system: String,
    /// The directory on the engine's host with its images, containers and volumes.
    pub folder: String,
    /// The address of its containerd, if containerd stores the images instead of the engine itself; empty if the engine does
    /// not report it.
    pub containerd: Option<String>,
    /// The network interface of its default bridge on its host, such as `docker0`; empty if it has none.
    pub bridge: String,
    /// Whether it is Podman, which also supports Docker's API.
    pub podman: bool,
    /// Whether it runs rootless.
    pub rootless: bool,
    /// The cgroup controllers that a kubelet needs and the engine reports as missing.
    pub missing_controllers: Vec<String>,
    /// Whether IP forwarding was enabled when it started, if it reports that.
    pub forwarding: Option<bool>,
    /// Its firewall backend, if it reports that: `iptables`, `iptables+firewalld`, `nftables`.
    pub firewall: String,
    /// The proxy that it pulls images through, if any.
    pub proxy: String,
    /// How far its clock is ahead of the host's, in milliseconds; negative when it is behind.
    pub clock_ahead_ms: i64,
}

impl EngineFacts {
    /// Returns its platform, such as `linux/amd64`.
    pub fn platform(&self) -> String {
        format!("{}/{}", self.os, self.architecture)
    }
}

/// A subnet in use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Taken {
    /// The subnet.
    pub subnet: Ipv4Net,
    /// The user of the subnet, as text: `Docker network "bridge"`, `route via tun0`.
    pub by: String,
}

/// An environment as found on the engine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Environment {
    /// The name of its Docker network; `None` if only registers of clusters are left.
    pub network: Option<String>,
    /// The network's subnet.
    pub subnet: Option<Ipv4Net>,
    /// All networks labeled with this environment, including the registers of added clusters.
    pub networks: Vec<String>,
    /// The clusters that the labels list, with their planned subnets.
    pub clusters: BTreeMap<String, ClusterSubnets>,
    /// The clusters that the labels of the Docker network itself list, also those that were removed.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub original: BTreeSet<String>,
    /// The clusters that were removed and are still listed by the Docker network, with the subnets that they had.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub removed: BTreeMap<String, ClusterSubnets>,
    /// The nodes, including stopped ones.
    pub nodes: Vec<Node>,
    /// The kindmesh version that created it.
    pub version: String,
    /// The names under which clusters were created, if they differ from the environment's: from the label
    /// `kindmesh.identity`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub identities: BTreeMap<String, String>,
}

/// The subnets of a cluster, as far as the label lists them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterSubnets {
    /// The pod subnet.
    pub pods: Option<Ipv4Net>,
    /// The Service subnet.
    pub services: Option<Ipv4Net>,
    /// The addresses for Services of type LoadBalancer; none in a network of an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balancers: Option<Ipv4Net>,
}

impl ClusterSubnets {
    /// Returns the subnet for a use.
    pub fn of(&self, of: Use) -> Option<Ipv4Net> {
        match of {
            Use::Pods => self.pods,
            Use::Services => self.services,
        }
    }
}

/// A node: a container that kind created.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// The name of the container and of the Kubernetes node.
    pub name: String,
    /// Its cluster.
    pub cluster: String,
    /// Its role: `control-plane` or `worker`.
    pub role: String,
    /// Its state as Docker reports it: `running`, `paused`, `exited`, `created`, ….
    pub state: String,
    /// Its image.
    pub image: String,
}

impl Taken {
    /// Whether it overlaps a subnet.
    pub fn overlaps(&self, subnet: &Ipv4Net) -> bool {
        overlaps(self.subnet, *subnet)
    }
}

impl Inventory {
    /// Returns the inventory of an empty engine of the executable's platform.
    pub fn of_an_empty_machine(executable: Option<Executable>) -> Self {
        let (os, architecture) = match &executable {
            Some(executable) => (executable.os.clone(), executable.architecture.clone()),
            None => ("linux".into(), "amd64".into()),
        };
        let engine = EngineFacts { os, architecture, cgroup_version: 2, ..EngineFacts::default() };
        Self { engine, executable, ..Self::default() }
    }

    /// Makes a plan of an environment use these subnets, as if its clusters existed, created under the name `identity`. The
    /// network's subnet is used only if it is free.
    ///
    /// # Errors
    /// A missing prerequisite if a subnet of a cluster is in use; a usage error if the environment has other subnets or
    /// another identity. Then nothing is changed.
    pub fn assume(
        &mut self,
        environment: &str,
        identity: &str,
        network: Option<Ipv4Net>,
        clusters: &BTreeMap<String, ClusterSubnets>,
    ) -> Result<(), Error> {
        let existing = self.environments.get(environment);
        let own = existing.and_then(|existing| existing.subnet);
        let taken =
            |net: &Ipv4Net| self.taken.iter().find(|taken| Some(taken.subnet) != own && taken.overlaps(net));
        for (name, subnets) in clusters {
            if let Some(known) = existing
                .and_then(|existing| existing.clusters.get(name))
                .filter(|known| (known.pods, known.services) != (subnets.pods, subnets.services))
            {
                let show = |net: Option<Ipv4Net>| net.map(|net| net.to_string()).unwrap_or_default();
                return Err(Error::usage(format!(
                    "cluster {name} of environment {environment} exists with other subnets: {} instead of {}",
                    show(known.pods),
                    show(subnets.pods)
                ))
                .hint(down_hint(environment)));
            }
            for net in [subnets.pods, subnets.services].iter().flatten() {
                if let Some(taken) = taken(net) {
                    let message =
                        format!("cluster {name} requires the subnet {net}, which is in use by {}", taken.by);
                    return Err(Error::prerequisite(message)
                        .hint("remove an unused Docker network (docker network ls), or disconnect the VPN"));
                }
            }
        }
        if let Some(existing) = existing.filter(|existing| existing.network.is_some()) {
            if let Some(name) = clusters.keys().find(|name| !existing.clusters.contains_key(*name)) {
                let message = format!("environment {environment} exists without cluster {name}");
                return Err(Error::usage(message).hint(down_hint(environment)));
            }
            let is_other =
                |name: &&String| existing.identities.get(*name).map_or(environment, String::as_str) != identity;
            if let Some(name) = clusters.keys().find(is_other) {
                let message = format!(
                    "cluster {name} of environment {environment} was not created as a cluster of {identity}"
                );
                return Err(Error::usage(message).hint(down_hint(environment)));
            }
        }
        let free = network.filter(|network| taken(network).is_none());
        let assumed = self.environments.entry(environment.to_owned()).or_default();
        if assumed.network.is_none() {
            assumed.subnet = free;
        }
        for (name, subnets) in clusters {
            assumed.clusters.entry(name.clone()).or_insert(*subnets);
            if identity != environment {
                assumed.identities.insert(name.clone(), identity.to_owned());
            }
        }
        Ok(())
    }
}

impl Environment {
    /// Adds what the labels of one of its networks list. A register says last what became of a cluster, so it is read after
    /// the Docker network.
    pub fn read_labels(&mut self, network: &str, label: impl Fn(&str) -> String) {
        let mut clusters = clusters_of_labels(&label(CLUSTERS_LABEL), &label(SUBNETS_LABEL));
        if self.network.as_deref() == Some(network) {
            self.original = clusters.keys().cloned().collect();
        }
        let identity = label(IDENTITY_LABEL);
        for (name, subnets) in &mut clusters {
            // Only a valid name becomes part of host names.
            match identity.parse::<Label>() {
                Ok(_) => self.identities.insert(name.clone(), identity.clone()),
                Err(_) => self.identities.remove(name),
            };
            self.clusters.insert(name.clone(), *subnets);
        }
        let removed = label(REMOVED_LABEL);
        if let Some(subnets) = self.clusters.remove(&removed) {
            self.identities.remove(&removed);
            self.removed.insert(removed, subnets);
        }
    }

    /// Returns the nodes of a cluster.
    pub fn nodes_of<'a>(&'a self, cluster: &'a str) -> impl Iterator<Item = &'a Node> {
        self.nodes.iter().filter(move |node| node.cluster == cluster)
    }
}

/// Returns the environment that a Docker network belongs to, by its label **and** its name. A label can contain anything,
/// and an environment's name becomes the path of a directory that `down` deletes. So the name must be valid, and the
/// network must be named as kindmesh names the networks of that environment.
pub(crate) fn owner(network: &str, environment: &str) -> Option<Label> {
    let owner: Label = environment.parse().ok().filter(|_| environment.len() <= NAME_MAX)?;
    let rest = network.strip_prefix(&names::network_name(environment))?;
    let ours = rest.is_empty() || rest.strip_prefix('.').is_some_and(|cluster| cluster.parse::<Label>().is_ok());
    ours.then_some(owner)
}

/// Returns the value of [`SUBNETS_LABEL`].
pub fn subnets_label<'a>(clusters: impl IntoIterator<Item = (&'a str, ClusterSubnets)>) -> String {
    let text = |(name, subnets): (&str, ClusterSubnets)| {
        let subnets = [subnets.pods, subnets.services, subnets.balancers];
        let subnets: Vec<_> = subnets.iter().flatten().map(ToString::to_string).collect();
        format!("{name}={}", subnets.join("+"))
    };
    clusters.into_iter().map(text).collect::<Vec<_>>().join(",")
}

/// Parses the values of [`CLUSTERS_LABEL`] and [`SUBNETS_LABEL`]. Ignores what cannot be parsed or is not a valid cluster
/// name.
pub fn clusters_of_labels(clusters: &str, subnets: &str) -> BTreeMap<String, ClusterSubnets> {
    let mut found: BTreeMap<String, ClusterSubnets> = clusters
        .split(',')
        .filter(|name| name.parse::<Label>().is_ok())
        .map(|name| (name.to_owned(), ClusterSubnets::default()))
        .collect();
    for item in subnets.split(',') {
        let Some((name, nets)) = item.split_once('=') else { continue };
        let mut nets = nets.split('+').map(|net| net.parse().ok());
        let mut next = || nets.next().flatten();
        if let Some(cluster) = found.get_mut(name) {
            *cluster = ClusterSubnets { pods: next(), services: next(), balancers: next() };
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assumed_subnets_are_planned_unless_they_are_taken() {
        let net = |text: &str| -> Ipv4Net { text.parse().unwrap() };
        let subnets = |pods: &str, services: &str| ClusterSubnets {
            pods: Some(net(pods)),
            services: Some(net(services)),
            balancers: None,
        };
        let clusters = BTreeMap::from([("a".to_owned(), subnets("10.7.0.0/16", "10.8.0.0/16"))]);
        let with = |taken: &str| Inventory {
            taken: vec![Taken { subnet: net(taken), by: "a VPN".into() }],
            ..Inventory::default()
        };
        let mut inventory = with("192.168.0.0/24");
        inventory.assume("e", "e", Some(net("172.30.9.0/24")), &clusters).unwrap();
        assert_eq!(inventory.environments["e"].clusters, clusters);
        assert_eq!(inventory.environments["e"].subnet, Some(net("172.30.9.0/24")));
        assert!(inventory.environments["e"].identities.is_empty());
        inventory.assume("f", "e", Some(net("172.30.9.0/24")), &clusters).unwrap();
        assert_eq!(inventory.environments["f"].identities["a"], "e");
        let mut inventory = with("172.30.0.0/16");
        inventory.assume("e", "e", Some(net("172.30.9.0/24")), &clusters).unwrap();
        assert_eq!(inventory.environments["e"].subnet, None);
        let error = with("10.8.1.0/24").assume("e", "e", Some(net("172.30.9.0/24")), &clusters).unwrap_err();
        assert_eq!(error.message, "cluster a requires the subnet 10.8.0.0/16, which is in use by a VPN");

        let mut inventory = with("192.168.0.0/24");
        let other = BTreeMap::from([("a".to_owned(), subnets("10.1.0.0/16", "10.2.0.0/16"))]);
        inventory.environments.insert("e".into(), Environment { clusters: other, ..Environment::default() });
        let error = inventory.assume("e", "e", Some(net("172.30.9.0/24")), &clusters).unwrap_err();
        assert!(error.message.contains("exists with other subnets: 10.1.0.0/16 instead of 10.7.0.0/16"));

        let there = Environment {
            network: Some("kindmesh-e".into()),
            clusters: clusters.clone(),
            ..Environment::default()
        };
        inventory.environments.insert("e".into(), there);
        inventory.assume("e", "e", Some(net("172.30.9.0/24")), &clusters).unwrap();
        let error = inventory.assume("e", "f", Some(net("172.30.9.0/24")), &clusters).unwrap_err();
        assert_eq!(error.message, "cluster a of environment e was not created as a cluster of f");
    }

    #[test]
    fn labels_round_trip() {
        let pods: Ipv4Net = "10.100.0.0/16".parse().unwrap();
        let services: Ipv4Net = "10.101.0.0/16".parse().unwrap();
        let mut subnets = ClusterSubnets { pods: Some(pods), services: Some(services), balancers: None };
        // That of an earlier version, then with addresses for Services.
        for balancers in [None, Some("172.30.0.128/29".parse().unwrap())] {
            subnets.balancers = balancers;
            let found = clusters_of_labels("a,b", &subnets_label([("a", subnets)]));
            assert_eq!((found["a"], found["b"]), (subnets, ClusterSubnets::default()));
        }
    }

    #[test]
    fn network_owner_requires_matching_label_and_name() {
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
            assert_eq!(owner(network, label), None, "{network} labeled {label}");
        }
    }

    #[test]
    fn only_valid_cluster_names_are_read() {
        let found = clusters_of_labels("a,..,/home/ada,B, c,,d", "..=10.0.0.0/16+10.1.0.0/16");
        assert_eq!(found.keys().collect::<Vec<_>>(), ["a", "d"]);
    }

    #[test]
    fn unlisted_cluster_is_not_ours() {
        assert!(clusters_of_labels("", "a=10.0.0.0/16+10.1.0.0/16").is_empty());
    }
}
