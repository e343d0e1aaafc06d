//! The spec, which is the format of `kindmesh.yaml`: what the user asks for, with types, defaults and validation.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub mod changes;
pub mod kind;
pub mod load;
pub mod merge;
pub mod name;
pub mod origins;
pub mod schema;
pub mod subnets;
pub mod validate;
pub mod versions;

mod disk;
mod existing;
mod file;
mod owned;
mod place;
mod places;
mod problems;
mod values;

pub use changes::changes;
#[cfg(feature = "cli")]
pub(crate) use disk::read as read_text;
pub use existing::{Gateway, Trust};
pub(crate) use file::did_you_mean;
#[cfg(feature = "cli")]
pub(crate) use file::parse_file;
pub use load::{Loaded, Sources, environment_name, from_text, to_yaml};
pub use name::{Label, Subnet};
pub use origins::Origins;
#[cfg(feature = "cli")]
pub(crate) use origins::Source;
pub use schema::schema;
pub use validate::validate;
#[cfg(feature = "cli")]
pub(crate) use validate::{Problem, report};
pub use versions::{Version, kubernetes_version};

/// Free-form settings that are passed on unchanged.
pub type Values = BTreeMap<String, serde_json::Value>;

/// An environment: clusters in one mesh, with the sample services. Every field has a default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Spec {
    /// The environment's name: a DNS label of at most 20 characters.
    pub name: Label,
    /// How pods of one cluster reach pods of another.
    pub topology: Topology,
    /// The Docker network of all nodes.
    pub network: Network,
    /// Kubernetes in every cluster.
    pub kubernetes: Kubernetes,
    /// The clusters, at least two.
    pub clusters: Vec<Cluster>,
    /// The mesh.
    pub mesh: Mesh,
    /// The root of trust.
    #[serde(skip_serializing_if = "is_default")]
    pub trust: Trust,
    /// The sample services.
    pub samples: Samples,
    /// Where `kindmesh deploy` applies objects without an annotation: clusters by the name of an object, or of its
    /// application.
    pub deploy: BTreeMap<String, Vec<Label>>,
}

/// How pods of one cluster reach pods of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Topology {
    /// One Istio network: pods route to pods.
    Flat,
    /// One Istio network for each cluster: pods reach pods of another one only through its east-west gateway.
    MultiNetwork,
}

/// The Docker network of all nodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Network {
    /// Its IPv4 subnet in CIDR notation, or `auto` for an unused one.
    pub subnet: Subnet,
}

/// Kubernetes in every cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Kubernetes {
    /// The kind node image; its tag is the Kubernetes version.
    pub node_image: String,
    /// What the clusters are optimized for.
    pub profile: Profile,
}

/// What Kubernetes is optimized for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Settings for short-lived clusters: they start faster and use less CPU when idle.
    #[default]
    Disposable,
    /// kind's defaults.
    Standard,
}

/// One cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Cluster {
    /// Its name in the mesh: a DNS label.
    pub name: Label,
    /// Its context in your kubeconfig, if it exists already. Without a context, kind creates the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// For a cluster that exists, the URL at which the other clusters reach its API server; by default that of its context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_server: Option<String>,
    /// For a cluster that exists, its east-west gateway.
    #[serde(default, skip_serializing_if = "is_default")]
    pub gateway: Gateway,
    /// The region of its nodes (`topology.kubernetes.io/region`); empty for none.
    #[serde(default)]
    pub region: String,
    /// The zone of its nodes (`topology.kubernetes.io/zone`); empty for none.
    #[serde(default)]
    pub zone: String,
    /// The number of worker nodes in addition to the control plane.
    #[serde(default)]
    pub workers: u8,
    /// The Istio network of its pods. Pods of clusters with the same one route to each other; others are reached through
    /// east-west gateways. By default one for all, or with `topology: multi-network` the cluster's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Label>,
    /// The subnet of its pods. Clusters on different Istio networks may have the same one.
    #[serde(default, skip_serializing_if = "Subnet::is_auto")]
    pub pod_subnet: Subnet,
    /// The subnet of its Services, likewise.
    #[serde(default, skip_serializing_if = "Subnet::is_auto")]
    pub service_subnet: Subnet,
    /// Kubernetes in this cluster, where it differs from `kubernetes`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub kubernetes: ClusterKubernetes,
    /// The mesh in this cluster, where it differs from `mesh`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mesh: ClusterMesh,
    /// Settings that are merged into its kind configuration, last.
    #[serde(default)]
    pub kind: Values,
}

