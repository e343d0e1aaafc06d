//! `kindmesh why` on calls that are broken in different ways: each time it names the broken hop.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::environment::{E2E, Kindmesh, docker};

const NAMESPACE: &str = "e2e-why";
const TCP: &str = "tcp://orders:9000";

/// A namespace with the sample image as a caller in cluster1 and as orders in cluster2, broken and repaired step by step.
struct Shop<'a> {
    kindmesh: &'a Kindmesh,
}

impl<'a> Shop<'a> {
    fn deploy(kindmesh: &'a Kindmesh) -> Self {
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
                 orders}}, ports: [{{name: http, port: 8080}}, {{name: tcp, port: 9000}}]}}}}\n---\n\
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
        let output = self.kindmesh.kubectl(cluster, &[&["-n", NAMESPACE], arguments].concat());
        assert_eq!(output.code, 0, "{arguments:?}: {output:?}");
    }

    fn apply(&self, cluster: &str, yaml: &str) {
        let file = tempfile::NamedTempFile::new().expect("create a temporary file");
        std::fs::write(file.path(), yaml).expect("write the file");
        let path = file.path().display().to_string();
        let output = self.kindmesh.kubectl(cluster, &["apply", "-f", &path]);
        assert_eq!(output.code, 0, "{yaml}: {output:?}");
    }

    fn why(&self, target: &str) -> Value {
        let arguments = ["why", "cluster1", target, "--namespace", NAMESPACE, "--output", "json"];
        let output = self.kindmesh.run(&arguments);
        assert!([0, 3].contains(&output.code), "{output:?}");
        let explanation: Value = serde_json::from_str(&output.stdout).expect(&output.stdout);
        assert_eq!(output.code == 0, explanation["firstWrong"].is_null(), "{explanation}");
        explanation
    }

    /// Repeats `why` until it reports this hop as the first wrong one: changes take time to reach every proxy.
    fn wait_for(&self, hop: Option<&str>) -> Value {
        self.wait_for_target("http://orders:8080/", hop)
    }

    fn wait_for_target(&self, target: &str, hop: Option<&str>) -> Value {
        let deadline = Instant::now() + Duration::from_secs(40);
        loop {
            let explanation = self.why(target);
            if explanation["firstWrong"].as_str() == hop {
                return explanation;
            }
            assert!(Instant::now() < deadline, "not {hop:?}: {explanation:#}");
        }
    }

    /// Returns the fix of the first wrong hop, which must be this one.
    fn fix(&self, hop: &str) -> String {
        let explanation = self.wait_for(Some(hop));
        entry(&explanation, hop)["cure"].as_str().expect("a fix").to_owned()
    }
}

/// Returns a hop of an explanation.
fn entry<'a>(explanation: &'a Value, hop: &str) -> &'a Value {
    let hops = explanation["hops"].as_array().expect("hops");
    hops.iter().find(|entry| entry["hop"] == hop).unwrap_or_else(|| panic!("no hop {hop}: {explanation:#}"))
}

