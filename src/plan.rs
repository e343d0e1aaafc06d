//! The plan: every name, subnet, image, port and certificate subject, as a pure function of the spec and of what exists.
//! Later steps only carry it out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::Serialize;
use serde_json::Value;

use crate::base::error::Error;
use crate::base::names::{self, network_name};
use crate::spec::subnets::overlaps;
use crate::spec::{Label, Profile, Spec, Subnet};
use inventory::{ClusterSubnets, Environment, Inventory};

pub mod addresses;
pub mod admission;
mod config;
mod control_plane;
mod document;
pub mod engine;
pub mod image_names;
pub mod inventory;
mod kind;
mod size;
mod subnets;

pub use kind::KindCluster;
pub use size::Size;

use addresses::Allocator;
use subnets::Assigned;

/// The label on every Kubernetes object that kindmesh creates.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// The value of that label, which is also the field manager of every apply.
pub const MANAGED_BY: &str = "kindmesh";

/// The plan for one environment.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The version of this document's schema.
    pub schema_version: u8,
    /// The environment's name.
    pub environment: String,
    /// The name that the environment's clusters were created under, if another environment's template was restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// The engine's platform, as in image names: `linux/amd64`.
    pub platform: String,
    /// The Docker network.
    pub network: Network,
    /// What Kubernetes is optimized for, in every cluster.
    pub profile: Profile,
    /// The mesh.
    pub mesh: Mesh,
    /// The clusters.
    pub clusters: Vec<Cluster>,
    /// The clusters of the existing environment that the spec no longer lists: they are deleted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<Removed>,
    /// The sample services, if enabled.
    pub samples: Option<Samples>,
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
        let other = |net: &Ipv4Net| !overlaps(cluster.kind.pod_subnet, *net);
        Self { subnets: self.subnets.iter().copied().filter(other).collect(), ..self.clone() }
    }

    /// Whether an address was one of its pods, or of its Services of type LoadBalancer.
    pub fn owned(&self, address: Ipv4Addr) -> bool {
        self.subnets.iter().any(|subnet| subnet.contains(&address))
    }
}

/// The mesh.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mesh {
    /// Istio's `meshID`.
    pub id: String,
    /// The subject of the root certificate.
    pub root_subject: String,
}

/// One cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// Its name in the mesh.
    pub name: String,
    /// Its context in the environment's kubeconfig.
    pub context: String,
    /// Its version of Istio, which is also the tag of its images.
    pub istio_version: String,
    /// Istio's images.
    pub istio_images: Vec<String>,
    /// The URL at which the peers' control planes reach its API server.
    pub api_server: String,
    /// Istio's `network` of its pods.
    pub network: String,
    /// The cluster whose istiod its proxies use, if it has none: then it is a remote cluster.
    pub primary: Option<String>,
    /// The address at which remote clusters reach istiod: of a primary with remote clusters its own, of a remote cluster that of its
    /// primary.
    pub istiod_address: Option<Ipv4Addr>,
    /// Whether that address leads through the primary's east-west gateway.
    pub istiod_through_gateway: bool,
    /// The subject of the intermediate CA that signs the certificates of its workloads.
    pub intermediate_subject: String,
    /// The input for istioctl, an IstioOperator.
    pub istio: Value,
    /// What it has because kind creates it.
    pub kind: KindCluster,
}

impl Cluster {
    /// Whether an address is that of one of its pods, or of a Service of type LoadBalancer such as its gateway.
    pub fn owns(&self, address: Ipv4Addr) -> bool {
        self.kind.owns(address)
    }

    /// Returns the containers that are its nodes, the control plane first.
    pub fn nodes(&self) -> &[String] {
        &self.kind.nodes
    }
}

/// The sample services.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Samples {
    /// Their namespace.
    pub namespace: String,
    /// Their image.
    pub image: String,
    /// Whether kindmesh builds the image, from the kindmesh executable.
    pub build: bool,
    /// The clusters with a caller.
    pub callers: Vec<String>,
    /// The clusters with producers.
    pub producers: Vec<String>,
    /// The number of producer pods in each of them.
    pub replicas: u8,
}

impl Plan {
    /// Returns the cluster of that name.
    pub fn cluster(&self, name: &str) -> Option<&Cluster> {
        self.clusters.iter().find(|cluster| cluster.name == name)
    }

    /// Returns the name that the environment's clusters were created under.
    pub fn identity(&self) -> &str {
        self.identity.as_deref().unwrap_or(&self.environment)
    }

    /// Returns the address of the network's gateway: Docker assigns it the first one.
    pub fn gateway(&self) -> Ipv4Addr {
        first_address(self.network.subnet)
    }

    /// Returns the peers of a cluster.
    pub fn peers<'a>(&'a self, of: &'a Cluster) -> impl Iterator<Item = &'a Cluster> {
        self.clusters.iter().filter(move |cluster| cluster.name != of.name)
    }

    /// Returns the peers of a cluster on the same Istio network: pods route to pods.
    pub fn neighbors<'a>(&'a self, of: &'a Cluster) -> impl Iterator<Item = &'a Cluster> {
        self.peers(of).filter(move |cluster| cluster.network == of.network)
    }

    /// Returns the peers of a cluster on other Istio networks: pods reach them through their gateways.
    pub fn strangers<'a>(&'a self, of: &'a Cluster) -> impl Iterator<Item = &'a Cluster> {
        self.peers(of).filter(move |cluster| cluster.network != of.network)
    }

    /// Whether clusters have east-west gateways: they are on more than one Istio network.
    pub fn has_gateways(&self) -> bool {
        self.clusters.iter().any(|cluster| cluster.network != self.clusters[0].network)
    }
}

