//! Decides the clusters of each object: a pure function of the manifests and the placement rules.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;
use kube::api::DynamicObject;
use serde::Serialize;
use serde_json::Value;

use super::manifests::{self, CLUSTERS, Manifest};
use crate::base::error::Error;
use crate::base::yaml::{Places, pointer};
use crate::cluster::mesh::apply::kind;

/// What decided an object's clusters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum By {
    /// `--to`.
    To,
    /// The object's annotation.
    Annotation,
    /// The entry of this name in the spec's `deploy`.
    Spec(String),
    /// The pods that it refers to: it is applied in their clusters.
    Pods,
}

/// An object with its clusters.
#[derive(Debug, Clone)]
pub struct Placed {
    /// The object, with its namespace.
    pub object: DynamicObject,
    /// Its clusters, in the order of the spec.
    pub clusters: Vec<String>,
    /// What decided them.
    pub by: By,
    /// Where it was read.
    pub source: Source,
}

/// Where an object was read.
#[derive(Debug, Clone, Default)]
pub struct Source {
    file: String,
    places: Places,
}

impl Source {
    /// Creates the source of an object of a file.
    pub fn of(file: impl Into<String>, places: Places) -> Self {
        Self { file: file.into(), places }
    }

    /// Returns the file and the position of a field, by its JSON pointer; none for an object that was not read.
    pub fn at(&self, pointer: &str) -> Option<String> {
        (!self.file.is_empty()).then(|| manifests::at(&self.file, &self.places, pointer))
    }
}

/// The placement rules.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// The cluster for all objects; overrides everything else.
    pub to: Option<&'a str>,
    /// The spec's `deploy`: clusters by the name of an object, or of its application.
    pub spec: &'a BTreeMap<String, Vec<String>>,
    /// All clusters.
    pub clusters: &'a [String],
    /// The primary of each remote cluster: its istiod reads Istio's objects from the primary only.
    pub primaries: &'a BTreeMap<String, String>,
    /// The namespace of objects without one.
    pub namespace: &'a str,
    /// Whether it also replaces the namespace of objects that have one.
    pub force_namespace: bool,
}

/// Istio's kinds that take effect in the caller's cluster, which can be any of them.
const ROUTING: [&str; 3] = ["VirtualService", "DestinationRule", "ServiceEntry"];

/// The clusters that an object's annotation names.
pub(in crate::lifecycle) enum Named {
    /// All.
    All,
    /// These.
    These(Vec<String>),
}

/// Returns the clusters that an object's annotation names, if it has one.
pub(in crate::lifecycle) fn annotated(object: &DynamicObject) -> Option<Named> {
    let names = object.annotations().get(CLUSTERS)?;
    let names: Vec<String> = names.split(',').map(|name| name.trim().to_owned()).collect();
    Some(if names == ["*"] { Named::All } else { Named::These(names) })
}

/// Returns the entry of the spec's `deploy` for an object: by its name, or by that of its application. Routing, which often has the
/// name of the application that it leads to, takes effect in the callers' clusters, so there is no entry for it.
pub(in crate::lifecycle) fn entry<'a>(
    object: &DynamicObject,
    deploy: &'a BTreeMap<String, Vec<String>>,
) -> Option<(String, &'a Vec<String>)> {
    if ROUTING.contains(&kind(object)) {
        return None;
    }
    let labels = object.labels();
    let application = ["app.kubernetes.io/name", "app"].iter().filter_map(|key| labels.get(*key).cloned());
    let mut names = std::iter::once(object.name_any()).chain(application);
    names.find_map(|name| Some((name.clone(), deploy.get(&name)?)))
}

impl Rules<'_> {
    /// Returns the explicit placement of an object, if it has one.
    fn said(&self, manifest: &Manifest) -> Result<Option<(Vec<String>, By)>, Error> {
        let object = &manifest.object;
        if let Some(to) = self.to {
            return Ok(Some((vec![to.to_owned()], By::To)));
        }
        if let Some(named) = annotated(object) {
            return Ok(Some((self.named(named, manifest)?, By::Annotation)));
        }
        let of_spec = entry(object, self.spec);
        Ok(of_spec.map(|(name, clusters)| (self.ordered(clusters), By::Spec(name))))
    }

    fn named(&self, named: Named, manifest: &Manifest) -> Result<Vec<String>, Error> {
        let Named::These(names) = named else { return Ok(self.clusters.to_vec()) };
        match names.iter().find(|name| !self.clusters.contains(name)) {
            None => Ok(self.ordered(&names)),
            Some(unknown) => Err(Error::usage(format!(
                "{}: annotation {CLUSTERS} of {} {} has unknown cluster \"{unknown}\"",
                manifest.at(&pointer("/metadata/annotations", CLUSTERS)),
                kind(&manifest.object),
                manifest.object.name_any()
            ))
            .hint(format!("use one or more of {}, or \"*\" for all clusters", self.clusters.join(", ")))),
        }
    }

    fn ordered(&self, names: &[String]) -> Vec<String> {
        self.clusters.iter().filter(|cluster| names.contains(cluster)).cloned().collect()
    }

    /// Returns the clusters in which an object for these clusters takes effect: Istio's objects for a remote cluster in its primary.
    fn effective(&self, object: &DynamicObject, clusters: Vec<String>) -> Vec<String> {
        if !is_istios(object) {
            return clusters;
        }
        let primary = |cluster: String| self.primaries.get(&cluster).cloned().unwrap_or(cluster);
        let places: Vec<String> = clusters.into_iter().map(primary).collect();
        self.ordered(&places)
    }

    fn union<'a>(&self, sets: impl Iterator<Item = &'a Placed>) -> Vec<String> {
        let named: BTreeSet<&String> = sets.flat_map(|placed| &placed.clusters).collect();
        self.clusters.iter().filter(|cluster| named.contains(cluster)).cloned().collect()
    }
}

