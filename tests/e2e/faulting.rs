//! Starting faults, and what they leave.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::environment::Kindmesh;

pub const NODES: [&str; 2] = ["e2e-cluster1-control-plane", "e2e-cluster2-control-plane"];

/// Runs `kindmesh fault …` that must succeed.
pub fn fault(kindmesh: &Kindmesh, arguments: &[&str]) {
    let output = kindmesh.run(&[&["fault"], arguments].concat());
    assert_eq!(output.code, 0, "{output:?}");
}

/// Returns the active faults and outages.
pub fn active(kindmesh: &Kindmesh) -> (usize, usize) {
    let status: Value = serde_json::from_str(&kindmesh.run(&["status", "--output", "json"]).stdout).expect("JSON");
    let count = |field: &str| status[field].as_array().map_or(0, Vec::len);
    (count("faults"), count("outages"))
}

/// Waits until a condition holds, for at most a minute.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "timed out waiting for {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
