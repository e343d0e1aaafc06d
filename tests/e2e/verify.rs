//! `verify`: all claims hold, a broken one is found, and nothing is left behind.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::environment::{E2E, Kindmesh, seed};
use crate::open::PageServer;
use crate::sabotage::{self, failed_checks};

#[test]
#[ignore = "needs a container engine and minutes"]
fn every_claim_holds() {
    let output = E2E.up().run(&["verify", "--output", "json"]);
    let verdicts: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!((output.code, &verdicts["passed"]), (0, &Value::from(20)), "{verdicts:#}");
    assert_eq!(check_namespaces(E2E.up()), "");
}

/// One of the sabotages, a different one in each run; tests/long runs all.
#[test]
#[ignore = "needs a container engine and minutes"]
fn verify_fails_when_a_claim_is_broken() {
    let checks = sabotage::policy_checks();
    let id = &checks[seed() as usize % checks.len()];
    assert_eq!(failed_checks(E2E.up(), &[id, "link.pods"], Some(id)), [id.as_str()]);
}

#[test]
#[ignore = "needs a container engine and minutes"]
fn interrupted_verify_leaves_nothing_behind() {
    let kindmesh = E2E.up();
    let mut verify =
        kindmesh.command(&["verify", "-v"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(verify.stderr.take().unwrap()).lines();
    // While it creates what it needs.
    let waits_for_caller = lines.by_ref().any(|line| line.unwrap().contains("caller to be ready"));
    assert!(waits_for_caller);
    assert_ne!(check_namespaces(kindmesh), "");
    let pid = verify.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let _: Vec<_> = lines.collect();
    assert_eq!(verify.wait().unwrap().code(), Some(130));
    assert_eq!(check_namespaces(kindmesh), "");
}

#[test]
#[ignore = "needs a container engine and minutes"]
fn interrupted_dashboard_cleans_up_its_verification() {
    let kindmesh = E2E.up();
    let ui = PageServer::serve(kindmesh, "ui");
    let (address, token) = ui.url.strip_prefix("http://").unwrap().split_once("/#").unwrap();
    let mut server = TcpStream::connect(address).unwrap();
    write!(
        server,
        "POST /api/verify HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: 0\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    server.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let deadline = Instant::now() + Duration::from_secs(60);
    while check_namespaces(kindmesh).is_empty() {
        assert!(Instant::now() < deadline, "no namespace was created");
    }
    // Deleting namespaces with pods takes seconds.
    assert_eq!(ui.interrupt(Duration::from_secs(60)), Some(130));
    assert_eq!(check_namespaces(kindmesh), "");
}

/// Returns the namespaces of checks in the clusters.
fn check_namespaces(kindmesh: &Kindmesh) -> String {
    ["cluster1", "cluster2"]
        .map(|cluster| {
            let label = "app.kubernetes.io/part-of=kindmesh-verify";
            let output = kindmesh.kubectl(cluster, &["get", "namespaces", "-l", label, "-o", "name"]);
            assert_eq!(output.code, 0, "{output:?}");
            output.stdout
        })
        .concat()
}
