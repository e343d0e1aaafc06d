//! Headless Services and StatefulSets across clusters: what their names reach, what `deploy` and `why` make of it.

use std::path::Path;
use std::time::{Duration, Instant};

use kindmesh::Environment;
use serde_json::{Value, json};

use crate::environment::{Kindmesh, Temporary};

const NAMESPACE: &str = "headless";

/// A StatefulSet in cluster2 with a headless Service, and a caller in cluster1 that refers to both of its names.
fn manifests(image: &str, captures_dns: bool) -> String {
    format!(
        r#"
apiVersion: v1
kind: Service
metadata: {{name: db, namespace: {NAMESPACE}}}
spec:
  clusterIP: None
  selector: {{app: db}}
  ports: [{{name: http, port: 8080}}, {{name: tcp, port: 9000}}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: db, namespace: {NAMESPACE}, annotations: {{kindmesh/clusters: cluster2}}}}
spec:
  serviceName: db
  replicas: 2
  podManagementPolicy: Parallel
  selector: {{matchLabels: {{app: db}}}}
  template:
    metadata: {{labels: {{app: db}}}}
    spec:
      containers:
        - name: app
          image: {image}
          args: [serve, producer]
          env: [{{name: CLUSTER_NAME, value: cluster2}}]
          readinessProbe: {{httpGet: {{path: /healthz/ready, port: 8080}}}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: client, namespace: {NAMESPACE}, annotations: {{kindmesh/clusters: cluster1}}}}
spec:
  serviceName: client
  selector: {{matchLabels: {{app: client}}}}
  template:
    metadata:
      labels: {{app: client}}
      annotations: {{proxy.istio.io/config: '{{"proxyMetadata": {{"ISTIO_META_DNS_CAPTURE": "{captures_dns}"}}}}'}}
    spec:
      containers:
        - name: app
          image: {image}
          args: [serve, probe]
          env: [{{name: ALL, value: "db:9000"}}, {{name: FIRST, value: "db-0.db:9000"}}]
          readinessProbe: {{httpGet: {{path: /healthz/ready, port: 8080}}}}
"#
    )
}

/// The image of the samples.
fn image(kindmesh: &Kindmesh) -> String {
    let image = ["-n", "sample", "get", "deployment", "sample-caller", "-o", "jsonpath={..image}"];
    let images = kindmesh.kubectl("cluster1", &image).stdout;
    images.split_whitespace().next().expect("an image").to_owned()
}

fn deploy(kindmesh: &Kindmesh, captures_dns: bool) -> Value {
    let directory = tempfile::tempdir().expect("create a temporary directory");
    let text = manifests(&image(kindmesh), captures_dns);
    std::fs::write(directory.path().join("db.yaml"), text).expect("write the manifests");
    // Later deployments replace what an earlier one from another directory created.
    for cluster in ["cluster1", "cluster2"] {
        kindmesh.kubectl(cluster, &["delete", "namespace", NAMESPACE, "--ignore-not-found"]);
    }
    let path = directory.path().to_str().expect("a UTF-8 path");
    let output = kindmesh.run(&["deploy", path, "--output", "json"]);
    assert_eq!(output.code, 0, "{output:?}");
    serde_json::from_str::<Value>(&output.stdout).expect(&output.stdout)["deployed"].clone()
}

/// Sends four calls from the client in cluster1, and returns the pods that answered; none for a call that failed.
fn called(kindmesh: &Kindmesh, host: &str, protocol: &str) -> Vec<Option<String>> {
    let message = json!({"protocol": protocol, "freshConnection": true});
    let calls = json!({"host": host, "count": 4, "message": message, "timeoutMillis": 3000});
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/client-0:8080/proxy/probe/calls");
    let request = http::Request::post(path).header("content-type", "application/json");
    let request = request.body(calls.to_string().into_bytes()).expect("a request");
    let send = async {
        let state = kindmesh.state().parent().expect("a parent directory").to_owned();
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("e2e-cache");
        let environment = Environment::builder().name(kindmesh.name()).folders(state, cache).open()?;
        anyhow::Ok(environment.client("cluster1").await?.request::<Vec<Value>>(request).await?)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("build the runtime");
    let results = runtime.block_on(send).expect("results");
    results.iter().map(|result| result["answer"]["metadata"]["hostName"].as_str().map(str::to_owned)).collect()
}

/// Repeats the calls until all are answered, for at most a minute: answers of DNS are cached, also those without an address.
fn answered(kindmesh: &Kindmesh, host: &str, protocol: &str) -> Vec<String> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let pods = called(kindmesh, host, protocol);
        if let Some(pods) = pods.iter().cloned().collect() {
            return pods;
        }
        assert!(Instant::now() < deadline, "{host} by {protocol}: {pods:?}");
    }
}

fn why(kindmesh: &Kindmesh, target: &str) -> Value {
    let output = kindmesh.run(&["why", "cluster1", target, "--namespace", NAMESPACE, "--output", "json"]);
    serde_json::from_str(&output.stdout).expect(&output.stdout)
}

fn hop<'a>(explanation: &'a Value, name: &str) -> &'a Value {
    let hops = explanation["hops"].as_array().expect("hops");
    hops.iter().find(|hop| hop["hop"] == name).unwrap_or_else(|| panic!("no hop {name}: {explanation:#}"))
}

