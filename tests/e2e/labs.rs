//! `kindmesh lab`: a random exercise, and hints.

use super::environment::{E2E, seed};
use super::lab::{document, run_exercise};

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
