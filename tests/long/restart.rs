//! Long pauses, short certificate lifetimes, and restarts in every order.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::environment::{E2E, Kindmesh, docker};

const NODES: [&str; 2] = ["e2e-cluster1-control-plane", "e2e-cluster2-control-plane"];

/// Longer than node monitors wait for a node (50 s), and longer than leader leases.
const LONG_PAUSE: Duration = Duration::from_secs(125);

#[test]
#[ignore = "needs a container engine and minutes"]
fn calls_succeed_after_a_long_pause() {
    let kindmesh = E2E.up();
    assert_eq!(kindmesh.run(&["pause"]).code, 0);
    // The pause itself, not a wait for a condition.
    std::thread::sleep(LONG_PAUSE);
    let resumed = Instant::now();
    assert_eq!(kindmesh.run(&["resume"]).code, 0);
    let resume_time = resumed.elapsed();
    let call_started = Instant::now();
    assert_eq!(kindmesh.json_lines(&["call"])[0]["statusCode"], 200);
    println!("resumed after {resume_time:?}, the first call took {:?}", call_started.elapsed());
    assert!(call_started.elapsed() < Duration::from_secs(1), "{:?}", call_started.elapsed());
    // It also keeps working once the node monitors have run.
    let calls = kindmesh.json_lines(&["call", "--count", "40", "--delay-ms", "500"]);
    assert!(calls.iter().all(|call| call["statusCode"] == 200), "{calls:#?}");
}

/// Workload certificates are valid for 90 days, so that a laptop may sleep. Certificates that expire are still renewed.
#[test]
#[ignore = "needs a container engine and minutes"]
fn certificates_expired_during_a_pause_are_renewed() {
    let kindmesh = E2E.up();
    let short_lived = set_certificate_lifetime(kindmesh, Some("40s"));
    assert_eq!(kindmesh.run(&["pause"]).code, 0);
    std::thread::sleep(LONG_PAUSE);
    let resumed = Instant::now();
    docker(&["unpause", NODES[0], NODES[1]]);
    let recovered = kindmesh.wait_for_cross_cluster_call(resumed + Duration::from_secs(120));
    println!("recovered after {:?}", resumed.elapsed());
    set_certificate_lifetime(kindmesh, None);
    assert_eq!(kindmesh.run(&["up"]).code, 0);
    assert!(short_lived, "the certificates are not short-lived");
    assert!(recovered, "not recovered within two minutes");
}

#[test]
#[ignore = "needs a container engine and minutes"]
fn nodes_recover_from_restarts_in_any_order() {
    let kindmesh = E2E.up();
    for restarted in [&[NODES[0]][..], &[NODES[1]], &[NODES[0], NODES[1]], &[NODES[1], NODES[0]]] {
        let mut command = vec!["restart", "-t", "1"];
        command.extend(restarted);
        docker(&command);
        let restart_finished = Instant::now();
        let recovered = kindmesh.wait_for_cross_cluster_call(restart_finished + Duration::from_secs(60));
        println!("{restarted:?}: {:?}", restart_finished.elapsed());
        assert!(recovered, "{restarted:?}: {:?}", kindmesh.run(&["status"]));
    }
}

#[test]
#[ignore = "needs a container engine and minutes"]
fn interrupted_stop_can_be_continued() {
    let kindmesh = E2E.up();
    let mut stop = kindmesh.command(&["stop", "--output", "json"]).stdout(Stdio::piped()).spawn().unwrap();
    let events = BufReader::new(stop.stdout.take().unwrap());
    let mut lines = events.lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains(r#""step":"stop""#)), "it exited before it stopped any node");
    // The nodes are being stopped, which takes seconds.
    let kill = std::process::Command::new("kill").args(["-INT", &stop.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let output = lines.collect::<Vec<_>>().join("\n");
    assert_eq!(stop.wait().unwrap().code(), Some(130), "{output}");
    assert!(output.contains("kindmesh stop --name e2e continues, kindmesh start --name e2e starts"), "{output}");
    for command in ["stop", "start"] {
        let output = kindmesh.run(&[command]);
        assert_eq!(output.code, 0, "{output:?}");
    }
    assert_eq!(kindmesh.run(&["stop"]).code, 0);
    let up = kindmesh.run(&["up"]);
    assert_eq!(up.code, 0, "{up:?}");
    assert_eq!(kindmesh.json_lines(&["call"])[0]["statusCode"], 200);
}

/// Sets or resets the lifetime of the samples' certificates. Returns whether the caller's certificate has it.
fn set_certificate_lifetime(kindmesh: &Kindmesh, lifetime: Option<&str>) -> bool {
    for (cluster, name) in [("cluster1", "sample-caller"), ("cluster2", "sample-producer")] {
        let metadata =
            lifetime.map(|lifetime| format!(r#", \"proxyMetadata\": {{\"SECRET_TTL\": \"{lifetime}\"}}"#));
        let config = format!(r#"{{\"holdApplicationUntilProxyStarts\": true{}}}"#, metadata.unwrap_or_default());
        let patch = format!(
            r#"{{"spec": {{"template": {{"metadata": {{"annotations": {{"proxy.istio.io/config": "{config}"}}}}}}}}}}"#
        );
        let deployment = format!("deploy/{name}");
        let output = kindmesh.kubectl(cluster, &["-n", "sample", "patch", &deployment, "-p", &patch]);
        assert_eq!(output.code, 0, "{output:?}");
        let output = kindmesh.kubectl(cluster, &["-n", "sample", "rollout", "status", &deployment]);
        assert_eq!(output.code, 0, "{output:?}");
    }
    let exec = ["-n", "sample", "exec", "deploy/sample-caller", "-c", "istio-proxy", "--"];
    let certificates = ["pilot-agent", "request", "GET", "certs"];
    let output = kindmesh.kubectl("cluster1", &[&exec[..], &certificates].concat());
    // Envoy prints the number of days left: 0 for less than one.
    lifetime.is_some() == output.stdout.contains(r#""days_until_expiration": "0""#)
}
