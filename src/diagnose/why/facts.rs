//! The facts about a call, as plain data.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;

use serde::Serialize;
use serde_json::Value;

pub use crate::cluster::mesh::envoy::config_dump::{Route, Transport};

/// The input for judging the hops.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The environment's name.
    pub environment: String,
    /// The call.
    pub call: Call,
    /// The caller; none if its namespace has no pods in its cluster.
    pub caller: Option<Caller>,
    /// Every cluster, the caller's first.
    pub clusters: Vec<Cluster>,
    /// Other namespaces with a Service of that name.
    pub other_namespaces: Vec<String>,
    /// The cluster with the istiod of the caller's proxy: the caller's own, unless that is a remote cluster. Istio's objects for the
    /// caller take effect there.
    pub control_plane: String,
    /// The clusters that the caller's istiod lists, each with its sync status; none if istiod did not respond.
    pub synced: Option<Vec<(String, String)>>,
    /// The clusters for which that cluster has a remote secret.
    pub remote_secrets: Vec<String>,
    /// The mesh configuration of that istiod; null if it could not be read.
    pub mesh_config: Value,
    /// The NetworkPolicies of the caller's namespace in its cluster; none if they could not be read.
    pub network_policies: Option<Vec<Policy>>,
    /// The DestinationRules of that cluster.
    pub destination_rules: Vec<Policy>,
    /// The configuration of the caller's proxy; none if there is no proxy, or it did not respond.
    pub proxy: Option<Proxy>,
    /// What a connection to a pod's own port got, past its proxy: for TCP only.
    pub direct: Option<Heard>,
    /// The trial of the call; none for HTTP.
    pub trial: Option<Trial>,
}

/// What the client speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Speaks {
    /// HTTP/1.1
    #[default]
    Http,
    /// gRPC
    Grpc,
    /// Anything else, over TCP
    Tcp,
}

impl fmt::Display for Speaks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "HTTP",
            Self::Grpc => "gRPC",
            Self::Tcp => "TCP",
        })
    }
}

/// A call.
#[derive(Debug, Clone, Default)]
pub struct Call {
    /// The caller's cluster.
    pub cluster: String,
    /// The caller's namespace.
    pub namespace: String,
    /// The Service's name.
    pub name: String,
    /// The Service's namespace.
    pub service_namespace: String,
    /// The aliases (Services of type ExternalName in the caller's cluster) that led to the Service: names, each with what it is for.
    pub aliases: Vec<(String, String)>,
    /// The host outside of the clusters that the last alias is for, if it is for one.
    pub outside: Option<String>,
    /// The pod, if the host is that of a pod of a headless Service.
    pub to_pod: Option<String>,
    /// The port.
    pub port: u16,
    /// The path.
    pub path: String,
    /// What the client speaks.
    pub speaks: Speaks,
    /// Whether that is only what the port declares, since the target has no scheme.
    pub as_declared: bool,
}

/// The caller's pod.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// Its name.
    pub pod: String,
    /// Its service account.
    pub account: String,
    /// Its node.
    pub node: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its address.
    pub address: Option<Ipv4Addr>,
    /// Whether it has a proxy.
    pub meshed: bool,
    /// Whether it is ready.
    pub ready: bool,
    /// Whether its proxy answers DNS queries, with names of all clusters.
    pub captures_dns: bool,
}

/// A cluster.
#[derive(Debug, Clone, Default)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Its context in the environment's kubeconfig.
    pub context: String,
    /// Why its API server did not respond, if it did not.
    pub silent: Option<String>,
    /// Whether it has the Service's namespace.
    pub has_namespace: bool,
    /// The labels of that namespace.
    pub namespace_labels: BTreeMap<String, String>,
    /// Its Service of that name.
    pub service: Option<Service>,
    /// The pods that its Service selects; without a Service, those that another cluster's Service would select.
    pub pods: Vec<Pod>,
    /// The workloads that create these pods.
    pub workloads: Vec<Workload>,
    /// Whether its pods and those of the caller's cluster can reach each other.
    pub linked: Linked,
    /// The active faults between it and the caller's cluster.
    pub faults: Vec<Fault>,
    /// What a user asked for, if its istiod is stopped on purpose.
    pub istiod_fault: Option<String>,
    /// Its east-west gateway.
    pub gateway: Option<Gateway>,
    /// The subnets of its pods, if known.
    pub pod_subnets: Vec<String>,
    /// The NetworkPolicies of the Service's namespace; none if they could not be read.
    pub network_policies: Option<Vec<Policy>>,
    /// Why the policies for its pods could not be read, if they could not: the cluster that has them, and the error.
    pub unread: Option<String>,
    /// The PeerAuthentications that may apply to its pods; of a remote cluster, in its primary.
    pub peer_authentications: Vec<Policy>,
    /// The AuthorizationPolicies that may apply to its pods; likewise.
    pub authorization_policies: Vec<Policy>,
}

