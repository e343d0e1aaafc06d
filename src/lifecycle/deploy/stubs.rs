//! Stub Services: a name resolves only in clusters with a Service of that name. A Service whose pods run in other clusters gets one
//! without pods wherever other pods of the deployment run, since programs may call it by a name that no manifest contains. A
//! Service that exists already gets one where an object refers to it. A pure function decides which ones, and why.

use std::collections::BTreeMap;

use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::headless::{self, Names, is_headless};
use super::place::{self, By, Placed, pod_spec, served_in};
use super::references::{alias_of, references};
use crate::plan::{MANAGED_BY, MANAGED_BY_LABEL};

/// The label of a stub.
pub const STUB: &str = "kindmesh/stub";
/// The annotation with the reason for a stub.
pub const BECAUSE: &str = "kindmesh/because";
/// The annotation of a Service with the clusters that get a stub, separated by commas, where no object refers to it: `*` means all
/// clusters, and an empty value none. Without it, those with pods of the deployment do.
pub const STUB_IN: &str = "kindmesh/stub-in";

/// A Service to create in a cluster without its pods.
#[derive(Debug, Clone)]
pub struct Stub {
    /// The cluster to create it in.
    pub cluster: String,
    /// The Service.
    pub object: DynamicObject,
    /// The clusters of its pods.
    pub served_in: Vec<String>,
    /// What refers to it, and where.
    pub because: String,
}

/// A Service whose name other clusters may need.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The Service.
    pub object: DynamicObject,
    /// The clusters of its pods.
    pub served_in: Vec<String>,
    /// The clusters that have a Service of that name, or will have one.
    pub there_in: Vec<String>,
}

/// Returns the Services of the manifests, and those that exist in the clusters. The keys of `live` are clusters.
pub fn candidates(
    placed: &[Placed],
    live: &BTreeMap<String, Vec<DynamicObject>>,
    clusters: &[String],
) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    for service in placed.iter().filter(|placed| place::is_service(&placed.object)) {
        candidates.push(Candidate {
            object: service.object.clone(),
            served_in: served_in(&service.object, placed, clusters),
            there_in: service.clusters.clone(),
        });
    }
    for cluster in clusters {
        for service in live.get(cluster).into_iter().flatten() {
            if service.labels().contains_key(STUB) {
                continue;
            }
            match candidates.iter_mut().find(|candidate| same(&candidate.object, service)) {
                Some(known) if known.there_in.contains(cluster) => {}
                Some(known) => {
                    // For Services in the manifests, the manifests decide where the pods are.
                    if !is_placed(placed, &known.object) && alias_of(service).is_none() {
                        known.served_in.push(cluster.clone());
                    }
                    known.there_in.push(cluster.clone());
                }
                None => candidates.push(Candidate {
                    object: service.clone(),
                    // An alias has no pods.
                    served_in: alias_of(service).map_or_else(|| vec![cluster.clone()], |_| Vec::new()),
                    there_in: vec![cluster.clone()],
                }),
            }
        }
    }
    candidates
}

fn same(one: &DynamicObject, other: &DynamicObject) -> bool {
    one.name_any() == other.name_any() && one.namespace() == other.namespace()
}

/// Whether the manifests contain a Service.
fn is_placed(placed: &[Placed], service: &DynamicObject) -> bool {
    placed.iter().any(|placed| place::is_service(&placed.object) && same(&placed.object, service))
}