fn notes(deployed: &Value) -> Vec<&str> {
    deployed["notes"].as_array().expect("notes").iter().filter_map(Value::as_str).collect()
}

/// What holds in every topology: all pods by the stub's cluster IP, and single ones by a Service for each.
fn stub_and_services_of_single_pods_work(kindmesh: &Kindmesh) {
    let deployed = deploy(kindmesh, false);
    assert_eq!(deployed["stubs"][0]["object"]["name"], "db", "{deployed:#}");
    let has = |text: &str| notes(&deployed).iter().any(|note| note.contains(text));
    assert!(has("db is headless, but its stub in cluster1 has a cluster IP"), "{deployed:#}");
    assert!(has("refers to db-0.db:9000 (FIRST), but the name of a pod does not resolve"), "{deployed:#}");
    for protocol in ["http", "tcp"] {
        let pods = answered(kindmesh, "db", protocol);
        assert!(pods.iter().all(|pod| pod.starts_with("db-")), "{pods:?}");
    }
    assert_eq!(called(kindmesh, "db-0.db", "tcp"), [None, None, None, None]);
    let explained = why(kindmesh, "tcp://db:9000");
    assert_eq!(explained["firstWrong"], Value::Null, "{explained:#}");
    let target = format!("tcp://db-0.db.{NAMESPACE}.svc:9000");
    let explained = why(kindmesh, &target);
    assert_eq!(explained["firstWrong"], "name", "{explained:#}");
    // The fix is pasted as printed.
    let cure = hop(&explained, "name")["cure"].as_str().expect("a fix");
    let (_, commands) = cure.split_once(": ").expect("commands");
    let shell = std::process::Command::new("bash")
        .args(["-c", commands])
        .env("KUBECONFIG", kindmesh.state().join("kubeconfig"))
        .output()
        .expect("run bash");
    assert!(shell.status.success(), "{shell:?}");
    assert_eq!(answered(kindmesh, "db-0", "tcp"), ["db-0"; 4]);
    assert_eq!(answered(kindmesh, "db-0", "http"), ["db-0"; 4]);
}

/// Lets the proxies answer DNS queries, and deletes the stub, which would hide the pods' names.
fn capture_dns_without_stub(kindmesh: &Kindmesh) {
    deploy(kindmesh, true);
    let deleted = kindmesh.kubectl("cluster1", &["-n", NAMESPACE, "delete", "service", "db"]);
    assert_eq!(deleted.code, 0, "{deleted:?}");
}

/// Moves the pods of a headless Service to the cluster of its stub and back: the stub has a cluster IP, which cannot change.
fn pods_can_move_to_the_cluster_of_the_stub(kindmesh: &Kindmesh) {
    let directory = tempfile::tempdir().expect("create a temporary directory");
    let text = manifests(&image(kindmesh), false);
    for cluster in ["cluster2", "cluster1", "cluster2"] {
        let moved = text.replacen("kindmesh/clusters: cluster2", &format!("kindmesh/clusters: {cluster}"), 1);
        std::fs::write(directory.path().join("db.yaml"), moved).expect("write the manifests");
        let output = kindmesh.run(&["deploy", directory.path().to_str().expect("a UTF-8 path")]);
        assert_eq!(output.code, 0, "{output:?}");
        let arguments = ["-n", NAMESPACE, "get", "service", "db", "-o", "jsonpath={.spec.clusterIP}"];
        let address = kindmesh.kubectl("cluster1", &arguments).stdout;
        assert_eq!(address == "None", cluster == "cluster1", "{address}");
        answered(kindmesh, "db", "http");
    }
}

#[test]
#[ignore = "needs a container engine, kubectl and minutes"]
fn headless_names_on_one_network() {
    let environment = Temporary::up("e2e-headless", "{}\n");
    let kindmesh = &environment.kindmesh;
    pods_can_move_to_the_cluster_of_the_stub(kindmesh);
    stub_and_services_of_single_pods_work(kindmesh);

    // A proxy that answers DNS queries knows the pods of the other cluster, if no Service with a cluster IP hides them.
    capture_dns_without_stub(kindmesh);
    for protocol in ["http", "tcp"] {
        assert_eq!(answered(kindmesh, "db-1.db", protocol), ["db-1"; 4]);
        answered(kindmesh, "db", protocol);
    }
    for target in [format!("tcp://db-1.db.{NAMESPACE}.svc:9000"), "tcp://db:9000".into(), "http://db:8080".into()]
    {
        let explained = why(kindmesh, &target);
        assert_eq!(explained["firstWrong"], Value::Null, "{explained:#}");
    }
}

#[test]
#[ignore = "needs a container engine, kubectl and minutes"]
fn headless_names_between_networks() {
    let environment = Temporary::up("e2e-headless", "topology: multi-network\n");
    let kindmesh = &environment.kindmesh;
    stub_and_services_of_single_pods_work(kindmesh);

    capture_dns_without_stub(kindmesh);
    // The deleted Service may be in DNS caches for half a minute.
    let deadline = Instant::now() + Duration::from_secs(60);
    for host in ["db", "db-1.db"] {
        while called(kindmesh, host, "tcp").iter().any(Option::is_some) {
            assert!(Instant::now() < deadline, "{host} still resolves");
        }
    }
    let explained = why(kindmesh, "tcp://db:9000");
    assert_eq!(explained["firstWrong"], "name", "{explained:#}");
}