/// Whether the pods of a cluster can be reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Linked {
    /// They can, or the cluster is the caller's own.
    Yes,
    /// They are on another network, and its gateway can.
    Gateway,
    /// The link is disabled.
    Cut,
    /// A node has no route: the node's name.
    No(String),
    /// They have to be, but one of the clusters exists already, and its nodes are not inspected.
    NotInspected,
    /// Not known.
    #[default]
    Unknown,
}

/// A fault between two clusters that a user asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fault {
    /// What happens, where, and when it ends.
    pub what: String,
    /// Whether no call can pass.
    pub total: bool,
}

/// An east-west gateway.
#[derive(Debug, Clone, Default)]
pub struct Gateway {
    /// Its addresses, IP addresses or host names, if it has any.
    pub addresses: Vec<String>,
    /// Why it is not ready, if it is not.
    pub lacks: Option<String>,
}

/// A Service.
#[derive(Debug, Clone, Default)]
pub struct Service {
    /// Its ports.
    pub ports: Vec<Port>,
    /// Its selector.
    pub selector: BTreeMap<String, String>,
    /// Whether it is headless.
    pub headless: bool,
    /// Its cluster IP, if it has one.
    pub cluster_ip: Option<Ipv4Addr>,
    /// Whether it admits only pods on the caller's node (`internalTrafficPolicy: Local`).
    pub node_local: bool,
    /// Its external name, if it has one.
    pub external_name: Option<String>,
    /// Its annotation `networking.istio.io/exportTo`.
    pub export_to: Option<String>,
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
    /// Its declared protocol.
    pub protocol: Option<String>,
}

/// A pod that may receive the call.
#[derive(Debug, Clone, Default)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Whether it is ready.
    pub ready: bool,
    /// Why it is not ready, if known.
    pub why: String,
    /// Whether it has a proxy.
    pub meshed: bool,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its address.
    pub address: Option<Ipv4Addr>,
    /// Its containers' ports: name and number.
    pub ports: Vec<(String, u16)>,
}

impl Pod {
    /// Returns the number of a port, which a Service gives as number or name.
    pub fn port(&self, target: &str) -> Option<u16> {
        let named = || self.ports.iter().find(|(name, _)| name == target).map(|(_, number)| *number);
        target.parse().ok().or_else(named)
    }
}

/// A workload, which creates pods.
#[derive(Debug, Clone, Default)]
pub struct Workload {
    /// `Deployment` or `StatefulSet`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The number of replicas.
    pub replicas: i32,
}

/// A policy: an object of Istio, or a NetworkPolicy.
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
    /// Whether it applies to a pod in a namespace. Objects in the mesh's root namespace apply to all namespaces.
    pub fn is_about(&self, namespace: &str, pod: &Pod) -> bool {
        (self.namespace == namespace || self.namespace == crate::cluster::mesh::ISTIO_NAMESPACE)
            && self.selects(pod)
    }

    /// Whether its selector, if it has one, matches a pod.
    pub fn selects(&self, pod: &Pod) -> bool {
        self.selector()
            .into_iter()
            .flatten()
            .all(|(key, value)| pod.labels.get(key).map(String::as_str) == value.as_str())
    }

    /// Returns its selector; none if it applies to its whole namespace.
    pub fn selector(&self) -> Option<&serde_json::Map<String, Value>> {
        self.spec.pointer("/selector/matchLabels").and_then(Value::as_object).filter(|labels| !labels.is_empty())
    }
}

