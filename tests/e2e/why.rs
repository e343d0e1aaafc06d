//! `kindmesh why` on calls that are broken in different ways: each time it names the broken hop.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::environment::{E2E, Kindmesh, docker};

const NAMESPACE: &str = "e2e-why";

/// A namespace with the sample image as a caller in cluster1 and as orders in cluster2, broken and repaired step by step.
struct Shop<'a> {
    kindmesh: &'a Kindmesh,
}

impl<'a> Shop<'a> {
    fn open(kindmesh: &'a Kindmesh) -> Self {
        let this = Self { kindmesh };
        let image = kindmesh.kubectl(
            "cluster1",
            &["-n", "sample", "get", "deployment", "sample-caller", "-o", "jsonpath={..image}"],
        );
        let image = image.stdout.split_whitespace().next().expect("an image").to_owned();
        for (cluster, name) in [("cluster1", "checkout"), ("cluster2", "orders")] {
            this.apply(cluster, &format!(
                "{{apiVersion: v1, kind: Namespace, metadata: {{name: {NAMESPACE}, labels: {{istio-injection: enabled}}}}}}\n---\n\
                 {{apiVersion: v1, kind: Service, metadata: {{name: orders, namespace: {NAMESPACE}}}, spec: {{selector: {{app: \
                 orders}}, ports: [{{name: http, port: 8080}}]}}}}\n---\n\
                 {{apiVersion: apps/v1, kind: Deployment, metadata: {{name: {name}, namespace: {NAMESPACE}}}, spec: {{selector: \
                 {{matchLabels: {{app: {name}}}}}, template: {{metadata: {{labels: {{app: {name}}}}}, spec: {{containers: \
                 [{{name: app, image: \"{image}\", args: [serve, producer], ports: [{{containerPort: 8080}}]}}]}}}}}}}}"
            ));
        }
        for (cluster, name) in [("cluster1", "checkout"), ("cluster2", "orders")] {
            this.kubectl(cluster, &["rollout", "status", "--timeout=90s", &format!("deployment/{name}")]);
        }
        this
    }

    fn kubectl(&self, cluster: &str, arguments: &[&str]) {
        let said = self.kindmesh.kubectl(cluster, &[&["-n", NAMESPACE], arguments].concat());
        assert_eq!(said.code, 0, "{arguments:?}: {said:?}");
    }

    fn apply(&self, cluster: &str, yaml: &str) {
        let file = tempfile::NamedTempFile::new().expect("create a temporary file");
        std::fs::write(file.path(), yaml).expect("write the file");
        let path = file.path().display().to_string();
        let said = self.kindmesh.kubectl(cluster, &["apply", "-f", &path]);
        assert_eq!(said.code, 0, "{yaml}: {said:?}");
    }

    fn why(&self) -> Value {
        let address = ["why", "cluster1", "http://orders:8080/", "--namespace", NAMESPACE, "--output", "json"];
        let said = self.kindmesh.run(&address);
        assert!([0, 3].contains(&said.code), "{said:?}");
        let explained: Value = serde_json::from_str(&said.stdout).expect(&said.stdout);
        assert_eq!(said.code == 0, explained["firstWrong"].is_null(), "{explained}");
        explained
    }

    /// Repeats `why` until it reports this hop as the first wrong one: changes take time to reach every proxy.
    fn until(&self, hop: Option<&str>) -> Value {
        let deadline = Instant::now() + Duration::from_secs(40);
        loop {
            let explained = self.why();
            if explained["firstWrong"].as_str() == hop {
                return explained;
            }
            assert!(Instant::now() < deadline, "not {hop:?}: {explained:#}");
        }
    }

    /// Returns the fix of the first wrong hop, which must be this one.
    fn cure(&self, hop: &str) -> String {
        let explained = self.until(Some(hop));
        let hops = explained["hops"].as_array().expect("hops");
        let found = hops.iter().find(|found| found["hop"] == hop).expect(hop);
        found["cure"].as_str().expect("a fix").to_owned()
    }
}

impl Drop for Shop<'_> {
    fn drop(&mut self) {
        for cluster in ["cluster1", "cluster2"] {
            self.kindmesh.kubectl(cluster, &["delete", "namespace", NAMESPACE, "--wait=false"]);
        }
    }
}

