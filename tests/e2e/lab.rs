//! One exercise from start to end, with its solution applied by `lab solve`.

#![expect(clippy::unwrap_used, reason = "clippy does not recognize the helpers of tests")]

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::environment::Kindmesh;

/// How long each step of an exercise took.
#[derive(Debug)]
#[expect(dead_code, reason = "printed with Debug")]
pub struct Took {
    start: Duration,
    check_that_fails: Duration,
    solve: Duration,
    check_that_passes: Duration,
    reset: Duration,
}

/// Returns the document that a command prints, and asserts its exit status.
pub fn document(kindmesh: &Kindmesh, arguments: &[&str], code: i32) -> Value {
    let said = kindmesh.run(&[arguments, &["--output", "json"]].concat());
    assert_eq!(said.code, code, "{arguments:?}: {said:?}");
    serde_json::from_str(&said.stdout).expect(&said.stdout)
}

/// Starts an exercise, checks that it fails as described, solves it, checks that it passes, and resets.
pub fn through(kindmesh: &Kindmesh, number: usize) -> Took {
    let timed = |arguments: &[&str], code: i32| {
        let began = Instant::now();
        (document(kindmesh, arguments, code), began.elapsed())
    };
    let (begun, start) = timed(&["lab", "start", &number.to_string()], 0);
    for point in begun["checkpoints"].as_array().unwrap() {
        assert_eq!(point["asAtFirst"], true, "{number}: {point}");
    }
    let (failed, check_that_fails) = timed(&["lab", "check"], 3);
    assert_eq!(failed["passed"], false);
    let first = &failed["checkpoints"][0];
    assert_eq!((&first["works"], &first["asAtFirst"]), (&false.into(), &true.into()), "{number}: {first}");
    let (_, solve) = timed(&["lab", "solve"], 0);
    let (passed, check_that_passes) = timed(&["lab", "check"], 0);
    for point in passed["checkpoints"].as_array().unwrap() {
        assert_eq!(point["works"], true, "{number}: {point}");
    }
    let (_, reset) = timed(&["lab", "reset"], 0);
    assert_eq!(document(kindmesh, &["lab", "progress"], 0)["current"], Value::Null);
    Took { start, check_that_fails, solve, check_that_passes, reset }
}
