//! What was found in a cluster that exists, as plain data: what admission decides by, before anything is changed.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::permissions::Permission;

/// The facts about one cluster.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Facts {
    /// The UID of its namespace kube-system, which identifies it.
    pub uid: String,
    /// The URL of its API server in the context.
    pub server: String,
    /// Its version of Kubernetes, such as `v1.36.4-gke.100`.
    pub version: String,
    /// How far its clock is ahead of the host's, in milliseconds; negative when it is behind.
    pub clock_ahead_ms: i64,
    /// The permissions that are needed and that the user of the context does not have.
    pub denied: BTreeSet<Permission>,
    /// Its nodes.
    pub nodes: Vec<Node>,
    /// The namespaces that kindmesh uses and that exist.
    pub namespaces: BTreeMap<String, Namespace>,
    /// Its control planes of Istio.
    pub istiods: Vec<Istiod>,
    /// Its webhooks that call an istiod.
    pub webhooks: Vec<Webhook>,
    /// Its CustomResourceDefinitions of Istio, by name.
    pub definitions: BTreeMap<String, Definition>,
    /// The secret cacerts.
    pub cacerts: Option<CaCerts>,
    /// The remote secrets.
    pub remote_secrets: Vec<RemoteSecret>,
    /// The environment that an earlier `up` recorded in it.
    pub environment: Option<String>,
    /// The namespaces that had the config map with Istio's root certificate before that.
    pub root_certificates: BTreeSet<String>,
}

/// What the plan needs to know about a cluster, and what identifies it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Known {
    /// The UID of its namespace kube-system, which identifies it.
    pub uid: String,
    /// The URL of its API server in the context.
    pub server: String,
    /// Its version of Kubernetes, such as `v1.36.4-gke.100`.
    pub version: String,
    /// The subnets of its pods, if its nodes name them.
    pub pod_subnets: Vec<Ipv4Net>,
    /// Whether it has a secret cacerts that kindmesh did not create, which is then used as it is.
    pub cacerts: bool,
    /// The version of the Istio in it that kindmesh did not install; empty if there is none.
    pub istio: String,
}

impl Facts {
    /// Whether it has a secret cacerts that kindmesh did not create.
    pub fn has_cacerts_of_others(&self) -> bool {
        self.cacerts.as_ref().is_some_and(|cacerts| !cacerts.ours)
    }
}

impl From<&Facts> for Known {
    fn from(facts: &Facts) -> Self {
        let subnets: BTreeSet<Ipv4Net> =
            facts.nodes.iter().flat_map(|node| node.pod_subnets.iter().copied()).collect();
        Self {
            uid: facts.uid.clone(),
            server: facts.server.clone(),
            version: facts.version.clone(),
            pod_subnets: subnets.into_iter().collect(),
            cacerts: facts.has_cacerts_of_others(),
            istio: facts
                .istiods
                .iter()
                .find(|istiod| !istiod.ours)
                .map(|istiod| istiod.version.clone())
                .unwrap_or_default(),
        }
    }
}

/// A node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its architecture, as in image names.
    pub architecture: String,
    /// The subnets of its pods, if Kubernetes assigns them.
    pub pod_subnets: Vec<Ipv4Net>,
}

/// A namespace.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Namespace {
    /// Whether kindmesh created it.
    pub ours: bool,
    /// Its label with the Istio network of the cluster, if any.
    pub network: Option<String>,
    /// The level of Pod Security that it enforces, if any: `restricted`.
    pub enforces: Option<String>,
    /// What its quotas leave, the least of all of them.
    pub left: Left,
}

/// What the quotas of a namespace leave; none without a limit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Left {
    /// The number of pods.
    pub pods: Option<u64>,
    /// The CPU that pods may request, in thousandths.
    pub cpu_millis: Option<u64>,
    /// The memory that pods may request, in bytes.
    pub memory: Option<u64>,
}

/// A control plane of Istio.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Istiod {
    /// Its namespace.
    pub namespace: String,
    /// The name of its Deployment.
    pub name: String,
    /// Its revision.
    pub revision: String,
    /// Its version, from the tag of its image.
    pub version: String,
    /// Whether kindmesh created it.
    pub ours: bool,
    /// How it is configured.
    pub mesh: IstiodMesh,
}

/// How a control plane of Istio is configured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct IstiodMesh {
    /// The name of its cluster.
    pub cluster: String,
    /// The Istio network of its cluster: the label of its namespace.
    pub network: String,
    /// The Istio network of the proxies that it adds: `global.network`.
    pub proxy_network: String,
    /// Its mesh ID.
    pub id: String,
    /// Its trust domain.
    pub trust_domain: String,
    /// Whether its namespace has the Service of an east-west gateway, by the name of Istio's documentation, with an address.
    pub gateway: bool,
}

/// A webhook configuration that calls an istiod.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Webhook {
    /// Its kind: `MutatingWebhookConfiguration` or `ValidatingWebhookConfiguration`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Whether kindmesh created it.
    pub ours: bool,
}

/// A CustomResourceDefinition.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Definition {
    /// The versions that it serves.
    pub served: BTreeSet<String>,
    /// Whether kindmesh created it.
    pub ours: bool,
}

/// The secret cacerts, without its keys.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct CaCerts {
    /// The SHA-256 of each root certificate in it.
    pub roots: BTreeSet<String>,
    /// Whether kindmesh created it.
    pub ours: bool,
}

/// A remote secret, without its content.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RemoteSecret {
    /// Its name.
    pub name: String,
    /// The cluster that it is for.
    pub cluster: String,
    /// Whether kindmesh created it.
    pub ours: bool,
}
