//! What was seen of a call's way, as plain data.

use std::collections::BTreeMap;

use serde_json::Value;

pub use crate::cluster::mesh::envoy::config_dump::{Route, Transport};

/// All that the hops are judged by.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The environment's name.
    pub environment: String,
    /// The call.
    pub call: Call,
    /// Who calls, if anybody of that namespace runs there.
    pub caller: Option<Caller>,
    /// Every cluster, that of the caller first.
    pub clusters: Vec<Cluster>,
    /// Other namespaces that have a Service of that name.
    pub other_namespaces: Vec<String>,
    /// The other clusters as the caller's istiod sees them, each with its state; none when it gave no answer.
    pub synced: Option<Vec<(String, String)>>,
    /// The clusters that the caller's has a remote secret for.
    pub remote_secrets: Vec<String>,
    /// The DestinationRules of the caller's cluster.
    pub destination_rules: Vec<Policy>,
    /// What the caller's proxy says; none when there is none, or it gave no answer.
    pub proxy: Option<Proxy>,
}

/// A call.
#[derive(Debug, Clone, Default)]
pub struct Call {
    /// The cluster that calls.
    pub cluster: String,
    /// The namespace that calls.
    pub namespace: String,
    /// The Service's name.
    pub name: String,
    /// The Service's namespace.
    pub service_namespace: String,
    /// The port.
    pub port: u16,
    /// The path.
    pub path: String,
}

/// The pod that calls.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// Its name.
    pub pod: String,
    /// Its service account.
    pub account: String,
    /// Whether it has a proxy.
    pub meshed: bool,
    /// Whether it is ready.
    pub ready: bool,
}

/// A cluster.
#[derive(Debug, Clone, Default)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Its context in the environment's kubeconfig.
    pub context: String,
    /// Why its API server gave no answer, if it gave none.
    pub silent: Option<String>,
    /// Whether it has the Service's namespace.
    pub has_namespace: bool,
    /// Its Service of that name.
    pub service: Option<Service>,
    /// The pods that its Service selects, or, where it has none, that another cluster's would.
    pub pods: Vec<Pod>,
    /// What makes such pods.
    pub workloads: Vec<Workload>,
    /// Whether its pods can be reached from the caller's cluster, and the other way round.
    pub linked: Linked,
    /// Its PeerAuthentications that may be about the pods.
    pub peer_authentications: Vec<Policy>,
    /// Its AuthorizationPolicies that may be about the pods.
    pub authorization_policies: Vec<Policy>,
}

/// Whether pods of a cluster can be reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Linked {
    /// They can; or it is the caller's own cluster.
    Yes,
    /// Cut on purpose.
    Cut,
    /// There is no route; where.
    No(String),
    /// It could not be found out.
    #[default]
    Unknown,
}

/// A Service.
#[derive(Debug, Clone, Default)]
pub struct Service {
    /// Its ports.
    pub ports: Vec<Port>,
    /// Which pods it selects.
    pub selector: BTreeMap<String, String>,
    /// Whether it has no address of its own.
    pub headless: bool,
    /// The name it stands for, if it stands for another.
    pub external_name: Option<String>,
}

/// A port of a Service.
#[derive(Debug, Clone, Default)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its number.
    pub number: u16,
    /// The pods' port: a number or a name.
    pub target: String,
    /// What it says of its protocol.
    pub protocol: Option<String>,
}

/// A pod that may answer.
#[derive(Debug, Clone, Default)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Whether it is ready.
    pub ready: bool,
    /// Why it is not, as far as it says.
    pub why: String,
    /// Whether it has a proxy.
    pub meshed: bool,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The names of its containers' ports.
    pub port_names: Vec<String>,
}

/// What makes pods.
#[derive(Debug, Clone, Default)]
pub struct Workload {
    /// `Deployment` or `StatefulSet`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// How many pods are wanted.
    pub replicas: i32,
}

/// One of Istio's objects.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its spec.
    pub spec: Value,
}

impl Policy {
    /// Whether it is about a pod of a namespace: one of the mesh's own namespace is about all.
    pub fn is_about(&self, namespace: &str, pod: &Pod) -> bool {
        (self.namespace == namespace || self.namespace == crate::cluster::mesh::ISTIO_NAMESPACE)
            && self.selects(pod)
    }

    /// Whether its selector, if it has one, fits a pod.
    pub fn selects(&self, pod: &Pod) -> bool {
        self.selector()
            .into_iter()
            .flatten()
            .all(|(key, value)| pod.labels.get(key).map(String::as_str) == value.as_str())
    }

    /// Which pods it is about; none for all of its namespace.
    pub fn selector(&self) -> Option<&serde_json::Map<String, Value>> {
        self.spec.pointer("/selector/matchLabels").and_then(Value::as_object).filter(|labels| !labels.is_empty())
    }
}

/// What the caller's proxy would do.
#[derive(Debug, Clone, Default)]
pub struct Proxy {
    /// Its route for the host and port.
    pub route: Option<Route>,
    /// The clusters of endpoints that it knows, with how each is spoken to.
    pub clusters: BTreeMap<String, Transport>,
    /// The endpoints of each, with their health as Envoy writes it.
    pub endpoints: BTreeMap<String, Vec<(String, String)>>,
}

impl Facts {
    /// The caller's cluster.
    pub fn here(&self) -> Option<&Cluster> {
        self.clusters.first()
    }

    /// The Service's full name.
    pub fn host(&self) -> String {
        format!("{}.{}.svc.cluster.local", self.call.name, self.call.service_namespace)
    }

    /// The ready pods that may answer, each with its cluster: of clusters that have a Service of that name.
    pub fn ready(&self) -> Vec<(&Cluster, &Pod)> {
        let served = self.clusters.iter().filter(|cluster| cluster.service.is_some());
        served
            .flat_map(|cluster| cluster.pods.iter().filter(|pod| pod.ready).map(move |pod| (cluster, pod)))
            .collect()
    }

    /// The clusters with ready pods that may answer.
    pub fn serving(&self) -> Vec<&Cluster> {
        let served = self.clusters.iter().filter(|cluster| cluster.service.is_some());
        served.filter(|cluster| cluster.pods.iter().any(|pod| pod.ready)).collect()
    }

    /// Whether a cluster is the caller's own.
    pub fn is_here(&self, cluster: &Cluster) -> bool {
        cluster.name == self.call.cluster
    }

    /// Whether the caller's control plane knows a cluster's endpoints.
    pub fn sees(&self, cluster: &Cluster) -> bool {
        let synced = |known: &Vec<(String, String)>| {
            known.iter().any(|(id, state)| *id == cluster.name && state == "synced")
        };
        self.is_here(cluster) || self.synced.as_ref().is_none_or(synced)
    }

    /// The start of a kubectl command for the Service's namespace in a cluster.
    pub fn kubectl(&self, cluster: &Cluster) -> String {
        format!("kubectl --context {} -n {}", cluster.context, self.call.service_namespace)
    }

    /// A command of kindmesh on this environment.
    pub fn kindmesh(&self, command: &str) -> String {
        match self.environment.as_str() {
            "kindmesh" => format!("kindmesh {command}"),
            name => format!("kindmesh {command} --name {name}"),
        }
    }
}

/// `one`, `one and two`, `one, two and three`.
pub(super) fn listed<T: AsRef<str>>(names: &[T]) -> String {
    match names {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [first @ .., last] => {
            let first: Vec<&str> = first.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", first.join(", "), last.as_ref())
        }
    }
}
