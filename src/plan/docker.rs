//! What only an environment has that kind creates clusters in: the Docker network of their nodes, and the clusters that are removed
//! from it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::Serialize;

use super::addresses::{self, Allocator};
use super::inventory::{self, ClusterSubnets, Environment, Inventory};
use super::{Cluster, KindCluster, first_address};
use crate::base::error::Error;
use crate::base::names::{self, network_name};
use crate::spec::subnets::overlaps;
use crate::spec::{Profile, Spec};

/// The part of a plan for the container engine.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Docker {
    /// The name that the environment's clusters were created under, if another environment's template was restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// The engine's platform, as in image names: `linux/amd64`.
    pub platform: String,
    /// The Docker network.
    pub network: Network,
    /// What Kubernetes is optimized for, in every cluster that kind creates.
    pub profile: Profile,
    /// The clusters of the existing environment that the spec no longer lists: they are deleted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<Removed>,
}

/// The Docker network that all nodes are attached to.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// Its name.
    pub name: String,
    /// Its subnet.
    pub subnet: Ipv4Net,
    /// Its MTU, if it differs from Docker's default.
    pub mtu: Option<u32>,
    /// Its labels, which identify the environment.
    pub labels: BTreeMap<String, String>,
    /// More networks, without containers. They list clusters that were added after the network was created, since the
    /// labels of a Docker network cannot be changed.
    pub registers: Vec<Register>,
}

impl Docker {
    /// Returns the address of the network's gateway: Docker assigns it the first one.
    pub fn gateway(&self) -> Ipv4Addr {
        first_address(self.network.subnet)
    }
}

impl Network {
    /// Returns the part of its subnet from which the engine assigns addresses to nodes. The rest is for Services of type
    /// LoadBalancer.
    pub fn nodes(&self) -> Ipv4Net {
        addresses::node_range(self.subnet)
    }
}

/// A network that exists only for its labels.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Register {
    /// Its name.
    pub name: String,
    /// Its subnet, the smallest that Docker accepts.
    pub subnet: Ipv4Net,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it replaces one of that name that says that the cluster was removed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub replaces: bool,
}

/// A cluster of the existing environment that the spec no longer lists.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Removed {
    /// Its name in the mesh.
    pub name: String,
    /// Its name in kind.
    pub kind_name: String,
    /// Its existing nodes.
    pub nodes: Vec<String>,
    /// The subnets of its addresses: of its pods, and for its Services of type LoadBalancer.
    pub subnets: Vec<Ipv4Net>,
    /// The register that lists it, which is deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub register: Option<String>,
    /// The register that says that it was removed, if the labels of the Docker network list it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub marker: Option<Register>,
}

impl Removed {
    /// Returns it without the subnets whose addresses are those of another cluster's own pods: such a cluster, on another Istio
    /// network, does not reach these addresses here.
    pub fn seen_from(&self, cluster: &Cluster) -> Self {
        let other = |net: &Ipv4Net| !cluster.pod_subnets().iter().any(|own| overlaps(*own, *net));
        Self { subnets: self.subnets.iter().copied().filter(other).collect(), ..self.clone() }
    }

    /// Whether an address was one of its pods, or of its Services of type LoadBalancer.
    pub fn owned(&self, address: Ipv4Addr) -> bool {
        self.subnets.iter().any(|subnet| subnet.contains(&address))
    }
}

/// Plans the part for the engine.
///
/// # Errors
/// A missing prerequisite if no subnet is free.
pub(super) fn docker(
    spec: &Spec,
    existing: &Environment,
    inventory: &Inventory,
    subnet: Ipv4Net,
    clusters: &[Cluster],
    addresses: &mut Allocator,
) -> Result<Docker, Error> {
    Ok(Docker {
        // A cluster that is added to restored ones joins their mesh.
        identity: existing.identities.values().next().cloned(),
        platform: format!("{}/{}", inventory.engine.os, inventory.engine.architecture),
        network: network(spec, existing, inventory, subnet, clusters, addresses)?,
        profile: spec.kubernetes.profile,
        removed: removed(spec, existing, clusters, addresses)?,
    })
}