/// Returns the stubs that the placed objects need, and notes.
pub fn stubs(
    placed: &[Placed],
    candidates: &[Candidate],
    clusters: &[String],
    resolved: &Names,
) -> (Vec<Stub>, Vec<String>) {
    let (mut stubs, mut notes) = (Vec::new(), Vec::new());
    // Aliases first: what they are of needs a stub in the same cluster.
    let mut placed = placed.to_vec();
    for alias in candidates.iter().filter(|candidate| alias_of(&candidate.object).is_some()) {
        for cluster in clusters.iter().filter(|cluster| !alias.there_in.contains(cluster)) {
            let Some(because) = reason(&placed, &alias.object, cluster, alias) else { continue };
            let object = stub(&alias.object, &because);
            let clusters = vec![cluster.clone()];
            placed.push(Placed { object: object.clone(), clusters, by: By::Pods, source: Default::default() });
            stubs.push(Stub { cluster: cluster.clone(), object, served_in: Vec::new(), because });
        }
    }
    let placed = placed.as_slice();
    for candidate in candidates.iter().filter(|candidate| alias_of(&candidate.object).is_none()) {
        let service = &candidate.object;
        for cluster in clusters.iter().filter(|cluster| !candidate.there_in.contains(cluster)) {
            let Some(because) = reason(placed, service, cluster, candidate) else { continue };
            if is_headless(service) {
                // A Service with a cluster IP would hide the names of the pods, which the proxies resolve.
                if resolved.reach(cluster, &candidate.served_in) {
                    continue;
                }
                // Only a headless Service may have no ports.
                if service.data.pointer("/spec/ports").and_then(Value::as_array).is_none_or(Vec::is_empty) {
                    notes.push(format!(
                        "{} has no ports: no stub Service created in {cluster}",
                        service.name_any()
                    ));
                    continue;
                }
                notes.push(headless::stub_note(service, cluster, &candidate.served_in));
            }
            stubs.push(Stub {
                cluster: cluster.clone(),
                object: stub(service, &because),
                served_in: candidate.served_in.clone(),
                because,
            });
        }
    }
    for candidate in candidates.iter().filter(|candidate| is_placed(placed, &candidate.object)) {
        notes.extend(headless::notes(placed, (&candidate.object, &candidate.served_in), clusters, resolved));
    }
    (stubs, notes)
}

/// Whether pods of the deployment run in a cluster.
fn runs_in(placed: &[Placed], cluster: &str) -> bool {
    let mut runs = placed.iter().filter(|placed| pod_spec(&placed.object).is_some());
    runs.any(|placed| placed.clusters.iter().any(|there| there == cluster))
}

/// Returns why a cluster needs a Service, if it does.
fn reason(placed: &[Placed], service: &DynamicObject, cluster: &str, candidate: &Candidate) -> Option<String> {
    let elsewhere = candidate.served_in.join(" and ");
    if let Some(named) = names(placed, service, cluster) {
        return Some(match elsewhere.is_empty() {
            true => named,
            false => format!("{named}, whose pods are in {elsewhere}"),
        });
    }
    // Services of other deployments have the stubs that they ask for, or are being deleted with them.
    if !is_placed(placed, service) {
        return None;
    }
    match service.annotations().get(STUB_IN) {
        Some(asked) => {
            let asked = asked.trim() == "*" || asked.split(',').any(|name| name.trim() == cluster);
            asked.then(|| format!("its annotation {STUB_IN} requests it"))
        }
        None => (!elsewhere.is_empty() && runs_in(placed, cluster))
            .then(|| format!("its pods are in {elsewhere}, and others may call it from {cluster}")),
    }
}

/// Returns what refers to a Service in a cluster.
fn names(placed: &[Placed], service: &DynamicObject, cluster: &str) -> Option<String> {
    let found = references(placed, cluster, |host, from| is_service(host, service, from).then_some(()));
    found.map(|((), because)| because)
}

/// Whether a host is the name of a Service, for an object in a namespace.
pub(in crate::lifecycle) fn is_service(host: &str, service: &DynamicObject, from: Option<&str>) -> bool {
    let (name, namespace) = (service.name_any(), service.namespace().unwrap_or_default());
    let long = host.strip_suffix(".cluster.local").unwrap_or(host);
    let long = long.strip_suffix(".svc").unwrap_or(long);
    long == format!("{name}.{namespace}") || (host == name && from == Some(&namespace))
}

/// The prefix of the labels and annotations by which istiod treats a Service. It takes those of the caller's cluster first.
const ISTIO_PREFIX: &str = "networking.istio.io/";

