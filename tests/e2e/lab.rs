//! One exercise from start to end, with its solution applied by `lab solve`.

#![expect(clippy::unwrap_used, reason = "clippy does not recognize the helpers of tests")]

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::environment::Kindmesh;

/// How long each step of an exercise took.
#[derive(Debug)]
#[expect(dead_code, reason = "printed with Debug")]
pub struct Durations {
    start: Duration,
    failing_check: Duration,
    solve: Duration,
    passing_check: Duration,
    reset: Duration,
}

/// Returns the document that a command prints, and asserts its exit status.
pub fn document(kindmesh: &Kindmesh, arguments: &[&str], code: i32) -> Value {
    let output = kindmesh.run(&[arguments, &["--output", "json"]].concat());
    assert_eq!(output.code, code, "{arguments:?}: {output:?}");
    serde_json::from_str(&output.stdout).expect(&output.stdout)
}

/// Starts an exercise, checks that it fails as described, solves it, checks that it passes, and resets.
pub fn run_exercise(kindmesh: &Kindmesh, number: usize) -> Durations {
    let timed = |arguments: &[&str], code: i32| {
        let started = Instant::now();
        (document(kindmesh, arguments, code), started.elapsed())
    };
    let (exercise, start) = timed(&["lab", "start", &number.to_string()], 0);
    for check in exercise["checkpoints"].as_array().unwrap() {
        assert_eq!(check["asAtFirst"], true, "{number}: {check}");
    }
    let (failing, failing_check) = timed(&["lab", "check"], 3);
    assert_eq!(failing["passed"], false);
    let first = &failing["checkpoints"][0];
    assert_eq!((&first["works"], &first["asAtFirst"]), (&false.into(), &true.into()), "{number}: {first}");
    let (_, solve) = timed(&["lab", "solve"], 0);
    let (passing, passing_check) = timed(&["lab", "check"], 0);
    for check in passing["checkpoints"].as_array().unwrap() {
        assert_eq!(check["works"], true, "{number}: {check}");
    }
    let (_, reset) = timed(&["lab", "reset"], 0);
    assert_eq!(document(kindmesh, &["lab", "progress"], 0)["current"], Value::Null);
    Durations { start, failing_check, solve, passing_check, reset }
}