/// Kubernetes in one cluster.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ClusterKubernetes {
    /// Its kind node image; by default that of all clusters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_image: Option<String>,
}

/// The mesh in one cluster.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ClusterMesh {
    /// Its version of Istio; by default that of all clusters. At most one minor version apart from the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Whether it has a control plane.
    #[serde(skip_serializing_if = "is_default")]
    pub control_plane: ControlPlane,
    /// For a remote cluster, the cluster whose istiod its proxies use; by default the first primary on its network, else the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primary: Option<Label>,
}

/// Which istiod the proxies of a cluster use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ControlPlane {
    /// Its own.
    #[default]
    Primary,
    /// That of another cluster.
    Remote,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn is_true(value: &bool) -> bool {
    *value
}

/// The mesh.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Mesh {
    /// Whether to install Istio in clusters that exist. Otherwise the Istio in them is used as it is.
    #[serde(skip_serializing_if = "is_true")]
    pub install: bool,
    /// Istio's version.
    pub version: String,
    /// The repository of Istio's images.
    pub hub: String,
    /// Istio's Helm values, merged last: what an IstioOperator has in `spec.values`.
    pub values: Values,
}

/// The sample services.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Samples {
    /// Whether to deploy them.
    pub enabled: bool,
    /// Their namespace in every cluster.
    pub namespace: Label,
    /// Their image; if empty, it is built from the kindmesh executable.
    pub image: String,
    /// The caller.
    pub caller: Caller,
    /// The producer.
    pub producer: Producer,
}

/// The caller's clusters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Caller {
    /// The clusters with a caller.
    pub clusters: Vec<Label>,
}

/// The producer's clusters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Producer {
    /// The clusters with producers.
    pub clusters: Vec<Label>,
    /// The number of pods in each of them.
    pub replicas: u8,
}

/// The node image in kind's release notes for the newest Kubernetes that the default Istio supports.
pub const DEFAULT_NODE_IMAGE: &str =
    "kindest/node:v1.36.4@sha256:099e049362a1526b2db71494e1947aae99bd16290d7c895f2b7ea312e3cbfaed";
/// The newest Istio version that kindmesh was tested with.
pub const DEFAULT_ISTIO_VERSION: &str = "1.31.1";

impl Spec {
    /// Returns the clusters that kind creates.
    pub fn kind_clusters(&self) -> impl Iterator<Item = &Cluster> + Clone {
        self.clusters.iter().filter(|cluster| !cluster.exists())
    }

    /// Returns the clusters with an istiod of their own.
    pub fn primaries(&self) -> impl Iterator<Item = &Cluster> {
        self.clusters.iter().filter(|cluster| self.primary_of(cluster).is_none())
    }

    /// Whether kind creates any of the clusters.
    pub fn has_kind_clusters(&self) -> bool {
        self.kind_clusters().next().is_some()
    }

    /// Returns the node image of a cluster.
    pub fn node_image_of<'a>(&'a self, cluster: &'a Cluster) -> &'a str {
        cluster.kubernetes.node_image.as_ref().unwrap_or(&self.kubernetes.node_image)
    }

    /// Returns the version of Istio in a cluster: for a remote cluster, by default that of its primary.
    pub fn istio_version_of<'a>(&'a self, cluster: &'a Cluster) -> &'a str {
        let own = cluster.mesh.version.as_ref();
        let primary = || self.primary_of(cluster)?.mesh.version.as_ref();
        own.or_else(primary).unwrap_or(&self.mesh.version)
    }

