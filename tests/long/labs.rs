//! Every exercise, and independent seats.

use crate::environment::{E2E, Kindmesh};
use crate::lab::{document, run_exercise};

#[test]
#[ignore = "needs a container engine and minutes"]
fn every_exercise_fails_as_described_and_then_works() {
    let kindmesh = E2E.up();
    let exercise_count =
        document(kindmesh, &["lab", "list"], 0)["exercises"].as_array().map(Vec::len).expect("an array");
    for number in 1..=exercise_count {
        println!("exercise {number}: {:?}", run_exercise(kindmesh, number));
        assert_eq!(kindmesh.run(&["call", "--expect", "200"]).code, 0, "after exercise {number}");
    }
    let events = kindmesh.json_lines(&["up"]);
    assert!(!events.iter().any(|event| event["changed"] == true), "{events:?}");
}

#[test]
#[ignore = "needs a container engine and minutes"]
fn seats_are_independent() {
    let seats = [Kindmesh::named("e2e-seat1"), Kindmesh::named("e2e-seat2")];
    let report = document(&seats[0], &["lab", "seats", "2", "--prefix", "e2e-seat"], 0);
    assert_eq!(report["seats"][1]["environment"], "e2e-seat2", "{report}");
    for seat in &seats {
        assert!(seat.run(&["call"]).stderr.contains("is paused"), "the seat is not paused");
        assert_eq!(seat.run(&["resume"]).code, 0);
    }
    document(&seats[0], &["lab", "start", "2"], 0);
    document(&seats[1], &["lab", "start", "6"], 0);
    document(&seats[0], &["lab", "solve"], 0);
    assert_eq!(document(&seats[0], &["lab", "check"], 0)["exercise"]["number"], 2);
    assert_eq!(document(&seats[1], &["lab", "check"], 3)["exercise"]["number"], 6);
    document(&seats[1], &["lab", "solve"], 0);
    document(&seats[0], &["lab", "start", "1"], 0);
    assert_eq!(document(&seats[1], &["lab", "check"], 0)["exercise"]["number"], 6);
    for seat in &seats {
        assert_eq!(seat.run(&["down"]).code, 0);
    }
}