/// Returns the stub of a Service: its ports, selector and how traffic is spread, or the host that it is an alias of, without cluster-specific fields.
fn stub(service: &DynamicObject, because: &str) -> DynamicObject {
    let mut ports = service.data["spec"]["ports"].clone();
    for port in ports.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        port.remove("nodePort");
    }
    let mut spec = match alias_of(service) {
        Some(host) => json!({"type": "ExternalName", "externalName": host}),
        None => json!({"ports": ports}),
    };
    if let Some(selector) = service.data.pointer("/spec/selector").filter(|selector| !selector.is_null()) {
        spec["selector"] = selector.clone();
    }
    if let Some(distribution) = service.data.pointer("/spec/trafficDistribution") {
        spec["trafficDistribution"] = distribution.clone();
    }
    let mut object = service.clone();
    let of_istio = |map: &BTreeMap<String, String>| {
        let own = map.iter().filter(|(key, _)| key.starts_with(ISTIO_PREFIX));
        own.map(|(key, value)| (key.clone(), value.clone())).collect::<BTreeMap<_, _>>()
    };
    let (labels, annotations) = (of_istio(service.labels()), of_istio(service.annotations()));
    let (name, namespace) = (service.name_any(), service.namespace());
    object.metadata = Default::default();
    object.metadata.name = Some(name);
    object.metadata.namespace = namespace;
    object.metadata.labels = Some(labels);
    object.metadata.annotations = Some(annotations);
    object.data = json!({"spec": spec});
    object.labels_mut().insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
    object.labels_mut().insert(STUB.to_owned(), "true".to_owned());
    object.annotations_mut().insert(BECAUSE.to_owned(), because.to_owned());
    object
}

#[cfg(test)]
mod tests {
    use super::super::references::hosts;
    use super::*;
    use crate::cluster::mesh::apply::objects;

    fn placed(yaml: &str, cluster: &str) -> Placed {
        let object = objects(yaml).unwrap().remove(0);
        Placed { object, clusters: vec![cluster.into()], by: By::Annotation, source: Default::default() }
    }

    fn service() -> Placed {
        placed(
            "{apiVersion: v1, kind: Service, metadata: {name: orders, namespace: shop}, spec: {clusterIP: 10.0.0.1, type: \
             NodePort, selector: {app: orders}, ports: [{name: http, port: 8080, nodePort: 30000}]}}",
            "cluster2",
        )
    }

    fn orders() -> Placed {
        placed(
            "{apiVersion: apps/v1, kind: Deployment, metadata: {name: orders, namespace: shop}, spec: {template: {metadata: \
             {labels: {app: orders}}, spec: {containers: [{name: a}]}}}}",
            "cluster2",
        )
    }

    fn caller(env: &str) -> Placed {
        placed(
            &format!(
                "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: checkout, namespace: shop}}, spec: {{template: \
                 {{spec: {{containers: [{{name: a, env: [{{name: ORDERS_URL, value: \"{env}\"}}]}}]}}}}}}}}"
            ),
            "cluster1",
        )
    }

    fn made(placed: &[Placed], live: &BTreeMap<String, Vec<DynamicObject>>) -> (Vec<Stub>, Vec<String>) {
        let clusters = ["cluster1".to_owned(), "cluster2".to_owned()];
        stubs(placed, &candidates(placed, live, &clusters), &clusters, &Names::default())
    }

    fn mentions(text: &str, service: &DynamicObject, from: Option<&str>) -> bool {
        hosts(text).any(|host| is_service(host, service, from))
    }

    #[test]
    fn referenced_service_gets_a_stub_with_its_reason() {
        let (stubs, notes) = made(&[service(), orders(), caller("http://orders:8080/v1")], &BTreeMap::new());
        assert_eq!((stubs.len(), notes.len()), (1, 0));
        assert_eq!(stubs[0].cluster, "cluster1");
        let because = "Deployment checkout in cluster1 refers to http://orders:8080/v1 (ORDERS_URL), whose pods are in cluster2";
        assert_eq!(stubs[0].because, because);
        let spec = json!({"ports": [{"name": "http", "port": 8080}], "selector": {"app": "orders"}});
        assert_eq!(stubs[0].object.data, json!({"spec": spec}));
        assert_eq!(stubs[0].object.labels()[MANAGED_BY_LABEL], MANAGED_BY);
    }

