//! The number of requests and processes of an `up` does not grow unnoticed.

#![expect(clippy::unwrap_used, reason = "clippy does not recognize the helpers of tests")]

use std::collections::BTreeMap;

use serde_json::Value;

use crate::environment::{E2E, Kindmesh};

/// Upper limits.
const LIMITS: &str = include_str!("counts.yaml");

/// Returns the counts of the latest recorded run.
fn counts(kindmesh: &Kindmesh) -> BTreeMap<String, u64> {
    let runs = std::fs::read_dir(kindmesh.state().join("runs")).unwrap();
    let newest = runs.map(|entry| entry.unwrap().path()).max().expect("no recorded run");
    let text = std::fs::read_to_string(newest).unwrap();
    let mut events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let event = events.find(|event| event["event"] == "counted").expect("no event `counted`");
    let numbers = event.as_object().unwrap().iter();
    numbers.filter_map(|(key, value)| Some((key.clone(), value.as_u64()?))).collect()
}

#[test]
#[ignore = "needs a container engine and minutes"]
fn unchanged_up_stays_within_count_limits() {
    let kindmesh = E2E.up();
    assert_eq!(kindmesh.run(&["up"]).code, 0);
    assert_eq!(kindmesh.run(&["up"]).code, 0);
    let limits: BTreeMap<String, u64> = serde_yaml::from_str(LIMITS).unwrap();
    let actual = counts(kindmesh);
    println!("{actual:?}");
    assert_eq!(actual.keys().collect::<Vec<_>>(), limits.keys().collect::<Vec<_>>());
    for (key, limit) in &limits {
        assert!(actual[key] <= *limit, "{key} of an unchanged up: {}, limit {limit}", actual[key]);
    }
}