/// Returns what a hop of an explanation reports.
fn saw<'a>(explanation: &'a Value, hop: &str) -> &'a str {
    entry(explanation, hop)["saw"].as_str().expect("text")
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
fn why_names_the_broken_hop_and_its_fix() {
    let shop = Shop::deploy(E2E.up());
    shop.wait_for(None);

    shop.kubectl("cluster1", &["delete", "service", "orders"]);
    let fix = shop.fix("name");
    assert!(fix.contains("apply -f - <<<") && fix.contains("\"app\":\"orders\""), "{fix}");
    // The fix is pasted as printed.
    let shell = std::process::Command::new("bash")
        .args(["-c", fix.split(" (kindmesh deploy").next().expect("a command")])
        .env("KUBECONFIG", E2E.up().state().join("kubeconfig"))
        .output()
        .expect("run bash");
    assert!(shell.status.success(), "{shell:?}");
    shop.wait_for(None);

    shop.kubectl("cluster2", &["scale", "deployment", "orders", "--replicas=0"]);
    assert!(shop.fix("endpoints").contains("scale deployment orders --replicas=1"));
    shop.kubectl("cluster2", &["scale", "deployment", "orders", "--replicas=1"]);
    shop.wait_for(None);

    for cluster in ["cluster1", "cluster2"] {
        shop.kubectl(
            cluster,
            &["patch", "service", "orders", "-p", "{\"spec\":{\"selector\":{\"app\":\"order\"}}}"],
        );
    }
    assert!(shop.fix("endpoints").contains("compare the labels"));
    for cluster in ["cluster1", "cluster2"] {
        shop.kubectl(
            cluster,
            &["patch", "service", "orders", "-p", "{\"spec\":{\"selector\":{\"app\":\"orders\"}}}"],
        );
    }
    shop.wait_for(None);

    let policy = |kind: &str, spec: &str| {
        let group = if kind == "DestinationRule" { "networking" } else { "security" };
        format!(
            "{{apiVersion: {group}.istio.io/v1, kind: {kind}, metadata: {{name: e2e, namespace: {NAMESPACE}}}, spec: {spec}}}"
        )
    };
    shop.apply("cluster2", &policy("AuthorizationPolicy", "{action: DENY, rules: [{}]}"));
    assert!(shop.fix("policy").contains("edit authorizationpolicy e2e"));
    let denied = shop.wait_for_target(TCP, Some("policy"));
    assert!(saw(&denied, "policy").contains("would close the connection"), "{denied:#}");
    shop.kubectl("cluster2", &["delete", "authorizationpolicy", "e2e"]);
    let answered = shop.wait_for_target(TCP, None);
    assert!(
        saw(&answered, "trial").contains("got the server's first bytes: \"{\\\"metadata\\\":"),
        "{answered:#}"
    );

    // Plain text of a server that speaks first.
    shop.apply("cluster1", &policy("DestinationRule", "{host: orders, trafficPolicy: {tls: {mode: DISABLE}}}"));
    let hangs = shop.wait_for_target(TCP, Some("tls"));
    assert!(saw(&hangs, "tls").contains("the connection hangs"), "{hangs:#}");
    assert_eq!(entry(&hangs, "trial")["verdict"], "wrong", "{hangs:#}");
    assert!(saw(&hangs, "trial").contains("got nothing for 3 s"), "{hangs:#}");

    shop.apply("cluster2", &policy("PeerAuthentication", "{mtls: {mode: STRICT}}"));
    assert!(shop.fix("tls").contains("edit destinationrule e2e"));
    shop.kubectl("cluster1", &["delete", "destinationrule", "e2e"]);
    shop.wait_for(None);
    // A caller outside the mesh only reaches its own cluster.
    shop.kubectl("cluster1", &["label", "namespace", NAMESPACE, "istio-injection-"]);
    shop.kubectl("cluster1", &["delete", "pod", "-l", "app=checkout"]);
    assert!(shop.fix("cluster").contains("istio-injection=enabled"));
}

#[test]
#[ignore = "needs a container engine and minutes"]
fn why_names_disabled_link_and_deleted_remote_secret() {
    let kindmesh = E2E.up();
    let first_wrong = || {
        let output = kindmesh.run(&["why", "cluster1", "http://sample-producer:8080", "--output", "json"]);
        let explanation: Value = serde_json::from_str(&output.stdout).expect(&output.stdout);
        explanation["firstWrong"].as_str().map(str::to_owned)
    };
    let wait_for = |hop: Option<&str>| {
        let deadline = Instant::now() + Duration::from_secs(60);
        while first_wrong().as_deref() != hop {
            assert!(Instant::now() < deadline, "not {hop:?}: {:?}", first_wrong());
        }
    };
    wait_for(None);
    let node = format!("{}-cluster1-control-plane", kindmesh.name());
    docker(&["exec", &node, "touch", "/etc/kindmesh/cut"]);
    wait_for(Some("link"));
    docker(&["exec", &node, "rm", "/etc/kindmesh/cut"]);
    wait_for(None);
    let secret = ["-n", "istio-system", "delete", "secret", "istio-remote-secret-cluster2"];
    let deleted = kindmesh.kubectl("cluster1", &secret);
    assert_eq!(deleted.code, 0, "{deleted:?}");
    wait_for(Some("remote"));
    // The fix.
    let up = kindmesh.run(&["up"]);
    assert_eq!(up.code, 0, "{up:?}");
    wait_for(None);
}

#[test]
#[ignore = "needs a container engine and minutes"]
fn why_judges_a_port_by_what_the_client_speaks() {
    let kindmesh = E2E.up();
    let why = |target: &str| -> Value {
        let output = kindmesh.run(&["why", "cluster1", target, "--output", "json"]);
        serde_json::from_str(&output.stdout).expect(&output.stdout)
    };
    // What the port declares, without a scheme.
    let tcp = why("sample-producer:9000");
    assert_eq!((&tcp["protocol"], &tcp["firstWrong"]), (&"tcp".into(), &Value::Null), "{tcp:#}");
    assert!(saw(&tcp, "trial").contains("the server's first bytes"), "{tcp:#}");
    let grpc = why("sample-producer:8082");
    assert_eq!((&grpc["protocol"], &grpc["firstWrong"]), (&"grpc".into(), &Value::Null), "{grpc:#}");
    assert_eq!(saw(&grpc, "trial"), "a gRPC call was answered in cluster2");
    // What the client speaks differs from what the port declares.
    let by_connection = why("grpc://sample-producer:9000");
    assert!(saw(&by_connection, "service").contains("connections are balanced, not calls"), "{by_connection:#}");
    for target in ["tcp://sample-producer:8080", "grpc://sample-producer:8080"] {
        let wrong = why(target);
        assert_eq!(wrong["firstWrong"], "service", "{wrong:#}");
    }
}