    #[test]
    fn unreferenced_service_gets_a_stub_where_other_pods_run() {
        let caller = || caller("http://payments:8080");
        let (stubs, notes) = made(&[service(), orders(), caller()], &BTreeMap::new());
        assert_eq!((stubs[0].cluster.as_str(), notes.len()), ("cluster1", 0));
        assert_eq!(stubs[0].because, "its pods are in cluster2, and others may call it from cluster1");
        // Without pods in cluster1, nothing there calls it.
        assert!(made(&[service(), orders()], &BTreeMap::new()).0.is_empty());
        let with = |annotation: &str, placed: &[Placed]| {
            let mut service = service();
            service.object.annotations_mut().insert(STUB_IN.into(), annotation.into());
            made(&[&[service], placed].concat(), &BTreeMap::new()).0.len()
        };
        assert_eq!(with("*", &[orders()]), 1);
        assert_eq!(with("cluster1", &[orders()]), 1);
        assert_eq!(with("", &[orders(), caller()]), 0);
        assert_eq!(with("cluster2", &[orders(), caller()]), 0);
    }

    #[test]
    fn existing_service_counts_for_stubs() {
        let live = BTreeMap::from([("cluster2".to_owned(), vec![service().object])]);
        let (stubs, _) = made(&[caller("orders:8080")], &live);
        assert_eq!((stubs[0].cluster.as_str(), stubs[0].served_in.join("")), ("cluster1", "cluster2".into()));
        let mut there = live.clone();
        there.insert("cluster1".into(), vec![service().object]);
        assert!(made(&[caller("orders:8080")], &there).0.is_empty());
    }

    fn alias(cluster: &str) -> Placed {
        placed(
            "{apiVersion: v1, kind: Service, metadata: {name: pay, namespace: shop}, spec: {type: ExternalName, externalName: \
             orders.shop.svc.cluster.local}}",
            cluster,
        )
    }

    #[test]
    fn alias_gets_a_stub_and_so_does_what_it_is_of() {
        let shop = [service(), orders(), alias("cluster2"), caller("http://pay:8080")];
        let (stubs, notes) = made(&shop, &BTreeMap::new());
        assert_eq!(notes, [""; 0]);
        let names: Vec<_> = stubs.iter().map(|stub| (stub.object.name_any(), stub.cluster.as_str())).collect();
        assert_eq!(names, [("pay".to_owned(), "cluster1"), ("orders".to_owned(), "cluster1")]);
        let spec = json!({"type": "ExternalName", "externalName": "orders.shop.svc.cluster.local"});
        assert_eq!(stubs[0].object.data["spec"], spec);
        assert_eq!(stubs[0].because, "Deployment checkout in cluster1 refers to http://pay:8080 (ORDERS_URL)");
        assert_eq!(
            stubs[1].because,
            "Service pay in cluster1 refers to orders.shop.svc.cluster.local (externalName), whose pods are in cluster2"
        );
        // One that exists is no reason to say where its pods are.
        let live = BTreeMap::from([("cluster2".to_owned(), vec![alias("").object])]);
        let (stubs, _) = made(&[caller("http://pay:8080")], &live);
        assert_eq!((stubs.len(), stubs[0].served_in.len()), (1, 0));
        // Where the alias is, only what it is of is needed.
        assert_eq!(made(&[service(), orders(), alias("cluster1")], &BTreeMap::new()).0.len(), 1);
    }

    #[test]
    fn existing_service_that_asks_for_stubs_gets_none_from_another_deployment() {
        let mut asks = service().object;
        asks.annotations_mut().insert(STUB_IN.into(), "*".into());
        let live = BTreeMap::from([("cluster2".to_owned(), vec![asks])]);
        assert!(made(&[caller("http://payments:8080")], &live).0.is_empty());
        assert_eq!(made(&[caller("http://orders:8080")], &live).0.len(), 1);
    }

    #[test]
    fn stub_spreads_traffic_as_its_service_does() {
        let mut service = service();
        service.object.data["spec"]["trafficDistribution"] = json!("PreferClose");
        service
            .object
            .labels_mut()
            .insert("networking.istio.io/traffic-distribution".into(), "PreferClose".into());
        service.object.labels_mut().insert("app".into(), "orders".into());
        service.object.annotations_mut().insert("networking.istio.io/exportTo".into(), "*".into());
        let stub = made(&[service, orders(), caller("x")], &BTreeMap::new()).0.remove(0).object;
        assert_eq!(stub.data["spec"]["trafficDistribution"], "PreferClose");
        assert!(stub.labels().contains_key("networking.istio.io/traffic-distribution"));
        assert!(stub.annotations().contains_key("networking.istio.io/exportTo"));
        assert!(!stub.labels().contains_key("app"));
    }

