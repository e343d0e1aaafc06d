//! The removal, against an API server in memory: what is deleted, in which order, and again after an interruption at any point.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;
use crate::base::error;
use crate::base::event::Events;
use server::Server;

mod server;

const ENVIRONMENT: &str = "shop";
const RECORDED: &str = "2026-11-27T10:00:00Z";
const BEFORE: &str = "2026-11-20T10:00:00Z";

fn object(api_version: &str, kind: &str, namespace: &str, name: &str) -> Value {
    let namespace = Some(namespace).filter(|namespace| !namespace.is_empty());
    json!({"apiVersion": api_version, "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": RECORDED}})
}

fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    *object.pointer_mut(pointer).unwrap() = value;
    object
}

fn labelled(mut object: Value, labels: &[(&str, &str)]) -> Value {
    for (label, value) in labels {
        object["metadata"]["labels"][label] = json!(value);
    }
    object
}

fn ours(api_version: &str, kind: &str, namespace: &str, name: &str) -> Value {
    labelled(object(api_version, kind, namespace, name), &[("app.kubernetes.io/managed-by", "kindmesh")])
}

fn old(object: Value) -> Value {
    with(object, "/metadata/creationTimestamp", json!(BEFORE))
}

fn definition(kind: &str, plural: &str) -> Value {
    let mut definition =
        ours("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", &format!("{plural}.networking.istio.io"));
    definition["spec"] = json!({"group": "networking.istio.io", "scope": "Namespaced", "names": {"kind": kind, "plural": plural},
        "versions": [{"name": "v1alpha3", "served": false, "storage": false}, {"name": "v1", "served": true, "storage": true}]});
    definition
}

fn trust(namespace: &str, name: &str) -> Value {
    labelled(object("v1", "ConfigMap", namespace, name), &[("istio.io/config", "true")])
}

/// What is in the cluster before `up` and after `down`.
fn others() -> Vec<Value> {
    let namespaces = ["default", "kube-system", "legacy"].map(|name| old(object("v1", "Namespace", "", name)));
    let mut all = namespaces.to_vec();
    all.extend(
        ["default", "kube-system", "legacy"].map(|name| old(object("v1", "ConfigMap", name, "kube-root-ca.crt"))),
    );
    all.push(old(trust("legacy", "istio-ca-root-cert")));
    all.push(old(object("apps/v1", "Deployment", "legacy", "legacy")));
    // Kindmesh's own role, and objects of another tool.
    all.push(old(object("rbac.authorization.k8s.io/v1", "ClusterRole", "", "kindmesh")));
    all.push(labelled(old(object("v1", "Service", "legacy", "a")), &[("app.kubernetes.io/managed-by", "Helm")]));
    let class = old(object("gateway.networking.k8s.io/v1", "GatewayClass", "", "gke-l7"));
    all.push(class);
    all
}