/// Decides the clusters of every object. Objects that create pods require `--to`, an annotation or the spec. The
/// others follow those pods: a Service follows the pods that it selects, other objects those of their namespace,
/// and routing and cluster-scoped objects all of them. Istio's objects for a remote cluster are placed in its primary.
///
/// # Errors
/// A usage error that names objects without a placement, and unknown clusters.
pub fn place(manifests: Vec<Manifest>, rules: &Rules<'_>) -> Result<Vec<Placed>, Error> {
    let mut placed = Vec::new();
    let mut rest = Vec::new();
    let mut nowhere = Vec::new();
    for mut manifest in manifests {
        let object = &mut manifest.object;
        if is_namespaced(object) && (rules.force_namespace || object.metadata.namespace.is_none()) {
            object.metadata.namespace = Some(rules.namespace.to_owned());
        }
        match rules.said(&manifest)? {
            Some((clusters, by)) => {
                let clusters = rules.effective(&manifest.object, clusters);
                placed.push(placed_as(manifest, clusters, by));
            }
            None if pod_spec(&manifest.object).is_some() => {
                nowhere.push(format!(
                    "{}: {} {}",
                    manifest.at(""),
                    kind(&manifest.object),
                    manifest.object.name_any()
                ));
            }
            None => rest.push(manifest),
        }
    }
    if !nowhere.is_empty() {
        let first = &rules.clusters[rules.clusters.len() - 1];
        return Err(Error::usage("no cluster set for these objects").evidence(nowhere.join("\n")).hint(format!(
            "annotate them with {CLUSTERS}: {first}; or set deploy: {{NAME: [{first}]}} in the spec; or use \
                    --to {first} for all"
        )));
    }
    let workloads: Vec<Placed> = placed.iter().filter(|p| pod_spec(&p.object).is_some()).cloned().collect();
    for manifest in rest {
        let object = &manifest.object;
        let clusters = rules.effective(object, follow(object, &workloads, rules));
        placed.push(placed_as(manifest, clusters, By::Pods));
    }
    Ok(placed)
}

fn placed_as(manifest: Manifest, clusters: Vec<String>, by: By) -> Placed {
    let Manifest { object, file, places } = manifest;
    Placed { object, clusters, by, source: Source::of(file, places) }
}

/// Whether istiod reads an object, which it does from its own cluster only.
fn is_istios(object: &DynamicObject) -> bool {
    let of = |group: &str| group.ends_with(".istio.io") || group == "gateway.networking.k8s.io";
    object.types.as_ref().and_then(|types| types.api_version.split_once('/')).is_some_and(|(group, _)| of(group))
}

/// Returns the clusters of the pods that an object refers to.
fn follow(object: &DynamicObject, workloads: &[Placed], rules: &Rules<'_>) -> Vec<String> {
    let namespace = object.namespace();
    let here = || workloads.iter().filter(|workload| workload.object.namespace() == namespace);
    let clusters = match kind(object) {
        "Service" if is_service(object) => {
            rules.union(here().filter(|workload| selects(object, &workload.object)))
        }
        "Namespace" => {
            let name = object.name_any();
            rules.union(workloads.iter().filter(|workload| workload.object.namespace().as_ref() == Some(&name)))
        }
        routing if ROUTING.contains(&routing) => rules.union(workloads.iter()),
        _ if namespace.is_none() => rules.union(workloads.iter()),
        _ => rules.union(here()),
    };
    // It refers to no object of these manifests, but to one that exists already or is applied later.
    if clusters.is_empty() { rules.clusters.to_vec() } else { clusters }
}

/// Whether an object is a Service of Kubernetes: Knative has another kind of this name.
pub fn is_service(object: &DynamicObject) -> bool {
    object.types.as_ref().is_some_and(|types| types.api_version == "v1" && types.kind == "Service")
}

