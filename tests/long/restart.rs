//! Long pauses, short certificate lifetimes, and restarts in every order.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::environment::{E2E, Kindmesh, docker};

const NODES: [&str; 2] = ["e2e-cluster1-control-plane", "e2e-cluster2-control-plane"];

/// Longer than node monitors wait for a node (50 s), and longer than leader leases.
const LONG_REST: Duration = Duration::from_secs(125);

#[test]
#[ignore = "needs a container engine and minutes"]
fn a_long_pause_is_as_a_short_one() {
    let kindmesh = E2E.up();
    assert_eq!(kindmesh.run(&["pause"]).code, 0);
    // The pause itself, not a wait for a condition.
    std::thread::sleep(LONG_REST);
    let resumed = Instant::now();
    assert_eq!(kindmesh.run(&["resume"]).code, 0);
    let back = resumed.elapsed();
    let called = Instant::now();
    assert_eq!(kindmesh.json_lines(&["call"])[0]["statusCode"], 200);
    println!("resumed after {back:?}, the first call took {:?}", called.elapsed());
    assert!(called.elapsed() < Duration::from_secs(1), "{:?}", called.elapsed());
    // It also keeps working once the node monitors have run.
    let calls = kindmesh.json_lines(&["call", "--count", "40", "--delay-ms", "500"]);
    assert!(calls.iter().all(|call| call["statusCode"] == 200), "{calls:#?}");
}

/// Workload certificates are valid for 90 days, so that a laptop may sleep. Certificates that expire are still renewed.
#[test]
#[ignore = "needs a container engine and minutes"]
fn certificates_that_expired_during_a_pause_are_made_anew() {
    let kindmesh = E2E.up();
    let short = certificates_live(kindmesh, Some("40s"));
    assert_eq!(kindmesh.run(&["pause"]).code, 0);
    std::thread::sleep(LONG_REST);
    let resumed = Instant::now();
    docker(&["unpause", NODES[0], NODES[1]]);
    let healed = kindmesh.calls_until_one_crosses(resumed + Duration::from_secs(120));
    println!("recovered after {:?}", resumed.elapsed());
    certificates_live(kindmesh, None);
    assert_eq!(kindmesh.run(&["up"]).code, 0);
    assert!(short, "the certificates are not short-lived");
    assert!(healed, "not recovered within two minutes");
}

#[test]
#[ignore = "needs a container engine and minutes"]
fn restarts_in_every_order_heal_with_no_command() {
    let kindmesh = E2E.up();
    for restarted in [&[NODES[0]][..], &[NODES[1]], &[NODES[0], NODES[1]], &[NODES[1], NODES[0]]] {
        let mut command = vec!["restart", "-t", "1"];
        command.extend(restarted);
        docker(&command);
        let back = Instant::now();
        let healed = kindmesh.calls_until_one_crosses(back + Duration::from_secs(60));
        println!("{restarted:?}: {:?}", back.elapsed());
        assert!(healed, "{restarted:?}: {:?}", kindmesh.run(&["status"]));
    }
}

#[test]
#[ignore = "needs a container engine and minutes"]
fn an_interrupted_stop_is_gone_on_with() {
    let kindmesh = E2E.up();
    let mut stop = kindmesh.command(&["stop", "--output", "json"]).stdout(Stdio::piped()).spawn().unwrap();
    let events = BufReader::new(stop.stdout.take().unwrap());
    let mut lines = events.lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains(r#""step":"stop""#)), "it exited before it stopped any node");
    // The nodes are being stopped, which takes seconds.
    let interrupted = std::process::Command::new("kill").args(["-INT", &stop.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    let said = lines.collect::<Vec<_>>().join("\n");
    assert_eq!(stop.wait().unwrap().code(), Some(130), "{said}");
    assert!(
        said.contains("kindmesh stop --name e2e goes on, kindmesh start --name e2e brings them back"),
        "{said}"
    );
    for command in ["stop", "start"] {
        let said = kindmesh.run(&[command]);
        assert_eq!(said.code, 0, "{said:?}");
    }
    assert_eq!(kindmesh.run(&["stop"]).code, 0);
    let up = kindmesh.run(&["up"]);
    assert_eq!(up.code, 0, "{up:?}");
    assert_eq!(kindmesh.json_lines(&["call"])[0]["statusCode"], 200);
}

/// Sets or resets the lifetime of the samples' certificates. Returns whether the caller's certificate has it.
fn certificates_live(kindmesh: &Kindmesh, life: Option<&str>) -> bool {
    for (cluster, name) in [("cluster1", "sample-caller"), ("cluster2", "sample-producer")] {
        let metadata = life.map(|life| format!(r#", \"proxyMetadata\": {{\"SECRET_TTL\": \"{life}\"}}"#));
        let config = format!(r#"{{\"holdApplicationUntilProxyStarts\": true{}}}"#, metadata.unwrap_or_default());
        let patch = format!(
            r#"{{"spec": {{"template": {{"metadata": {{"annotations": {{"proxy.istio.io/config": "{config}"}}}}}}}}}}"#
        );
        let deployment = format!("deploy/{name}");
        let said = kindmesh.kubectl(cluster, &["-n", "sample", "patch", &deployment, "-p", &patch]);
        assert_eq!(said.code, 0, "{said:?}");
        let said = kindmesh.kubectl(cluster, &["-n", "sample", "rollout", "status", &deployment]);
        assert_eq!(said.code, 0, "{said:?}");
    }
    let exec = ["-n", "sample", "exec", "deploy/sample-caller", "-c", "istio-proxy", "--"];
    let certificates = ["pilot-agent", "request", "GET", "certs"];
    let said = kindmesh.kubectl("cluster1", &[&exec[..], &certificates].concat());
    // Envoy prints the number of days left: 0 for less than one.
    life.is_some() == said.stdout.contains(r#""days_until_expiration": "0""#)
}
