//! Pause, stop and restarts: one command brings nodes back, and a restart of nodes recovers without a command.

#![expect(clippy::unwrap_used, reason = "clippy does not recognize the helpers of tests")]

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::environment::{E2E, Kindmesh, restart_with_swapped_addresses};

const NODES: [&str; 2] = ["e2e-cluster1-control-plane", "e2e-cluster2-control-plane"];

#[test]
#[ignore = "needs a container engine and minutes"]
fn calls_succeed_within_two_seconds_of_resume() {
    let kindmesh = E2E.up();
    for _again in 0..2 {
        assert_eq!(kindmesh.run(&["pause"]).code, 0);
        assert_refused_with_hint(kindmesh, "paused", "kindmesh resume --name e2e");
    }
    let resumed = Instant::now();
    let resume = kindmesh.json_lines(&["resume"]);
    assert_eq!(kindmesh.json_lines(&["call"])[0]["statusCode"], 200);
    // The requirement is for the first call after `resume`; in this test, both together meet it.
    let elapsed = resumed.elapsed();
    assert!(elapsed < Duration::from_secs(2), "{elapsed:?}: {resume:?}");
    assert_eq!(resume.last().unwrap()["event"], "ready");
    let again = kindmesh.json_lines(&["resume"]);
    assert!(again.iter().all(|event| event["changed"] != true), "{again:?}");
}

#[test]
#[ignore = "needs a container engine and minutes"]
fn start_recovers_a_stopped_environment() {
    let kindmesh = E2E.up();
    // Frozen nodes can be stopped, too.
    for command in ["pause", "stop", "stop"] {
        let output = kindmesh.run(&[command]);
        assert_eq!(output.code, 0, "{output:?}");
    }
    assert_refused_with_hint(kindmesh, "stopped", "kindmesh start --name e2e");
    let start = kindmesh.json_lines(&["start"]);
    println!("start took {} s", start.last().unwrap()["seconds"]);
    assert_eq!(kindmesh.json_lines(&["call"])[0]["statusCode"], 200);
}

#[test]
#[ignore = "needs a container engine and minutes"]
fn up_resumes_a_paused_environment() {
    let kindmesh = E2E.up();
    assert_eq!(kindmesh.run(&["pause"]).code, 0);
    let up = kindmesh.json_lines(&["up"]);
    assert_eq!(up.last().unwrap()["event"], "ready");
    assert_eq!(kindmesh.json_lines(&["call"])[0]["statusCode"], 200);
}

#[test]
#[ignore = "needs a container engine and minutes"]
fn failed_test_leaves_no_paused_environment() {
    let failed = std::panic::catch_unwind(|| {
        assert_eq!(E2E.up().run(&["pause"]).code, 0);
        panic!("a failing test");
    });
    assert!(failed.is_err());
    assert_eq!(E2E.up().json_lines(&["call"])[0]["statusCode"], 200);
}

#[test]
#[ignore = "needs a container engine and minutes"]
fn nodes_with_swapped_addresses_recover() {
    let kindmesh = E2E.up();
    let started = Instant::now();
    restart_with_swapped_addresses(NODES);
    let recovered = kindmesh.wait_for_cross_cluster_call(started + Duration::from_secs(60));
    println!("recovered after {:?}", started.elapsed());
    assert!(recovered, "not recovered within a minute: {:?}", kindmesh.run(&["status"]));
    kindmesh.istio_is_in_sync(&["cluster1", "cluster2"], &["cluster1", "cluster2"]);
}

/// While nodes are paused or stopped, commands fail at once and name the command that brings them back.
fn assert_refused_with_hint(kindmesh: &Kindmesh, phase: &str, recovery_command: &str) {
    let status = kindmesh.run(&["status", "--output", "json"]);
    let status: Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!(status["phase"], phase);
    let hints: Vec<_> = status["layers"].as_array().unwrap().iter().filter_map(|l| l["hint"].as_str()).collect();
    assert!(!hints.is_empty() && hints.iter().all(|hint| *hint == recovery_command), "{hints:?}");
    let list = kindmesh.run(&["list"]).stdout;
    assert!(list.contains(recovery_command), "{list}");
    for command in [&["call"][..], &["verify"], &["apply", "retry"], &["unapply", "retry"], &["open"]] {
        let started = Instant::now();
        let output = kindmesh.run(command);
        assert_eq!(output.code, 1, "{command:?}: {output:?}");
        assert!(
            output.stderr.contains(phase) && output.stderr.contains(recovery_command),
            "{command:?}: {output:?}"
        );
        assert!(started.elapsed() < Duration::from_secs(5), "{command:?} took {:?}", started.elapsed());
    }
}
