//! Every exercise, mistakes, switching from one exercise to another, and independent seats.

use serde_json::Value;

use crate::environment::{E2E, Kindmesh};
use crate::lab::{document, run_exercise};

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

#[test]
#[ignore = "needs a container engine and minutes"]
fn every_exercise_fails_as_described_and_then_works() {
    let kindmesh = E2E.up();
    let exercise_count =
        document(kindmesh, &["lab", "list"], 0)["exercises"].as_array().map(Vec::len).expect("an array");
    for number in 1..=exercise_count {
        println!("exercise {number}: {:?}", run_exercise(kindmesh, number));
        assert_eq!(kindmesh.run(&["call", "--expect", "200"]).code, 0, "after exercise {number}");
    }
    let events = kindmesh.json_lines(&["up"]);
    assert!(!events.iter().any(|event| event["changed"] == true), "{events:?}");
}

#[test]
#[ignore = "needs a container engine and minutes"]
fn seats_are_independent() {
    let seats = [Kindmesh::named("e2e-seat1"), Kindmesh::named("e2e-seat2")];
    let report = document(&seats[0], &["lab", "seats", "2", "--prefix", "e2e-seat"], 0);
    assert_eq!(report["seats"][1]["environment"], "e2e-seat2", "{report}");
    for seat in &seats {
        assert!(seat.run(&["call"]).stderr.contains("is paused"), "the seat is not paused");
        assert_eq!(seat.run(&["resume"]).code, 0);
    }
    document(&seats[0], &["lab", "start", "2"], 0);
    document(&seats[1], &["lab", "start", "6"], 0);
    document(&seats[0], &["lab", "solve"], 0);
    assert_eq!(document(&seats[0], &["lab", "check"], 0)["exercise"]["number"], 2);
    assert_eq!(document(&seats[1], &["lab", "check"], 3)["exercise"]["number"], 6);
    document(&seats[1], &["lab", "solve"], 0);
    document(&seats[0], &["lab", "start", "1"], 0);
    assert_eq!(document(&seats[1], &["lab", "check"], 0)["exercise"]["number"], 6);
    for seat in &seats {
        assert_eq!(seat.run(&["down"]).code, 0);
    }
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

fn apply(kindmesh: &Kindmesh, cluster: &str, manifest: &str) {
    let file = tempfile::NamedTempFile::new().expect("create a temporary file");
    std::fs::write(file.path(), manifest).expect("write the file");
    let output = kindmesh.kubectl(cluster, &["apply", "-f", &file.path().display().to_string()]);
    assert_eq!(output.code, 0, "{output:?}");
}
