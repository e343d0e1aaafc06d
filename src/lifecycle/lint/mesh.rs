//! The objects of the manifests, and what they refer to.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::Value;

use crate::base::names::ISTIO_NAMESPACE;
use crate::cluster::mesh::apply::kind;
use crate::lifecycle::deploy::place::{self, Placed, pod_labels, pod_spec};

/// The namespace of the control plane, whose policies apply to the whole mesh.
pub(super) const ROOT_NAMESPACE: &str = ISTIO_NAMESPACE;

/// The clusters that get an object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Clusters {
    /// Not known: there may be others beside the one.
    #[default]
    Unknown,
    /// These.
    In(BTreeSet<String>),
    /// All of an unknown number.
    All,
}

/// An object of the manifests.
#[derive(Debug, Clone)]
pub struct Source {
    /// The object, with its namespace.
    pub object: DynamicObject,
    /// The directory or file that it was read from, as a number. Objects of the same kind and name in one are variants, of which
    /// only one is applied; in different ones they are in different clusters.
    pub folder: usize,
    /// Its clusters.
    pub clusters: Clusters,
}

impl Source {
    /// Returns an object that `deploy` has placed.
    pub fn of_placed(placed: &Placed) -> Self {
        let clusters = Clusters::In(placed.clusters.iter().cloned().collect());
        Self { object: placed.object.clone(), folder: 0, clusters }
    }

    pub(super) fn kind(&self) -> &str {
        kind(&self.object)
    }

    pub(super) fn name(&self) -> String {
        self.object.name_any()
    }

    pub(super) fn namespace(&self) -> String {
        self.object.namespace().unwrap_or_default()
    }

    pub(super) fn spec(&self) -> &Value {
        &self.object.data["spec"]
    }

    /// Returns a field of its spec as a list; nothing if it is none.
    pub(super) fn list(&self, field: &str) -> &[Value] {
        list(&self.spec()[field])
    }

    fn same_as(&self, other: &Self) -> bool {
        self.kind() == other.kind() && self.name() == other.name() && self.namespace() == other.namespace()
    }
}

/// Returns a value as a list; nothing if it is none.
pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// What a host in an object of Istio names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Host {
    /// A Service.
    Service { name: String, namespace: String },
    /// A shortened name of a Service, such as `orders.shop`. Istio completes only names without a dot.
    Shortened { name: String, namespace: String },
    /// Anything else: a wildcard, an address, or a name outside of the cluster.
    Other,
}

impl Host {
    /// Reads a host in an object of a namespace.
    pub(super) fn of(host: &str, namespace: &str) -> Self {
        let parts: Vec<&str> = host.split('.').collect();
        let owned = |name: &str, namespace: &str| (name.to_owned(), namespace.to_owned());
        if host.contains('*') || parts.iter().any(|part| part.is_empty()) {
            return Self::Other;
        }
        match parts.as_slice() {
            [name] => {
                let (name, namespace) = owned(name, namespace);
                Self::Service { name, namespace }
            }
            [name, namespace, "svc", "cluster", "local"] => {
                let (name, namespace) = owned(name, namespace);
                Self::Service { name, namespace }
            }
            [name, namespace] | [name, namespace, "svc"] | [name, namespace, "svc", "cluster"] => {
                let (name, namespace) = owned(name, namespace);
                Self::Shortened { name, namespace }
            }
            _ => Self::Other,
        }
    }
}

/// All objects of the manifests.
#[derive(Debug, Clone, Copy)]
pub struct Mesh<'a>(pub &'a [Source]);

impl<'a> Mesh<'a> {
    /// Returns the objects of a kind, with their numbers.
    pub(super) fn of(self, kind: &'static str) -> impl Iterator<Item = (usize, &'a Source)> {
        self.0.iter().enumerate().filter(move |(_, source)| source.kind() == kind)
    }

