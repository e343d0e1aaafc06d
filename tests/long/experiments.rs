//! The experiments that kindmesh brings, an expectation that does not hold, and an interrupt.

#![expect(clippy::print_stdout, reason = "the results go into docs/tested.md")]

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::environment::{E2E, Kindmesh, Temporary};
use crate::experimenting::{file, run, statuses, traces};

/// The environment that the error of `zone-loss` offers.
const ZONES: &str = "
clusters:
  - {name: cluster1, region: region1, zone: zone1}
  - {name: cluster2, region: region1, zone: zone2}
  - {name: cluster3, region: region2, zone: zone3}
samples:
  caller: {clusters: [cluster1]}
  producer: {clusters: [cluster2, cluster3]}
";

/// Runs an experiment that must hold, and returns its document. Its reports are kept, to be looked at.
fn holds(kindmesh: &Kindmesh, experiment: &str) -> Value {
    let reports = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("experiments").join(experiment);
    std::fs::create_dir_all(&reports).expect("a directory");
    let (output, document) = run(kindmesh, experiment, &reports);
    println!("{}", output.stdout);
    assert_eq!(output.code, 0, "{output:?}");
    let statuses = statuses(&document);
    assert!(!statuses.is_empty() && statuses.iter().all(|(_, status)| status == "passed"), "{statuses:?}");
    document
}

#[test]
#[ignore = "needs a container engine, 6 GB of memory and minutes"]
fn loss_of_a_zone_is_survived_by_failover() {
    let kindmesh = E2E.up();
    let refused = kindmesh.run(&["experiment", "zone-loss"]);
    assert!(refused.code == 2 && refused.stderr.contains("there is no cluster cluster3"), "{refused:?}");
    let environment = Temporary::up("e2e-zones", ZONES);
    let before = traces(&environment.kindmesh);
    let document = holds(&environment.kindmesh, "zone-loss");
    assert_eq!(document["happened"][0]["what"], "all nodes in zone2 killed");
    assert_eq!(traces(&environment.kindmesh), before);
}

#[test]
#[ignore = "needs a container engine, kubectl and minutes"]
fn retries_hide_a_lossy_link() {
    let kindmesh = E2E.up();
    let before = traces(kindmesh);
    let document = holds(kindmesh, "lossy-link");
    // Packets were lost: TCP repeats a packet after 200 ms at the earliest.
    let slowest = document["tally"]["latencyMillis"]["max"].as_f64().unwrap();
    assert!(slowest >= 200.0, "{slowest}");
    assert_eq!(traces(kindmesh), before);
}

#[test]
#[ignore = "needs a container engine, kubectl and minutes"]
fn rollout_without_istiod_loses_no_call_unless_it_is_the_callers() {
    let kindmesh = E2E.up();
    let pods = || {
        let ready = ["-n", "sample", "get", "pods", "-l", "app=sample-producer", "-o", "name"];
        kindmesh.kubectl("cluster2", &ready).stdout
    };
    let before = pods();
    holds(kindmesh, "istiod-rollout");
    let deadline = Instant::now() + Duration::from_secs(60);
    while before.lines().any(|pod| pods().contains(pod)) {
        assert!(Instant::now() < deadline, "the rollout has not ended: {}", pods());
        std::thread::sleep(Duration::from_millis(500));
    }
    // With the other istiod, the expectation must not hold.
    let text = kindmesh.run(&["experiment", "istiod-rollout", "--print"]).stdout;
    let changed = text.replace("kill-istiod, cluster: cluster2", "kill-istiod, cluster: cluster1");
    assert_ne!(text, changed);
    let reports = tempfile::tempdir().unwrap();
    let path = file("istiod-of-the-caller.yaml", &changed);
    let (output, document) = run(kindmesh, path.to_str().unwrap(), reports.path());
    assert_eq!(output.code, 3, "{output:?}");
    assert_eq!(statuses(&document)[0], ("lost".to_owned(), "failed".to_owned()));
    let ready = kindmesh.run(&["up"]);
    assert_eq!(ready.code, 0, "{ready:?}");
}

#[test]
#[ignore = "needs a container engine, kubectl and minutes"]
fn interrupted_experiment_leaves_nothing() {
    let kindmesh = E2E.up();
    let before = traces(kindmesh);
    let mut command = kindmesh.command(&["experiment", "lossy-link"]).spawn().unwrap();
    let is_active = || kindmesh.run(&["fault", "list"]).stdout.contains("10 % of packets lost");
    let deadline = Instant::now() + Duration::from_secs(90);
    while !is_active() {
        assert!(Instant::now() < deadline && command.try_wait().unwrap().is_none(), "no fault was injected");
        std::thread::sleep(Duration::from_millis(500));
    }
    assert!(Command::new("kill").args(["-INT", &command.id().to_string()]).status().unwrap().success());
    assert_eq!(command.wait().unwrap().code(), Some(130));
    assert_eq!(traces(kindmesh), before);
}
