//! Clusters that exist: both layouts with all claims, and everything that `up` refuses in them.

#![expect(clippy::unwrap_used, reason = "clippy does not recognize the helpers of tests")]
#![expect(clippy::print_stdout, reason = "the test is long")]

use crate::environment::docker;
use crate::existing::{CLUSTERS, CONSENT, InForeign, lives_and_dies, unchanged};
use crate::foreign::{Foreign, Layout};

#[test]
#[ignore = "needs a container engine, kind, kubectl and minutes"]
fn flat_clusters_are_left_as_they_were() {
    lives_and_dies(&Foreign::create(Layout::Flat), Layout::Flat, &[]);
}

#[test]
#[ignore = "needs a container engine, kind, kubectl and minutes"]
fn separate_clusters_are_left_as_they_were() {
    lives_and_dies(&Foreign::create(Layout::Apart), Layout::Apart, &[]);
}

/// What is in cluster `east` before `up`, and what `up` then says.
const REFUSED: [(&str, &str); 11] = [
    (
        "{apiVersion: v1, kind: Namespace, metadata: {name: istio-system}}",
        "namespace istio-system exists in cluster east",
    ),
    ("{apiVersion: v1, kind: Namespace, metadata: {name: sample}}", "namespace sample exists in cluster east"),
    (
        "{apiVersion: v1, kind: Namespace, metadata: {name: sample, labels: {app.kubernetes.io/managed-by: kindmesh, \
         pod-security.kubernetes.io/enforce: restricted}}}",
        "enforces the Pod Security level restricted",
    ),
    (
        "{apiVersion: v1, kind: Namespace, metadata: {name: istio-system}}\n---\n\
         {apiVersion: v1, kind: Secret, metadata: {name: cacerts, namespace: istio-system}}",
        "secret cacerts",
    ),
    (
        "{apiVersion: v1, kind: Namespace, metadata: {name: istio-system}}\n---\n\
         {apiVersion: v1, kind: Secret, metadata: {name: other, namespace: istio-system, labels: {istio/multiCluster: 'true'}, \
         annotations: {networking.istio.io/cluster: third}}}",
        "remote secret other",
    ),
    (
        "{apiVersion: v1, kind: Namespace, metadata: {name: istio-system, labels: {app.kubernetes.io/managed-by: kindmesh}}}\n---\n\
         {apiVersion: v1, kind: ConfigMap, metadata: {name: kindmesh-environment, namespace: istio-system, \
         labels: {app.kubernetes.io/managed-by: kindmesh}}, data: {environment: other}}",
        "belongs to environment \"other\"",
    ),
    (
        "{apiVersion: v1, kind: Namespace, metadata: {name: mesh}}\n---\n\
         {apiVersion: apps/v1, kind: Deployment, metadata: {name: istiod-old, namespace: mesh, labels: {app: istiod, istio.io/rev: old}}, \
         spec: {replicas: 0, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, \
         spec: {containers: [{name: discovery, image: 'example.org/pilot:1.29.0'}]}}}}",
        "Istio 1.29.0 with revision old exists in cluster east",
    ),
    (
        "{apiVersion: admissionregistration.k8s.io/v1, kind: MutatingWebhookConfiguration, metadata: {name: theirs}, webhooks: [\
         {name: a.example.org, sideEffects: None, admissionReviewVersions: [v1], failurePolicy: Ignore, rules: [], \
         clientConfig: {service: {name: istiod, namespace: mesh}}}]}",
        "MutatingWebhookConfiguration theirs exists in cluster east",
    ),
    (
        "{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: destinationrules.networking.istio.io}, \
         spec: {group: networking.istio.io, scope: Namespaced, names: {kind: DestinationRule, plural: destinationrules}, versions: [\
         {name: v1alpha3, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]}}",
        "destinationrules.networking.istio.io does not serve v1",
    ),
    (
        "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: istiod-clusterrole-istio-system}, rules: []}",
        "ClusterRole istiod-clusterrole-istio-system",
    ),
    (
        "{apiVersion: v1, kind: Namespace, metadata: {name: sample, labels: {app.kubernetes.io/managed-by: kindmesh}}}\n---\n\
         {apiVersion: v1, kind: ResourceQuota, metadata: {name: few, namespace: sample}, spec: {hard: {pods: '1'}}}",
        "the quota of namespace sample in cluster east is too small",
    ),
];