    #[test]
    fn service_of_another_group_gets_no_stub() {
        let knative =
            "{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: web, namespace: shop}}";
        assert!(
            made(&[placed(knative, "cluster2"), orders(), caller("http://web")], &BTreeMap::new()).0.is_empty()
        );
    }

    #[test]
    fn existing_service_of_the_name_is_enough() {
        let live = BTreeMap::from([("cluster1".to_owned(), vec![service().object])]);
        assert!(made(&[service(), orders(), caller("http://orders:8080")], &live).0.is_empty());
    }

    fn headless() -> Placed {
        let mut headless = service();
        headless.object.data["spec"]["clusterIP"] = json!("None");
        headless
    }

    #[test]
    fn stub_of_a_headless_service_has_a_cluster_ip() {
        let (stubs, notes) = made(&[headless(), orders(), caller("orders:80")], &BTreeMap::new());
        assert_eq!(stubs[0].object.data["spec"].get("clusterIP"), None);
        assert_eq!(
            notes,
            [
                "orders is headless, but its stub in cluster1 has a cluster IP, by which calls are balanced over its pods in \
                    cluster2; names of single pods do not resolve in cluster1"
            ]
        );
    }

    #[test]
    fn headless_service_without_ports_gets_no_stub() {
        let mut without = headless();
        without.object.data["spec"]["ports"] = Value::Null;
        let (stubs, notes) = made(&[without, orders(), caller("orders:80")], &BTreeMap::new());
        assert!(stubs.is_empty());
        assert_eq!(notes, ["orders has no ports: no stub Service created in cluster1"]);
    }

    #[test]
    fn proxies_that_resolve_names_need_no_stub_of_a_headless_service() {
        let clusters = ["cluster1".to_owned(), "cluster2".to_owned()];
        let networks = |of: [&str; 2]| clusters.iter().cloned().zip(of.map(str::to_owned)).collect();
        let placed = [headless(), orders(), caller("orders-0.orders:80 orders:80")];
        let made = |of| {
            let names = Names { captured: true, networks: networks(of) };
            stubs(&placed, &candidates(&placed, &BTreeMap::new(), &clusters), &clusters, &names)
        };
        let (none, notes) = made(["flat", "flat"]);
        assert!(none.is_empty() && notes.is_empty(), "{notes:?}");
        assert_eq!(made(["one", "other"]).0.len(), 1);
    }

    #[test]
    fn name_of_a_pod_in_another_cluster_does_not_resolve() {
        let (_, notes) = made(&[headless(), orders(), caller("tcp://orders-0.orders:9000")], &BTreeMap::new());
        assert!(
            notes[1]
                .starts_with("Deployment checkout in cluster1 refers to tcp://orders-0.orders:9000 (ORDERS_URL)")
                && notes[1].contains("statefulset.kubernetes.io/pod-name: orders-0"),
            "{notes:?}"
        );
    }

    #[test]
    fn headless_service_in_two_clusters_is_two() {
        let mut both = [headless(), orders()];
        both.iter_mut().for_each(|placed| placed.clusters = vec!["cluster1".into(), "cluster2".into()]);
        let (stubs, notes) = made(&both, &BTreeMap::new());
        assert!(stubs.is_empty());
        assert!(
            notes[0].ends_with("in each cluster, its name resolves only to the cluster's own pods"),
            "{notes:?}"
        );
    }

    #[test]
    fn only_hosts_are_names() {
        let service = service().object;
        for (text, named) in [
            ("http://orders:8080", true),
            ("http://orders/", true),
            ("postgres://me@orders/db", true),
            ("orders:8080", true),
            ("orders", true),
            ("a=b;host=orders.shop.svc.cluster.local", true),
            ("http://orders.shop.:80", true),
            ("reorders:8080", false),
            ("http://orders-v2:8080", false),
            ("http://orders.other:8080", false),
            ("takes orders from customers", false),
            ("a/orders/b", false),
        ] {
            assert_eq!(mentions(text, &service, Some("shop")), named, "{text}");
        }
        assert!(!mentions("http://orders:80", &service, Some("other")));
        assert!(mentions("http://orders.shop:80", &service, Some("other")));
    }
}