/// Returns the clusters with pods that a Service selects.
pub fn served_in(service: &DynamicObject, placed: &[Placed], clusters: &[String]) -> Vec<String> {
    let namespace = service.namespace();
    let serves =
        |workload: &&Placed| workload.object.namespace() == namespace && selects(service, &workload.object);
    let found: BTreeSet<&String> = placed.iter().filter(serves).flat_map(|workload| &workload.clusters).collect();
    clusters.iter().filter(|cluster| found.contains(cluster)).cloned().collect()
}

/// Whether a Service selects the pods that an object creates.
pub fn selects(service: &DynamicObject, workload: &DynamicObject) -> bool {
    let Some(Value::Object(selector)) = service.data.pointer("/spec/selector") else { return false };
    let Some(labels) = pod_labels(workload) else { return false };
    let fits = |(key, value): (&String, &Value)| match key.as_str() {
        // Each pod of a StatefulSet gets a label with its own name.
        POD_NAME => value.as_str().is_some_and(|pod| is_pod_of(pod, workload)),
        _ => labels.get(key) == Some(value),
    };
    !selector.is_empty() && selector.iter().all(fits)
}

/// The label with the name of a pod of a StatefulSet.
pub const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";

/// Whether a StatefulSet creates a pod of this name.
fn is_pod_of(pod: &str, workload: &DynamicObject) -> bool {
    let number = |path: &str, default| workload.data.pointer(path).and_then(Value::as_u64).unwrap_or(default);
    let start = number("/spec/ordinals/start", 0);
    let ordinal = pod.rsplit_once('-').filter(|(name, _)| *name == workload.name_any());
    let ordinal = ordinal.and_then(|(_, ordinal)| ordinal.parse::<u64>().ok());
    kind(workload) == "StatefulSet"
        && ordinal.is_some_and(|ordinal| (start..start + number("/spec/replicas", 1)).contains(&ordinal))
}

/// Returns the labels of the pods that an object creates.
pub fn pod_labels(object: &DynamicObject) -> Option<Value> {
    match pod_template(object) {
        Some(path) => object.data.pointer(&format!("{path}/metadata/labels")).cloned(),
        None => serde_json::to_value(object.metadata.labels.as_ref()?).ok(),
    }
}

/// Returns the path of an object's pod template; none for a pod itself.
pub fn pod_template(object: &DynamicObject) -> Option<&'static str> {
    ["/spec/template", "/spec/jobTemplate/spec/template"]
        .into_iter()
        .find(|path| object.data.pointer(&format!("{path}/spec/containers")).is_some())
}

/// Returns the path of the pod spec, if an object is a pod or creates pods.
pub fn pod_spec(object: &DynamicObject) -> Option<String> {
    match pod_template(object) {
        Some(path) => Some(format!("{path}/spec")),
        None => (kind(object) == "Pod").then(|| "/spec".to_owned()),
    }
}

/// Whether an object is namespaced, according to a list of common kinds; the API server has the final say.
pub fn is_namespaced(object: &DynamicObject) -> bool {
    const CLUSTER_WIDE: [&str; 13] = [
        "Namespace",
        "ClusterRole",
        "ClusterRoleBinding",
        "CustomResourceDefinition",
        "PersistentVolume",
        "StorageClass",
        "PriorityClass",
        "IngressClass",
        "GatewayClass",
        "RuntimeClass",
        "MutatingWebhookConfiguration",
        "ValidatingWebhookConfiguration",
        "APIService",
    ];
    !CLUSTER_WIDE.contains(&kind(object))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::mesh::apply::objects;

    const APPLICATION: &str = "
{apiVersion: v1, kind: ServiceAccount, metadata: {name: orders}}
---
{apiVersion: v1, kind: Service, metadata: {name: orders}, spec: {selector: {app: orders}, ports: [{port: 80}]}}
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: orders, annotations: {kindmesh/clusters: cluster2}},
 spec: {template: {metadata: {labels: {app: orders}}, spec: {containers: [{name: a}]}}}}
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: front, labels: {app: checkout}},
 spec: {template: {metadata: {labels: {app: checkout}}, spec: {containers: [{name: a}]}}}}