/// Plans an environment.
///
/// # Errors
/// A usage error that names both sides if the spec conflicts with what exists; a missing prerequisite if no subnet is free
/// or the sample image cannot be built.
pub fn plan(spec: &Spec, inventory: &Inventory) -> Result<Plan, Error> {
    let name = spec.name.as_str();
    let nothing = Environment::default();
    let existing = inventory.environments.get(name).unwrap_or(&nothing);
    admission::clusters(spec, inventory)?;

    let Assigned { network: subnet, clusters: subnets, mut addresses } =
        subnets::assign(spec, existing, inventory)?;
    // A cluster that is added to restored ones joins their mesh.
    let identity = existing.identities.values().next().cloned();
    let mesh_name = identity.clone().unwrap_or_else(|| name.to_owned());
    let mesh = Mesh { id: mesh_name.clone(), root_subject: names::subject(name, None).to_string() };
    // The address that Docker assigns to it, and to the network's DNS server.
    let gateway = first_address(subnet);
    let networks: Vec<&str> =
        spec.clusters.iter().map(|cluster| spec.network_of(cluster).unwrap_or(&mesh_name)).collect();
    let has_gateways = networks.iter().any(|network| *network != networks[0]);
    admission::gateways(spec, existing, control_plane::lacks_addresses(spec, &subnets, has_gateways))?;
    let clusters: Vec<Cluster> = spec
        .clusters
        .iter()
        .zip(&subnets)
        .zip(networks)
        .map(|((cluster, own), network)| {
            let identity = existing.identities.get(cluster.name.as_str()).map_or(name, String::as_str);
            let exposed = control_plane::exposed(spec, cluster, &subnets);
            let network = config::Network { name: network, gateway, has_gateways, exposed };
            config::cluster(spec, cluster, identity, *own, &inventory.engine, &mesh, &network)
        })
        .collect::<Result<_, Error>>()?;
    let network = network(spec, existing, inventory, subnet, &clusters, &mut addresses)?;
    let removed = removed(spec, existing, &clusters, &mut addresses)?;
    Ok(Plan {
        schema_version: 1,
        environment: name.to_owned(),
        identity,
        platform: format!("{}/{}", inventory.engine.os, inventory.engine.architecture),
        network,
        profile: spec.kubernetes.profile,
        mesh,
        clusters,
        removed,
        samples: samples(spec, inventory)?,
    })
}

/// Returns the plan of a spec without what does not decide the state of its clusters: the environment's name, the network and
/// automatic subnets.
///
/// # Errors
/// As for [`plan`].
pub fn anonymous(spec: &Spec, inventory: &Inventory) -> Result<Plan, Error> {
    let Inventory { engine, executable, .. } = inventory.clone();
    plan(&anonymous_spec(spec), &Inventory { engine, executable, ..Inventory::default() })
}

/// Returns a spec without the environment's name and the network's subnet.
pub fn anonymous_spec(spec: &Spec) -> Spec {
    let mut spec = spec.clone();
    spec.name = Label::literal("template");
    spec.network.subnet = Subnet::Auto;
    spec
}

pub(crate) fn first_address(subnet: Ipv4Net) -> Ipv4Addr {
    subnet.hosts().next().unwrap_or(subnet.network())
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
    let labels = |clusters: &[&Cluster]| labels(spec, existing, clusters);
    // The labels of an existing network stay as they are: clusters added later get registers.
    let listed: BTreeSet<&str> = existing.clusters.keys().map(String::as_str).collect();
    let (first, added): (Vec<&Cluster>, Vec<&Cluster>) =
        clusters.iter().partition(|c| existing.network.is_none() || listed.contains(c.name.as_str()));
    let mut registers = Vec::new();
    for cluster in added {
        let replaces = existing.removed.contains_key(&cluster.name);
        registers.push(register(spec, &cluster.name, labels(&[cluster]), replaces, addresses)?);
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

fn labels(spec: &Spec, existing: &Environment, clusters: &[&Cluster]) -> BTreeMap<String, String> {
    let names: Vec<_> = clusters.iter().map(|cluster| cluster.name.as_str()).collect();
    let subnets = clusters.iter().map(|cluster| {
        let kind = &cluster.kind;
        let (pods, services) = (Some(kind.pod_subnet), Some(kind.service_subnet));
        (cluster.name.as_str(), ClusterSubnets { pods, services, balancers: kind.balancers })
    });
    let identity = clusters.iter().find_map(|cluster| existing.identities.get(&cluster.name));
    let identity = identity.map(|identity| (inventory::IDENTITY_LABEL.to_owned(), identity.clone()));
    let always = [
        (inventory::ENVIRONMENT_LABEL.to_owned(), spec.name.to_string()),
        (inventory::CLUSTERS_LABEL.to_owned(), names.join(",")),
        (inventory::SUBNETS_LABEL.to_owned(), inventory::subnets_label(subnets)),
        (inventory::VERSION_LABEL.to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
    ];
    always.into_iter().chain(identity).collect()
}

fn samples(spec: &Spec, inventory: &Inventory) -> Result<Option<Samples>, Error> {
    let samples = &spec.samples;
    if !samples.enabled {
        return Ok(None);
    }
    let (image, build) = image_names::sample(spec, inventory.executable.as_ref(), &inventory.engine)?;
    let names = |labels: &[crate::spec::Label]| labels.iter().map(ToString::to_string).collect();
    Ok(Some(Samples {
        namespace: samples.namespace.to_string(),
        image,
        build,
        callers: names(&samples.caller.clusters),
        producers: names(&samples.producer.clusters),
        replicas: samples.producer.replicas,
    }))
}
