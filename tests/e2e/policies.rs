//! `kindmesh apply` and `unapply`: what they change, what `up` keeps, and what they do not touch.

use serde_json::Value;

use super::environment::{E2E, Kindmesh};

/// A user's own object with the name of the policy `strict`.
const USER_OBJECT: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: sample-producer, namespace: sample}
spec: {mtls: {mode: PERMISSIVE}}
";

/// Returns the document that a command prints.
fn document(kindmesh: &Kindmesh, arguments: &[&str]) -> Value {
    let output = kindmesh.run(&[arguments, &["--output", "json"]].concat());
    assert_eq!(output.code, 0, "{output:?}");
    serde_json::from_str(&output.stdout).expect(&output.stdout)
}

fn change(kindmesh: &Kindmesh, arguments: &[&str]) -> Value {
    document(kindmesh, arguments)["changes"][0].clone()
}

fn applied_in(kindmesh: &Kindmesh, policy: &str) -> Value {
    let list = document(kindmesh, &["apply", "--list"]);
    let rows = list["policies"].as_array().expect("an array");
    rows.iter().find(|row| row["policy"] == policy).expect(policy)["appliedIn"].clone()
}

#[test]
#[ignore = "needs a container engine and minutes"]
fn up_keeps_policies_that_replaced_no_default() {
    let kindmesh = E2E.up();
    let strict = change(kindmesh, &["apply", "strict"]);
    assert_eq!((&strict["cluster"], &strict["changed"]), (&"cluster2".into(), &true.into()), "{strict}");
    assert_eq!(change(kindmesh, &["apply", "strict"])["changed"], false);
    assert_eq!(change(kindmesh, &["apply", "retry"])["replaced"], "timeout");
    assert_eq!(applied_in(kindmesh, "timeout"), serde_json::json!([]));
    let up = kindmesh.run(&["up"]);
    assert_eq!(up.code, 0, "{up:?}");
    assert_eq!(applied_in(kindmesh, "strict"), serde_json::json!(["cluster2"]));
    assert_eq!(applied_in(kindmesh, "retry"), serde_json::json!([]));
    assert_eq!(applied_in(kindmesh, "timeout"), serde_json::json!(["cluster1"]));
    assert_eq!(change(kindmesh, &["unapply", "strict"])["changed"], true);
    assert_eq!(change(kindmesh, &["unapply", "strict"])["changed"], false);
}

#[test]
#[ignore = "needs a container engine and minutes"]
fn unapply_restores_the_replaced_policy() {
    let kindmesh = E2E.up();
    assert_eq!(change(kindmesh, &["apply", "failover"])["replaced"], "breaker");
    assert_eq!(change(kindmesh, &["unapply", "failover"])["restored"], "breaker");
    assert_eq!(applied_in(kindmesh, "breaker"), serde_json::json!(["cluster1"]));
    // Exactly as `up` created it: `up` has nothing to change.
    let events = kindmesh.json_lines(&["up"]);
    assert!(!events.iter().any(|event| event["changed"] == true), "{events:?}");
}

#[test]
#[ignore = "needs a container engine, kubectl and minutes"]
fn apply_and_unapply_refuse_a_users_object() {
    let kindmesh = E2E.up();
    let file = tempfile::NamedTempFile::new().expect("create a temporary file");
    std::fs::write(file.path(), USER_OBJECT).expect("write the file");
    let path = file.path().display().to_string();
    let created = kindmesh.kubectl("cluster2", &["create", "-f", &path]);
    assert_eq!(created.code, 0, "{created:?}");
    let refused = ["apply", "unapply"].map(|command| kindmesh.run(&[command, "strict"]));
    let mode = kindmesh.kubectl(
        "cluster2",
        &["-n", "sample", "get", "peerauthentication", "sample-producer", "-o", "jsonpath={.spec.mtls.mode}"],
    );
    let deleted = kindmesh.kubectl("cluster2", &["delete", "-f", &path]);
    for output in refused {
        assert_eq!(output.code, 2, "{output:?}");
        assert!(output.stderr.contains("PeerAuthentication sample-producer in cluster cluster2"), "{output:?}");
    }
    assert_eq!((mode.stdout.as_str(), deleted.code), ("PERMISSIVE", 0), "{mode:?} {deleted:?}");
}