    /// Returns Istio's objects of a kind: other API groups have kinds of the same name.
    pub(super) fn of_istio(self, kind: &'static str) -> impl Iterator<Item = (usize, &'a Source)> {
        let is_istios = |source: &Source| {
            source.object.types.as_ref().is_some_and(|types| types.api_version.contains(".istio.io/"))
        };
        self.of(kind).filter(move |(_, source)| is_istios(source))
    }

    /// Returns the Services of a name: one in each cluster, or variants.
    pub(super) fn services(self, name: &str, namespace: &str) -> Vec<&'a Source> {
        let found = self.of("Service").map(|(_, source)| source);
        found.filter(|source| source.name() == name && source.namespace() == namespace).collect()
    }

    /// Returns the Services that a host names, if it names any.
    pub(super) fn services_of(self, host: &str, from: &Source) -> Vec<&'a Source> {
        match Host::of(host, &from.namespace()) {
            Host::Service { name, namespace } => self.services(&name, &namespace),
            _ => Vec::new(),
        }
    }

    /// Whether a ServiceEntry defines a host.
    pub(super) fn has_entry(self, host: &str) -> bool {
        self.of_istio("ServiceEntry").any(|(_, entry)| {
            entry
                .list("hosts")
                .iter()
                .filter_map(Value::as_str)
                .any(|known| known == host || known.strip_prefix('*').is_some_and(|end| host.ends_with(end)))
        })
    }

    /// Returns the objects that create pods.
    pub(super) fn workloads(self) -> impl Iterator<Item = &'a Source> {
        self.0.iter().filter(|source| pod_spec(&source.object).is_some())
    }

    /// Returns the objects that create pods in a namespace.
    pub(super) fn workloads_in(self, namespace: &str) -> Vec<&'a Source> {
        self.workloads().filter(|workload| workload.namespace() == namespace).collect()
    }

    /// Returns the objects whose pods a Service selects.
    pub(super) fn behind(self, services: &[&Source]) -> Vec<&'a Source> {
        let selected = |workload: &&Source| {
            services.iter().any(|service| {
                service.namespace() == workload.namespace() && place::selects(&service.object, &workload.object)
            })
        };
        self.workloads().filter(selected).collect()
    }

    /// Returns the number of pods of workloads in all clusters; none if it is not known.
    pub(super) fn pods(self, workloads: &[&Source]) -> Option<u64> {
        let mut counts: BTreeMap<(usize, String, String), u64> = BTreeMap::new();
        for workload in workloads {
            let clusters = match &workload.clusters {
                Clusters::Unknown => 1,
                Clusters::In(clusters) => u64::try_from(clusters.len()).ok()?.max(1),
                Clusters::All => return None,
            };
            let key = (workload.folder, workload.kind().to_owned(), workload.name());
            let count = counts.entry(key).or_default();
            *count = (*count).max(self.replicas(workload)? * clusters);
        }
        Some(counts.values().sum())
    }

    /// Returns the most pods that a workload has in a cluster; none if that depends on something else.
    fn replicas(self, workload: &Source) -> Option<u64> {
        match workload.kind() {
            "Pod" => return Some(1),
            "Deployment" | "StatefulSet" | "ReplicaSet" | "Rollout" => {}
            _ => return None,
        }
        let scales = |scaler: &Source| {
            let target = &scaler.spec()["scaleTargetRef"];
            scaler.namespace() == workload.namespace() && target["name"] == workload.name()
        };
        if self.of("ScaledObject").any(|(_, scaler)| scales(scaler)) {
            return None;
        }
        let scaled = self.of("HorizontalPodAutoscaler").filter(|(_, scaler)| scales(scaler));
        let scaled = scaled.map(|(_, scaler)| scaler.spec()["maxReplicas"].as_u64().unwrap_or(u64::MAX)).max();
        // A variant of the workload, such as a patch, may have only this field.
        let variants = self.0.iter().filter(|other| other.same_as(workload) && other.folder == workload.folder);
        let replicas = variants.map(|variant| variant.spec()["replicas"].as_u64().unwrap_or(1)).max();
        match scaled {
            Some(u64::MAX) => None,
            Some(scaled) => Some(scaled.max(replicas.unwrap_or(1))),
            None => replicas,
        }
    }
}