#[test]
#[ignore = "needs a container engine, kind, kubectl and minutes"]
fn what_is_refused_is_not_changed() {
    let foreign = Foreign::create(Layout::Flat);
    let environment = InForeign::new(&foreign);
    for (objects, said) in REFUSED {
        apply(&foreign, "create", objects);
        if objects.contains("ResourceQuota") {
            foreign.must(
                "east",
                &["wait", "--for=jsonpath={.status.hard.pods}=1", "-n", "sample", "resourcequota/few"],
            );
        }
        refuses(&foreign, &environment, &CONSENT, said);
        apply(&foreign, "delete", objects);
    }
    // A user without a single permission that is needed.
    let binding = ["get", "clusterrole", "kindmesh", "-o", "json"];
    let role = foreign.must("east", &binding);
    let less = role.replace("\"customresourcedefinitions\"", "\"nothing\"");
    assert_ne!(role, less);
    apply(&foreign, "replace", &less);
    refuses(&foreign, &environment, &CONSENT, "customresourcedefinitions.apiextensions.k8s.io");
    apply(&foreign, "replace", &role);
    // Specs that name the wrong cluster, or a wrong address.
    let spec = std::fs::read_to_string(&environment.spec).unwrap();
    for (from, to, said) in [
        ("foreign-west", "foreign-east", "is also that of clusters[0]"),
        ("foreign-west", "elsewhere", "context \"elsewhere\" not found"),
        ("apiServer:", "region: here\n  apiServer:", "is for clusters that kind creates"),
    ] {
        std::fs::write(&environment.spec, spec.replace(from, to)).unwrap();
        refuses(&foreign, &environment, &CONSENT, said);
    }
    let without = spec.lines().filter(|line| !line.contains("apiServer")).collect::<Vec<_>>().join("\n");
    std::fs::write(&environment.spec, without).unwrap();
    refuses(&foreign, &environment, &CONSENT, "which its peers cannot reach");
    std::fs::write(&environment.spec, &spec).unwrap();

    // From inside: an API server whose certificate does not name the host, and pods without a route. Then the mesh is there.
    let before = environment.listings();
    let named = spec.replace(&foreign.api_server("west"), "https://kubernetes.default.svc.example.org:6443");
    std::fs::write(&environment.spec, named).unwrap();
    let up = environment.up(&CONSENT);
    assert!(up.code == 4 && up.stderr.contains("do not reach the API server of west"), "{up:?}");
    environment.must(&["down", "--yes"]);
    unchanged(&before, &environment.listings());
    std::fs::write(&environment.spec, &spec).unwrap();
    docker(&["exec", "foreign-1-control-plane", "ip", "route", "replace", "unreachable", "10.62.0.0/16"]);
    let up = environment.up(&CONSENT);
    assert!(up.code == 4 && up.stderr.contains("do not reach pods of"), "{up:?}");
    environment.must(&["down", "--yes"]);
    unchanged(&before, &environment.listings());
}

/// Asserts that `up` refuses with these words, and changes nothing.
fn refuses(foreign: &Foreign, environment: &InForeign<'_>, arguments: &[&str], said: &str) {
    let before = CLUSTERS.map(|cluster| foreign.versions(cluster));
    let up = environment.up(arguments);
    assert!([2, 4].contains(&up.code) && up.stderr.contains(said), "not \"{said}\": {}\n{}", up.code, up.stderr);
    assert_eq!(CLUSTERS.map(|cluster| foreign.versions(cluster)), before, "changed, although: {}", up.stderr);
    println!("{said}: refused");
}

/// Runs kubectl on objects as the administrator of `east`.
fn apply(foreign: &Foreign, verb: &str, objects: &str) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, objects.as_bytes()).unwrap();
    foreign.must("east", &[verb, "-f", file.path().to_str().unwrap()]);
}