    /// Returns the cluster whose istiod the proxies of a remote cluster use; none for a primary, and in a spec without one.
    pub fn primary_of(&self, cluster: &Cluster) -> Option<&Cluster> {
        if cluster.mesh.control_plane == ControlPlane::Primary {
            return None;
        }
        let mut primaries = self.clusters.iter().filter(|other| other.mesh.control_plane == ControlPlane::Primary);
        if let Some(name) = &cluster.mesh.primary {
            return primaries.find(|other| other.name == *name);
        }
        let network = self.network_of(cluster);
        primaries.clone().find(|other| self.network_of(other) == network).or_else(|| primaries.next())
    }

    /// Returns the cluster whose istiod a cluster's proxies use. Istio's objects take effect there: an istiod reads them from its own
    /// API server only.
    pub fn control_plane_of<'a>(&'a self, cluster: &'a Cluster) -> &'a Cluster {
        self.primary_of(cluster).unwrap_or(cluster)
    }

    /// Returns the versions of Istio in the clusters, as text.
    pub fn istio_versions(&self) -> String {
        distinct(self.clusters.iter().map(|cluster| self.istio_version_of(cluster))).join(", ")
    }

    /// Returns the node images of the clusters, as text.
    pub fn node_images(&self) -> String {
        distinct(self.kind_clusters().map(|cluster| self.node_image_of(cluster))).join(", ")
    }

    /// Returns the Istio network of a cluster's pods; none for the one that clusters of a flat mesh share.
    pub fn network_of<'a>(&self, cluster: &'a Cluster) -> Option<&'a str> {
        let own = || (self.topology == Topology::MultiNetwork).then_some(cluster.name.as_str());
        cluster.network.as_ref().map(Label::as_str).or_else(own)
    }
}

/// Returns each value once, in order.
pub(crate) fn distinct<'a>(values: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut all = Vec::new();
    for value in values {
        if !all.contains(&value) {
            all.push(value);
        }
    }
    all
}

impl Default for Spec {
    fn default() -> Self {
        let cluster = |i: u8| Cluster {
            name: Label::literal(&format!("cluster{i}")),
            context: None,
            api_server: None,
            gateway: Gateway::default(),
            region: format!("region{i}"),
            zone: format!("zone{i}"),
            workers: 0,
            network: None,
            pod_subnet: Subnet::Auto,
            service_subnet: Subnet::Auto,
            kubernetes: ClusterKubernetes::default(),
            mesh: ClusterMesh::default(),
            kind: Values::new(),
        };
        Self {
            name: Label::literal("kindmesh"),
            topology: Topology::Flat,
            network: Network::default(),
            kubernetes: Kubernetes::default(),
            clusters: vec![cluster(1), cluster(2)],
            mesh: Mesh::default(),
            trust: Trust::default(),
            samples: Samples::default(),
            deploy: BTreeMap::new(),
        }
    }
}

impl Default for Network {
    fn default() -> Self {
        Self { subnet: Subnet::Auto }
    }
}

impl Default for Kubernetes {
    fn default() -> Self {
        Self { node_image: DEFAULT_NODE_IMAGE.into(), profile: Profile::default() }
    }
}

impl Default for Mesh {
    fn default() -> Self {
        Self {
            install: true,
            version: DEFAULT_ISTIO_VERSION.into(),
            hub: "docker.io/istio".into(),
            values: Values::new(),
        }
    }
}

impl Default for Samples {
    fn default() -> Self {
        Self {
            enabled: true,
            namespace: Label::literal("sample"),
            image: String::new(),
            caller: Caller::default(),
            producer: Producer::default(),
        }
    }
}

impl Default for Caller {
    fn default() -> Self {
        Self { clusters: vec![Label::literal("cluster1")] }
    }
}

impl Default for Producer {
    fn default() -> Self {
        Self { clusters: vec![Label::literal("cluster2")], replicas: 2 }
    }
}
