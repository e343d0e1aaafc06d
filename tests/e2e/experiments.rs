//! Experiments: calls are counted, faults act and end, expectations are judged, and nothing is left.

use serde_json::Value;

use crate::environment::{E2E, seed};
use crate::experimenting::{file, run, statuses, traces};

#[test]
#[ignore = "needs a container engine, kubectl and minutes"]
fn expectations_are_judged_by_lost_calls() {
    let kindmesh = E2E.up();
    let before = traces(kindmesh);
    let fault = ["cut", "partition"][usize::from(seed() % 2 == 1)];
    let path = file(
        "experiment.yaml",
        &format!(
            "name: quick\ncalls: {{from: cluster1, qps: 20, for: 20s, timeout: 2s}}\npolicies: [retry]\n\
             faults: [{{at: 5s, fault: {fault}, between: [cluster1, cluster2], for: 3s}}]\n\
             expect: {{lost: 0%, p99: 10s, backAfterEnd: 10s}}\n"
        ),
    );
    let reports = tempfile::tempdir().expect("a directory");
    let (output, document) = run(kindmesh, path.to_str().expect("text"), reports.path());
    // Nothing passes for three seconds, so calls with a timeout of two are lost; when it is over, they are answered again.
    assert_eq!(output.code, 3, "{output:?}");
    let expected = [("lost", "failed"), ("p99", "passed"), ("backAfterEnd", "passed")];
    assert_eq!(statuses(&document), expected.map(|(id, status)| (id.to_owned(), status.to_owned())), "{output:?}");
    // Open loop: each call was sent at its time, also while no call was answered.
    let sent = document["sent"].as_array().expect("calls");
    assert_eq!(sent.len(), 400);
    let due = |call: &Value| call["atMillis"].as_f64().expect("a time");
    assert!(sent.iter().enumerate().all(|(number, call)| (due(call) - 50.0 * number as f64).abs() < 0.01));
    let lost: Vec<f64> = sent.iter().filter(|call| call["status"] != 200).map(due).collect();
    let happened = &document["happened"][0];
    let (begin, end) = (happened["begin"].as_f64().expect("a begin"), happened["end"].as_f64().expect("an end"));
    assert!(begin >= 5.0 && end > begin, "{happened}");
    // A call that was sent up to its timeout before the fault may be lost, too.
    assert!(lost.iter().all(|at| *at >= (begin - 2.0) * 1000.0), "{begin}: {lost:?}");
    assert_eq!(traces(kindmesh), before);
}

#[test]
#[ignore = "needs a container engine and minutes"]
fn an_experiment_without_working_calls_has_no_verdict() {
    let kindmesh = E2E.up();
    let text = "name: broken\ncalls: {from: cluster1, qps: 5, for: 20s}\npolicies: [authz]\n\
        faults: [{at: 10s, fault: cut, between: [cluster1, cluster2], for: 3s}]\nexpect: {lost: 100%}\n";
    let path = file("experiment-broken.yaml", text);
    let reports = tempfile::tempdir().expect("a directory");
    let report = format!("json={}/json", reports.path().display());
    // Only the sample caller may call, and the probe is another identity.
    let output =
        kindmesh.run(&["experiment", path.to_str().expect("text"), "--report", &report, "--timeout", "20s"]);
    assert_eq!(output.code, 1, "{output:?}");
    assert!(output.stderr.contains("calls fail") && output.stderr.contains("RBAC: access denied"), "{output:?}");
    assert!(!reports.path().join("json").exists());
    assert_eq!(kindmesh.run(&["fault", "list"]).stdout, "No faults are active.\n");
}