---
{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: orders}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: shop}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: other, namespace: elsewhere}}
";

    fn manifests() -> Vec<Manifest> {
        let objects = objects(APPLICATION).unwrap().into_iter();
        objects.map(|object| Manifest { object, file: "a.yaml".into(), places: Places::default() }).collect()
    }

    fn placed(to: Option<&str>, spec: &[(&str, &[&str])]) -> Result<Vec<Placed>, Error> {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let spec = spec.iter().map(|(name, clusters)| ((*name).to_owned(), owned(clusters))).collect();
        let clusters = owned(&["cluster1", "cluster2", "cluster3"]);
        let primaries = BTreeMap::from([("cluster3".to_owned(), "cluster1".to_owned())]);
        let rules = Rules {
            to,
            spec: &spec,
            clusters: &clusters,
            primaries: &primaries,
            namespace: "shop",
            force_namespace: false,
        };
        place(manifests(), &rules)
    }

    #[test]
    fn istios_objects_for_a_remote_cluster_are_in_its_primary() {
        let placed = placed(None, &[("checkout", &["cluster3"])]).unwrap();
        let of = |wanted: &str| placed.iter().find(|p| kind(&p.object) == wanted).unwrap().clusters.join(" ");
        assert_eq!(of("VirtualService"), "cluster1 cluster2");
        assert_eq!(of("ServiceAccount"), "cluster2 cluster3");
        // Also if the remote cluster is named.
        let placed = self::placed(Some("cluster3"), &[]).unwrap();
        let of = |wanted: &str| placed.iter().find(|p| kind(&p.object) == wanted).unwrap().clusters.join(" ");
        assert_eq!((of("VirtualService").as_str(), of("Service").as_str()), ("cluster1", "cluster3"));
    }

    #[test]
    fn pods_are_placed_and_other_objects_follow() {
        let placed = placed(None, &[("checkout", &["cluster1"])]).unwrap();
        let of = |wanted: &str, name: &str| {
            let found = placed.iter().find(|p| kind(&p.object) == wanted && p.object.name_any() == name).unwrap();
            (found.clusters.join(" "), found.by.clone())
        };
        assert_eq!(of("Deployment", "orders"), ("cluster2".into(), By::Annotation));
        assert_eq!(of("Deployment", "front"), ("cluster1".into(), By::Spec("checkout".into())));
        assert_eq!(of("Service", "orders"), ("cluster2".into(), By::Pods));
        for (kind, name) in [("ServiceAccount", "orders"), ("VirtualService", "orders"), ("Namespace", "shop")] {
            assert_eq!(of(kind, name), ("cluster1 cluster2".into(), By::Pods), "{kind}");
        }
        assert_eq!(of("ConfigMap", "other").0, "cluster1 cluster2 cluster3");
        assert!(placed.iter().all(|p| p.object.namespace().is_some() || kind(&p.object) == "Namespace"));
    }

    #[test]
    fn service_of_a_single_pod_follows_its_stateful_set() {
        let set = "{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: db, namespace: shop}, spec: {replicas: 2, \
            template: {metadata: {labels: {app: db}}, spec: {containers: [{name: a}]}}}}";
        let set = objects(set).unwrap().remove(0);
        let selected = |selector: &str| {
            let yaml = format!(
                "{{apiVersion: v1, kind: Service, metadata: {{name: a, namespace: shop}}, spec: {{selector: {selector}}}}}"
            );
            selects(&objects(&yaml).unwrap()[0], &set)
        };
        for (selector, fits) in [
            ("{statefulset.kubernetes.io/pod-name: db-1}", true),
            ("{statefulset.kubernetes.io/pod-name: db-1, app: db}", true),
            ("{statefulset.kubernetes.io/pod-name: db-2}", false),
            ("{statefulset.kubernetes.io/pod-name: web-1}", false),
            ("{statefulset.kubernetes.io/pod-name: db-1, app: web}", false),
        ] {
            assert_eq!(selected(selector), fits, "{selector}");
        }
    }

    #[test]
    fn to_flag_overrides_placement() {
        let placed = placed(Some("cluster2"), &[("orders", &["cluster1"])]).unwrap();
        assert!(placed.iter().all(|placed| placed.clusters == ["cluster2"] && placed.by == By::To));
    }

    #[test]
    fn unplaced_objects_are_named_with_options() {
        let error = placed(None, &[]).unwrap_err();
        assert_eq!(error.evidence, ["a.yaml: Deployment front"]);
        let hint = error.hint.unwrap();
        assert!(["--to", CLUSTERS, "deploy:"].iter().all(|way| hint.contains(way)), "{hint}");
    }

    #[test]
    fn unknown_cluster_is_an_error() {
        let mut manifests = manifests();
        manifests[2].object.annotations_mut().insert(CLUSTERS.into(), "cluster2, west".into());
        let (spec, clusters) = (BTreeMap::new(), vec!["cluster1".to_owned(), "cluster2".to_owned()]);
        let primaries = BTreeMap::new();
        let rules = Rules {
            to: None,
            spec: &spec,
            clusters: &clusters,
            primaries: &primaries,
            namespace: "a",
            force_namespace: false,
        };
        let error = place(manifests, &rules).unwrap_err();
        assert!(error.message.contains("\"west\"") && error.message.starts_with("a.yaml"), "{}", error.message);
    }
}