fn network(
    spec: &Spec,
    existing: &Environment,
    inventory: &Inventory,
    subnet: Ipv4Net,
    clusters: &[Cluster],
    addresses: &mut Allocator,
) -> Result<Network, Error> {
    let name = network_name(spec.name.as_str());
    let labels = |clusters: &[(&str, &KindCluster)]| labels(spec, existing, clusters);
    // The labels of an existing network stay as they are: clusters added later get registers.
    let listed: BTreeSet<&str> = existing.clusters.keys().map(String::as_str).collect();
    let of_kind = clusters.iter().filter_map(|cluster| Some((cluster.name.as_str(), cluster.host.kind()?)));
    let (first, added): (Vec<_>, Vec<_>) =
        of_kind.partition(|(name, _)| existing.network.is_none() || listed.contains(name));
    let mut registers = Vec::new();
    for cluster in added {
        let replaces = existing.removed.contains_key(cluster.0);
        registers.push(register(spec, cluster.0, labels(&[cluster]), replaces, addresses)?);
    }
    Ok(Network { name, subnet, mtu: inventory.engine.mtu, labels: labels(&first), registers })
}

fn register(
    spec: &Spec,
    cluster: &str,
    labels: BTreeMap<String, String>,
    replaces: bool,
    addresses: &mut Allocator,
) -> Result<Register, Error> {
    let name = names::register_name(spec.name.as_str(), cluster);
    let wide = addresses.network(&name)?;
    Ok(Register { subnet: Ipv4Net::new_assert(wide.network(), 29), name, labels, replaces })
}

/// Plans the removal of the clusters that exist and that the spec does not list.
fn removed(
    spec: &Spec,
    existing: &Environment,
    clusters: &[Cluster],
    addresses: &mut Allocator,
) -> Result<Vec<Removed>, Error> {
    let environment = spec.name.as_str();
    let kept: BTreeSet<&str> = clusters.iter().map(|cluster| cluster.name.as_str()).collect();
    let gone = existing.clusters.iter().filter(|(name, _)| !kept.contains(name.as_str()));
    gone.map(|(name, known)| {
        let subnets = [known.pods, known.balancers].into_iter().flatten();
        let register = names::register_name(environment, name);
        let labels = [
            (inventory::ENVIRONMENT_LABEL, environment),
            (inventory::REMOVED_LABEL, name),
            (inventory::VERSION_LABEL, env!("CARGO_PKG_VERSION")),
        ];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let marker = existing.original.contains(name);
        let marker = marker.then(|| self::register(spec, name, labels, false, addresses)).transpose()?;
        Ok(Removed {
            name: name.clone(),
            kind_name: names::kind_name(environment, name),
            nodes: existing.nodes_of(name).map(|node| node.name.clone()).collect(),
            subnets: subnets.collect(),
            register: existing.networks.contains(&register).then_some(register),
            marker,
        })
    })
    .collect()
}

fn labels(spec: &Spec, existing: &Environment, clusters: &[(&str, &KindCluster)]) -> BTreeMap<String, String> {
    let names: Vec<&str> = clusters.iter().map(|(name, _)| *name).collect();
    let subnets = clusters.iter().map(|(name, kind)| {
        let (pods, services) = (Some(kind.pod_subnet), Some(kind.service_subnet));
        (*name, ClusterSubnets { pods, services, balancers: kind.balancers })
    });
    let identity = names.iter().find_map(|name| existing.identities.get(*name));
    let identity = identity.map(|identity| (inventory::IDENTITY_LABEL.to_owned(), identity.clone()));
    let always = [
        (inventory::ENVIRONMENT_LABEL.to_owned(), spec.name.to_string()),
        (inventory::CLUSTERS_LABEL.to_owned(), names.join(",")),
        (inventory::SUBNETS_LABEL.to_owned(), inventory::subnets_label(subnets)),
        (inventory::VERSION_LABEL.to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
    ];
    always.into_iter().chain(identity).collect()
}
