//! The plan: every name, subnet, image, port and certificate subject, as a pure function of the spec and of what exists.
//! Later steps only carry it out.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::Serialize;
use serde_json::Value;

use crate::base::error::Error;
use crate::base::names;
use crate::spec::{Label, Spec, Subnet};
use inventory::{Environment, Inventory};

pub mod addresses;
pub mod admission;
mod config;
pub mod consent;
mod control_plane;
mod docker;
mod document;
pub mod engine;
pub mod existing;
mod host;
pub mod image_names;
pub mod inventory;
mod kind;
pub mod permissions;
mod size;
mod subnets;

pub use docker::{Docker, Network, Register, Removed};
pub use host::{ExistingCluster, Host};
pub use kind::KindCluster;
pub use size::Size;

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
    /// The part for the container engine, if kind creates any of the clusters.
    #[serde(flatten)]
    pub docker: Option<Docker>,
    /// The mesh.
    pub mesh: Mesh,
    /// The clusters.
    pub clusters: Vec<Cluster>,
    /// The sample services, if enabled.
    pub samples: Option<Samples>,
}

/// The mesh.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mesh {
    /// Istio's `meshID`.
    pub id: String,
    /// The subject of the root certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_subject: Option<String>,
    /// The directory with the certificates of another root: `trust.from`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust_from: Option<String>,
}

/// One cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// Its name in the mesh.
    pub name: String,
    /// Its context in the environment's kubeconfig.
    pub context: String,
    /// Its version of Istio.
    pub istio_version: String,
    /// Istio's images, those that will run: `mesh.values` may name others than those of `mesh.hub` and the version.
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
    pub intermediate_subject: Option<String>,
    /// The input for istioctl, an IstioOperator; none if the Istio that is there is used.
    pub istio: Option<Value>,
    /// Where it runs.
    pub host: Host,
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

    /// Returns the part for the container engine.
    ///
    /// # Errors
    /// A usage error if kind creates none of the clusters.
    pub fn docker(&self) -> Result<&Docker, Error> {
        let none = || Error::usage(format!("all clusters of environment \"{}\" exist already", self.environment));
        self.docker.as_ref().ok_or_else(|| none().hint("this is for clusters that kind creates"))
    }

    /// Returns the clusters that kind creates.
    pub fn kind_clusters(&self) -> impl Iterator<Item = (&Cluster, &KindCluster)> {
        self.clusters.iter().filter_map(|cluster| Some((cluster, cluster.host.kind()?)))
    }

    /// Returns the name that the environment's clusters were created under.
    pub fn identity(&self) -> &str {
        self.docker.as_ref().and_then(|docker| docker.identity.as_deref()).unwrap_or(&self.environment)
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

    let assigned = match spec.has_kind_clusters() {
        true => Some(subnets::assign(spec, existing, inventory)?),
        false => None,
    };
    let nowhere = BTreeMap::new();
    let subnets = assigned.as_ref().map_or(&nowhere, |assigned| &assigned.clusters);
    // A cluster that is added to restored ones joins their mesh.
    let mesh_name = existing.identities.values().next().map_or(name, String::as_str);
    let own_root =
        spec.mesh.install && spec.trust.from.is_none() && !inventory.existing.values().any(|known| known.cacerts);
    let mesh = Mesh {
        id: mesh_name.to_owned(),
        root_subject: own_root.then(|| names::subject(name, None).to_string()),
        trust_from: spec.trust.from.clone(),
    };
    let networks: Vec<&str> =
        spec.clusters.iter().map(|cluster| spec.network_of(cluster).unwrap_or(mesh_name)).collect();
    let has_gateways = networks.iter().any(|network| *network != networks[0]);
    admission::gateways(spec, existing, control_plane::lacks_addresses(spec, subnets, has_gateways))?;
    let of = |(cluster, network): (&crate::spec::Cluster, &str)| {
        let identity = existing.identities.get(cluster.name.as_str()).map_or(name, String::as_str);
        let host = match (subnets.get(cluster.name.as_str()), &cluster.context) {
            (Some(own), _) => Host::Kind(KindCluster::of(spec, cluster, identity, *own, &inventory.engine)?),
            (None, context) => {
                let known = inventory.existing.get(cluster.name.as_str()).cloned().unwrap_or_default();
                let context = context.clone().unwrap_or_default();
                Host::Existing(ExistingCluster { context, known, gateways: cluster.gateway.addresses.clone() })
            }
        };
        let exposed = control_plane::exposed(spec, cluster, subnets);
        // The address that Docker assigns to the gateway, and to the network's DNS server.
        let nameserver = assigned.as_ref().map(|assigned| first_address(assigned.network));
        let network = config::Network { name: network, nameserver, has_gateways, exposed };
        config::cluster(spec, cluster, host, &mesh, &network)
    };
    let clusters: Vec<Cluster> = spec.clusters.iter().zip(networks).map(of).collect::<Result<_, Error>>()?;
    let docker = match assigned {
        Some(Assigned { network, mut addresses, .. }) => {
            Some(docker::docker(spec, existing, inventory, network, &clusters, &mut addresses)?)
        }
        None => None,
    };
    Ok(Plan {
        schema_version: 1,
        environment: name.to_owned(),
        docker,
        mesh,
        clusters,
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
