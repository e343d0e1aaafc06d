//! `kindmesh lab`: a random exercise, mistakes, and switching from one exercise to another.

use serde_json::Value;

use super::environment::{E2E, Kindmesh, seed};
use super::lab::{document, run_exercise};

/// A possible solution of exercise 6, applied where it has no effect.
const TIMEOUT_POLICY: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: sample-producer, namespace: sample}
spec: {hosts: [sample-producer], http: [{route: [{destination: {host: sample-producer}}], timeout: 2s}]}
";

/// An object that no exercise uses.
const UNRELATED_OBJECT: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: somebody-elses, namespace: sample}
spec: {hosts: [elsewhere], http: [{route: [{destination: {host: elsewhere}}]}]}
";

/// A different exercise in each run; tests/long runs all.
#[test]
#[ignore = "needs a container engine and minutes"]
fn an_exercise_fails_as_described_and_then_works() {
    let kindmesh = E2E.up();
    let exercise_count =
        document(kindmesh, &["lab", "list"], 0)["exercises"].as_array().map(Vec::len).expect("an array");
    let number = 1 + seed() as usize % exercise_count;
    println!("exercise {number}: {:?}", run_exercise(kindmesh, number));
    // Everything is exactly as `up` created it.
    let events = kindmesh.json_lines(&["up"]);
    assert!(!events.iter().any(|event| event["changed"] == true), "{events:?}");
}

#[test]
#[ignore = "needs a container engine, kubectl and minutes"]
fn mistakes_are_reported_and_cleaned_up_by_next_exercise() {
    let kindmesh = E2E.up();
    // The random exercise of another test may have been this one, with its solution shown.
    document(kindmesh, &["lab", "reset", "--forget"], 0);
    document(kindmesh, &["lab", "start", "6"], 0);
    apply(kindmesh, "cluster2", TIMEOUT_POLICY);
    let failing = document(kindmesh, &["lab", "check"], 3);
    let expected =
        "VirtualService sample-producer is in cluster2, but takes effect in the caller's cluster: cluster1";
    assert_eq!(failing["different"][0], expected, "{failing}");

    // In the right cluster, applied by the learner: it counts, whoever applied it.
    apply(kindmesh, "cluster1", TIMEOUT_POLICY);
    let passing = document(kindmesh, &["lab", "check"], 0);
    assert_eq!(passing["passed"], true);
    let progress = document(kindmesh, &["lab", "progress"], 0);
    assert_eq!(progress["exercises"]["06-timeout"]["shown"], false, "{progress}");

    // Another exercise cleans all of it up, and keeps a copy of the learner's objects.
    apply(kindmesh, "cluster1", UNRELATED_OBJECT);
    let exercise = document(kindmesh, &["lab", "start", "2"], 0);
    let change_of = |cluster: &str, object: &str| -> Value {
        let changes = exercise["changes"].as_array().expect("an array");
        let matches = |change: &&Value| change["cluster"] == cluster && change["what"] == object;
        changes.iter().find(matches).unwrap_or_else(|| panic!("{object} in {cluster}: {changes:?}")).clone()
    };
    for cluster in ["cluster1", "cluster2"] {
        let change = change_of(cluster, "VirtualService sample-producer");
        assert_eq!(change["became"], "deleted", "{change}");
        let copy = std::fs::read_to_string(change["kept"].as_str().expect("a copy")).expect("a copy");
        assert!(copy.contains("timeout: 2s"), "{copy}");
    }
    assert_eq!(change_of("cluster1", "VirtualService somebody-elses")["became"], "leftAlone");
    let arguments = ["-n", "sample", "delete", "virtualservice", "somebody-elses"];
    assert_eq!(kindmesh.kubectl("cluster1", &arguments).code, 0);

    // From a state without a Service to one with a stopped cluster, and on.
    document(kindmesh, &["lab", "start", "10"], 0);
    let exercise = document(kindmesh, &["lab", "start", "4"], 0);
    let cluster_started =
        exercise["changes"].as_array().expect("array").iter().any(|change| change["became"] == "started");
    assert!(cluster_started, "{exercise}");
    document(kindmesh, &["lab", "reset", "--forget"], 0);
    assert_eq!(document(kindmesh, &["lab", "progress"], 0)["exercises"], serde_json::json!({}));
    assert_eq!(kindmesh.run(&["call", "--expect", "200"]).code, 0);
}

#[test]
#[ignore = "needs a container engine and minutes"]
fn hints_are_shown_one_by_one() {
    let kindmesh = E2E.up();
    document(kindmesh, &["lab", "start", "2"], 0);
    let hint_count =
        |_| document(kindmesh, &["lab", "hint"], 0)["hints"].as_array().map(Vec::len).expect("an array");
    assert_eq!([1, 2, 3, 4].map(hint_count), [1, 2, 3, 3]);
    document(kindmesh, &["lab", "reset"], 0);
    assert_eq!(kindmesh.run(&["lab", "check"]).code, 2);
}

fn apply(kindmesh: &Kindmesh, cluster: &str, manifest: &str) {
    let file = tempfile::NamedTempFile::new().expect("create a temporary file");
    std::fs::write(file.path(), manifest).expect("write the file");
    let output = kindmesh.kubectl(cluster, &["apply", "-f", &file.path().display().to_string()]);
    assert_eq!(output.code, 0, "{output:?}");
}