#[test]
#[ignore = "needs a container engine, kubectl and minutes"]
fn each_broken_call_has_the_hop_that_is_broken() {
    let shop = Shop::open(E2E.up());
    shop.until(None);

    shop.kubectl("cluster1", &["delete", "service", "orders"]);
    let cure = shop.cure("name");
    assert!(cure.contains("apply -f - <<<") && cure.contains("\"app\":\"orders\""), "{cure}");
    // The fix is pasted as printed.
    let typed = std::process::Command::new("bash")
        .args(["-c", cure.split(" (kindmesh deploy").next().expect("a command")])
        .env("KUBECONFIG", E2E.up().state().join("kubeconfig"))
        .output()
        .expect("run bash");
    assert!(typed.status.success(), "{typed:?}");
    shop.until(None);

    shop.kubectl("cluster2", &["scale", "deployment", "orders", "--replicas=0"]);
    assert!(shop.cure("endpoints").contains("scale deployment orders --replicas=1"));
    shop.kubectl("cluster2", &["scale", "deployment", "orders", "--replicas=1"]);
    shop.until(None);

    for cluster in ["cluster1", "cluster2"] {
        shop.kubectl(
            cluster,
            &["patch", "service", "orders", "-p", "{\"spec\":{\"selector\":{\"app\":\"order\"}}}"],
        );
    }
    assert!(shop.cure("endpoints").contains("compare the labels"));
    for cluster in ["cluster1", "cluster2"] {
        shop.kubectl(
            cluster,
            &["patch", "service", "orders", "-p", "{\"spec\":{\"selector\":{\"app\":\"orders\"}}}"],
        );
    }
    shop.until(None);

    let policy = |kind: &str, spec: &str| {
        let group = if kind == "DestinationRule" { "networking" } else { "security" };
        format!(
            "{{apiVersion: {group}.istio.io/v1, kind: {kind}, metadata: {{name: e2e, namespace: {NAMESPACE}}}, spec: {spec}}}"
        )
    };
    shop.apply("cluster2", &policy("AuthorizationPolicy", "{action: DENY, rules: [{}]}"));
    assert!(shop.cure("policy").contains("edit authorizationpolicy e2e"));
    shop.kubectl("cluster2", &["delete", "authorizationpolicy", "e2e"]);

    shop.apply("cluster2", &policy("PeerAuthentication", "{mtls: {mode: STRICT}}"));
    shop.until(None);
    shop.apply("cluster1", &policy("DestinationRule", "{host: orders, trafficPolicy: {tls: {mode: DISABLE}}}"));
    assert!(shop.cure("tls").contains("edit destinationrule e2e"));
    shop.kubectl("cluster1", &["delete", "destinationrule", "e2e"]);
    shop.until(None);
    // A caller outside the mesh only reaches its own cluster.
    shop.kubectl("cluster1", &["label", "namespace", NAMESPACE, "istio-injection-"]);
    shop.kubectl("cluster1", &["delete", "pod", "-l", "app=checkout"]);
    assert!(shop.cure("cluster").contains("istio-injection=enabled"));
}

#[test]
#[ignore = "needs a container engine and minutes"]
fn a_cut_link_and_a_lost_remote_secret_are_named() {
    let kindmesh = E2E.up();
    let first_wrong = || {
        let said = kindmesh.run(&["why", "cluster1", "http://sample-producer:8080", "--output", "json"]);
        let explained: Value = serde_json::from_str(&said.stdout).expect(&said.stdout);
        explained["firstWrong"].as_str().map(str::to_owned)
    };
    let until = |hop: Option<&str>| {
        let deadline = Instant::now() + Duration::from_secs(60);
        while first_wrong().as_deref() != hop {
            assert!(Instant::now() < deadline, "not {hop:?}: {:?}", first_wrong());
        }
    };
    until(None);
    let node = format!("{}-cluster1-control-plane", kindmesh.name());
    docker(&["exec", &node, "touch", "/etc/kindmesh/cut"]);
    until(Some("link"));
    docker(&["exec", &node, "rm", "/etc/kindmesh/cut"]);
    until(None);
    let secret = ["-n", "istio-system", "delete", "secret", "istio-remote-secret-cluster2"];
    let deleted = kindmesh.kubectl("cluster1", &secret);
    assert_eq!(deleted.code, 0, "{deleted:?}");
    until(Some("remote"));
    // The fix.
    let up = kindmesh.run(&["up"]);
    assert_eq!(up.code, 0, "{up:?}");
    until(None);
}