/// The configuration of the caller's proxy.
#[derive(Debug, Clone, Default)]
pub struct Proxy {
    /// Its HTTP route for the host and port.
    pub route: Option<Route>,
    /// For other than HTTP: the addresses of its TCP listeners on the port, each with where it forwards connections.
    pub listeners: Vec<(String, Route)>,
    /// Its Envoy clusters, each with its TLS setting.
    pub clusters: BTreeMap<String, Transport>,
    /// The Envoy clusters that forward connections to the address that the client connects to: those of headless Services.
    pub passes_through: BTreeSet<String>,
    /// The percentage of endpoints that outlier detection may eject, for each Envoy cluster that has outlier detection.
    pub ejectable: BTreeMap<String, u64>,
    /// The endpoints of each Envoy cluster, with their health as Envoy prints it.
    pub endpoints: BTreeMap<String, Vec<(String, String)>>,
}

/// What a client got on a new connection to which it sent nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// The server's first bytes, as text.
    Bytes(String),
    /// Nothing for a while; the connection stayed open.
    Nothing,
    /// The connection was closed.
    Closed,
    /// No connection: the reason.
    Refused(String),
}

/// The trial of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trial {
    /// A TCP connection from the caller's pod, through its proxy.
    Tcp(Heard),
    /// A gRPC call: the cluster that answered.
    Answered(String),
    /// A gRPC call that failed: the reason.
    Failed(String),
    /// None: the reason.
    None(String),
}

impl Caller {
    /// Returns its label `app`; empty if it has none.
    pub fn app(&self) -> &str {
        self.labels.get("app").map(String::as_str).unwrap_or_default()
    }
}

impl Cluster {
    /// Returns the port of its Service with this number.
    pub fn port(&self, number: u16) -> Option<&Port> {
        self.service.as_ref()?.ports.iter().find(|port| port.number == number)
    }
}

impl Facts {
    /// Returns the caller's cluster.
    pub fn here(&self) -> Option<&Cluster> {
        self.clusters.first()
    }

    /// Returns the cluster whose Service the name resolves to: the caller's own, or another one if the caller's proxy answers
    /// DNS queries.
    pub fn named(&self) -> Option<&Cluster> {
        let captures = self.caller.as_ref().is_some_and(|caller| caller.captures_dns);
        let known = self.clusters.iter().take(if captures { usize::MAX } else { 1 });
        known.into_iter().find(|cluster| cluster.service.is_some())
    }

    /// Returns the target of a call to another Service: the same protocol and port.
    pub fn target_at(&self, host: &str) -> String {
        let scheme = match (self.call.as_declared, self.call.speaks) {
            (true, _) => "",
            (_, Speaks::Http) => "http://",
            (_, Speaks::Grpc) => "grpc://",
            (_, Speaks::Tcp) => "tcp://",
        };
        format!("{scheme}{host}:{}", self.call.port)
    }

    /// Returns the Service's full name.
    pub fn host(&self) -> String {
        format!("{}.{}.svc.cluster.local", self.call.name, self.call.service_namespace)
    }

    /// Returns the ready pods of clusters that have the Service, each with its cluster.
    pub fn ready(&self) -> Vec<(&Cluster, &Pod)> {
        let served = self.clusters.iter().filter(|cluster| cluster.service.is_some());
        served
            .flat_map(|cluster| cluster.pods.iter().filter(|pod| pod.ready).map(move |pod| (cluster, pod)))
            .collect()
    }

    /// Returns the clusters that have the Service and ready pods.
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
        cluster.name == self.control_plane || self.synced.as_ref().is_none_or(synced)
    }

    /// Returns the start of a kubectl command for the Service's namespace in a cluster.
    pub fn kubectl(&self, cluster: &Cluster) -> String {
        format!("kubectl --context {} -n {}", cluster.context, self.call.service_namespace)
    }

    /// Returns a kindmesh command for this environment.
    pub fn kindmesh(&self, command: &str) -> String {
        match self.environment.as_str() {
            "kindmesh" => format!("kindmesh {command}"),
            name => format!("kindmesh {command} --name {name}"),
        }
    }
}

/// Joins words: `one`, `one and two`, `one, two and three`.
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