/// What `up`, `deploy` and istiod made.
fn made() -> Vec<Value> {
    let istio = |api_version, kind, name| ours(api_version, kind, "istio-system", name);
    let rbac = "rbac.authorization.k8s.io/v1";
    let mut record = crate::cluster::existing::record(ENVIRONMENT, true, &["legacy".to_owned()].into());
    record["data"]["kinds"] = json!("apps/v1 StatefulSet statefulsets");
    let mut recorded = istio("v1", "ConfigMap", RECORD);
    recorded["data"] = record["data"].clone();
    let mut all = vec![
        ours("v1", "Namespace", "", "istio-system"),
        recorded,
        istio("v1", "Secret", "cacerts"),
        istio("v1", "ConfigMap", "istio"),
        labelled(istio("v1", "Secret", "istio-remote-secret-west"), &[("istio/multiCluster", "true")]),
        labelled(istio("apps/v1", "Deployment", "istiod"), &[("app", "istiod")]),
        istio("apps/v1", "Deployment", "istio-eastwestgateway"),
        istio("v1", "Service", "istiod"),
        istio("v1", "ServiceAccount", "istiod"),
        istio("v1", "ServiceAccount", "istio-reader-service-account"),
        istio(rbac, "Role", "istiod"),
        istio(rbac, "RoleBinding", "istiod"),
        ours(rbac, "ClusterRole", "", "istiod-clusterrole-istio-system"),
        ours(rbac, "ClusterRoleBinding", "", "istiod-clusterrole-istio-system"),
        istio("networking.istio.io/v1", "Gateway", "cross-network-gateway"),
        ours("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", "", "istio-sidecar-injector"),
        ours(
            "admissionregistration.k8s.io/v1",
            "ValidatingWebhookConfiguration",
            "",
            "istio-validator-istio-system",
        ),
        definition("Gateway", "gateways"),
        definition("ServiceEntry", "serviceentries"),
        ours("v1", "Namespace", "", "sample"),
        ours("v1", "Service", "sample", "sample-producer"),
        ours("apps/v1", "Deployment", "sample", "sample-producer"),
        object("v1", "ConfigMap", "sample", "kube-root-ca.crt"),
        ours("apps/v1", "StatefulSet", "legacy", "orders"),
        ours("v1", "Service", "legacy", "orders"),
    ];
    let mut gateway = istio("v1", "Service", "istio-eastwestgateway");
    gateway["metadata"]["finalizers"] = json!(["service.kubernetes.io/load-balancer-cleanup"]);
    all.push(gateway);
    let mut pod = labelled(object("v1", "Pod", "istio-system", "istiod-1"), &[("app", "istiod")]);
    pod["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "istiod-1", "uid": "r"}]);
    all.push(pod);
    for namespace in ["default", "kube-system", "istio-system", "sample"] {
        all.extend(["istio-ca-root-cert", "istio-ca-crl"].map(|name| trust(namespace, name)));
    }
    all.extend(
        ["istio-leader", "istio-namespace-controller-election"]
            .map(|name| object("v1", "ConfigMap", "istio-system", name)),
    );
    all.push(object("coordination.k8s.io/v1", "Lease", "istio-system", "istio-gateway-status-leader-default"));
    let mut class = object("gateway.networking.k8s.io/v1", "GatewayClass", "", "istio");
    class["spec"] = json!({"controllerName": "istio.io/gateway-controller"});
    all.push(class);
    all
}

async fn run_within(server: &Server, timeout: Duration) -> anyhow::Result<Removed> {
    let step = Events::silent().step("remove", None);
    let deadline = Instant::now() + timeout;
    remove(&server.client(), ENVIRONMENT, "east", &Record::default(), &step, deadline).await
}

async fn run(server: &Server) -> anyhow::Result<Removed> {
    run_within(server, Duration::from_secs(20)).await
}

fn cluster(more: Vec<Value>) -> Server {
    Server::with(others().into_iter().chain(made()).chain(more))
}

#[tokio::test]
async fn a_cluster_is_as_it_was_before() {
    let server = cluster(Vec::new());
    let first = run(&server).await.unwrap();
    assert_eq!(first, Removed { changed: true, left: Vec::new() });
    assert_eq!(server.names(), Server::with(others()).names());
    assert_eq!(run(&server).await.unwrap(), Removed::default());
}

#[tokio::test]
async fn objects_go_in_this_order() {
    let server = cluster(Vec::new());
    run(&server).await.unwrap();
    let gone = server.gone();
    let order = [
        "secrets istio-system/istio-remote-secret-west",
        "namespaces sample",
        "statefulsets legacy/orders",
        "mutatingwebhookconfigurations istio-sidecar-injector",
        "services istio-system/istio-eastwestgateway",
        "deployments istio-system/istio-eastwestgateway",
        "deployments istio-system/istiod",
        "clusterroles istiod-clusterrole-istio-system",
        "configmaps istio-system/istio-leader",
        "configmaps default/istio-ca-root-cert",
        "gatewayclasses istio",
        "customresourcedefinitions gateways.networking.istio.io",
        "namespaces istio-system",
    ];
    let at =
        |name: &&str| gone.iter().position(|gone| gone == name).unwrap_or_else(|| panic!("{name} in {gone:#?}"));
    let places: Vec<usize> = order.iter().map(at).collect();
    assert!(places.is_sorted(), "{gone:#?}");
}

#[tokio::test]
async fn an_interrupted_removal_is_completed() {
    let deletions = {
        let server = cluster(Vec::new());
        run(&server).await.unwrap();
        server.requested()
    };
    assert!(deletions > 30, "{deletions}");
    // Each third point, so that every part is interrupted.
    let each = (0..deletions).step_by(3).map(async |number| {
        let server = cluster(Vec::new());
        server.refuse_after(Some(number));
        run(&server).await.expect_err("it was refused");
        server.refuse_after(None);
        let second = run(&server).await.unwrap();
        assert_eq!(second, Removed { changed: true, left: Vec::new() }, "after {number}");
        assert_eq!(server.names(), Server::with(others()).names(), "after {number}");
        assert_eq!(run(&server).await.unwrap(), Removed::default(), "after {number}");
    });
    futures::future::join_all(each).await;
}

#[tokio::test]
async fn objects_of_others_stay_and_are_named() {
    let mut gateway = object("gateway.networking.k8s.io/v1", "Gateway", "legacy", "front");
    gateway["spec"] = json!({"gatewayClassName": "istio"});
    let foreign = vec![
        object("v1", "PersistentVolumeClaim", "sample", "data"),
        object("networking.istio.io/v1", "ServiceEntry", "legacy", "outside"),
        gateway,
        object("v1", "ConfigMap", "istio-system", "dashboards"),
    ];
    let server = cluster(foreign.clone());
    let removed = run(&server).await.unwrap();
    let left = [
        "namespace sample in east: it has PersistentVolumeClaim data of others",
        "GatewayClass istio in east: Gateway legacy/front uses it",
        "CRD serviceentries.networking.istio.io in east: it has 1 object of others",
        "namespace istio-system in east: it has ConfigMap dashboards of others",
    ];
    assert_eq!(removed.left, left);
    let names = server.names();
    let expected = Server::with(others().into_iter().chain(foreign)).names();
    assert!(expected.is_subset(&names));
    let kept: Vec<&str> = names.difference(&expected).map(String::as_str).collect();
    let ours = [
        "configmaps sample/kube-root-ca.crt",
        "customresourcedefinitions serviceentries.networking.istio.io",
        "gatewayclasses istio",
        "namespaces istio-system",
        "namespaces sample",
    ];
    assert_eq!(kept, ours);
    // The same is said again, and nothing changes.
    let again = run(&server).await.unwrap();
    assert!(!again.changed && again.left.len() == 3, "{again:?}");
}

#[tokio::test]
async fn another_istiod_keeps_what_it_uses() {
    let other = labelled(object("apps/v1", "Deployment", "istio-canary", "istiod-canary"), &[("app", "istiod")]);
    let namespace = object("v1", "Namespace", "", "istio-canary");
    let server = cluster(vec![other, namespace]);
    let removed = run(&server).await.unwrap();
    let said = "Istio's root certificate in namespaces default, kube-system of east: \
        Deployment istiod-canary in namespace istio-canary is there, too";
    assert_eq!(removed.left, [said]);
    let names = server.names();
    let has = |name: &str| names.contains(name);
    assert!(has("configmaps default/istio-ca-root-cert") && has("gatewayclasses istio"));
    assert!(!has("namespaces istio-system") && !has("deployments istio-system/istiod"));
    // In Istio's namespace, it may hold the elections.
    let other = labelled(object("apps/v1", "Deployment", "istio-system", "istiod-canary"), &[("app", "istiod")]);
    let server = cluster(vec![other]);
    let removed = run(&server).await.unwrap();
    assert!(server.names().contains("configmaps istio-system/istio-leader"));
    assert!(
        removed.left[0].starts_with("namespace istio-system in east: it has Deployment istiod-canary"),
        "{removed:?}"
    );
}

#[tokio::test]
async fn withdrawing_deletes_only_remote_secrets() {
    let server = cluster(Vec::new());
    let step = Events::silent().step("withdraw", None);
    let deadline = Instant::now() + Duration::from_secs(5);
    let (client, record) = (server.client(), Record::default());
    let withdraw = async || withdraw(&client, ENVIRONMENT, &record, &step, deadline).await.unwrap();
    assert!(withdraw().await && !withdraw().await);
    assert_eq!(server.gone(), ["secrets istio-system/istio-remote-secret-west"]);
}

#[tokio::test]
async fn another_environment_is_not_touched() {
    let server = cluster(Vec::new());
    let before = server.names();
    let step = Events::silent().step("remove", None);
    let deadline = Instant::now() + Duration::from_secs(5);
    let (client, record) = (server.client(), Record::default());
    let removed = remove(&client, "other", "east", &record, &step, deadline).await.unwrap_err();
    let withdrawn = withdraw(&client, "other", &record, &step, deadline).await.unwrap_err();
    assert_eq!(removed.to_string(), "the cluster belongs to environment \"shop\"");
    assert_eq!(withdrawn.to_string(), removed.to_string());
    assert_eq!(server.names(), before);
}

#[tokio::test]
async fn a_load_balancer_that_stays_is_explained() {
    let mut event = object("v1", "Event", "istio-system", "e");
    event["involvedObject"] = json!({"kind": "Service", "name": "istio-eastwestgateway"});
    event["type"] = json!("Warning");
    event["reason"] = json!("SyncLoadBalancerFailed");
    event["message"] = json!("quota exceeded");
    let server = cluster(vec![event]);
    server.keep_finalizers();
    let failed = run_within(&server, Duration::from_secs(1)).await.unwrap_err();
    let told = error::find(&failed).unwrap();
    assert!(told.evidence[0].ends_with("finalizers: service.kubernetes.io/load-balancer-cleanup"), "{told:?}");
    assert_eq!(told.evidence[1], "event: Warning SyncLoadBalancerFailed: quota exceeded");
    assert_eq!(told.hint.as_deref(), Some("see what keeps the Service, then run kindmesh down --name shop again"));
    assert!(server.names().contains("deployments istio-system/istiod"));
}