/// Whether labels contain all of these; a selector without any matches everything.
pub(super) fn matches(wanted: &Value, labels: &Value) -> bool {
    wanted.as_object().into_iter().flatten().all(|(key, value)| labels.get(key) == Some(value))
}

/// Returns the labels of a workload's pods.
pub(super) fn labels(workload: &Source) -> Value {
    pod_labels(&workload.object).unwrap_or_default()
}

/// Formats labels as `kubectl` takes them: `app=orders,version=v1`.
pub(super) fn shown(labels: &Value) -> String {
    let pairs = labels.as_object().into_iter().flatten();
    let pairs = pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    pairs.collect::<Vec<_>>().join(",")
}

/// Formats workloads with their namespaces left out: `Deployment orders, Deployment orders-v2`.
pub(super) fn named(workloads: &[&Source]) -> String {
    let names: BTreeSet<String> =
        workloads.iter().map(|workload| format!("{} {}", workload.kind(), workload.name())).collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::testing::sources;
    use super::*;

    #[test]
    fn only_names_without_a_dot_are_completed() {
        let service =
            |name: &str, namespace: &str| Host::Service { name: name.into(), namespace: namespace.into() };
        assert_eq!(Host::of("orders", "shop"), service("orders", "shop"));
        assert_eq!(Host::of("orders.other.svc.cluster.local", "shop"), service("orders", "other"));
        for shortened in ["orders.other", "orders.other.svc"] {
            assert!(matches!(Host::of(shortened, "shop"), Host::Shortened { .. }), "{shortened}");
        }
        for other in ["*", "*.local", "api.example.com", "a..b", "orders.shop.svc.example.org"] {
            assert_eq!(Host::of(other, "shop"), Host::Other, "{other}");
        }
    }

    #[test]
    fn pods_are_counted_in_all_clusters() {
        let count = |yaml: &str| {
            let sources = sources(yaml);
            let mesh = Mesh(&sources);
            mesh.pods(&mesh.workloads().collect::<Vec<_>>())
        };
        let pod = "template: {metadata: {labels: {app: a}}, spec: {containers: [{name: a}]}}";
        let deployment = |fields: &str, annotations: &str| {
            format!(
                "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: a, annotations: {{{annotations}}}}}, \
                    spec: {{{fields} {pod}}}}}\n"
            )
        };
        assert_eq!(count(&deployment("", "")), Some(1));
        assert_eq!(count(&deployment("replicas: 3,", "kindmesh/clusters: \"a, b\"")), Some(6));
        assert_eq!(count(&deployment("", "kindmesh/clusters: \"*\"")), None);
        let scaler = "---\n{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: x}, \
            spec: {scaleTargetRef: {kind: Deployment, name: a}, maxReplicas: 20}}\n";
        assert_eq!(count(&(deployment("replicas: 3,", "") + scaler)), Some(20));
        let patch = "---\n{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}, spec: {replicas: 12}}\n";
        assert_eq!(count(&(deployment("replicas: 3,", "") + patch)), Some(12));
        let daemon = deployment("", "").replace("kind: Deployment", "kind: DaemonSet");
        assert_eq!(count(&daemon), None);
    }

    #[test]
    fn hosts_of_service_entries_may_have_a_wildcard() {
        let sources = sources(
            "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: a}, \
                spec: {hosts: [\"*.example.com\", a.test]}}",
        );
        let mesh = Mesh(&sources);
        assert!(mesh.has_entry("api.example.com") && mesh.has_entry("a.test") && !mesh.has_entry("b.test"));
    }
}
