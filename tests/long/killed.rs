//! `kill -9` at every event of `up` and `down`, and at random moments: the next `up` converges, the next `down` leaves
//! nothing behind.

#![expect(clippy::print_stdout, reason = "what was killed when, printed with --nocapture")]

use std::time::{Duration, Instant};

use crate::environment::{Kindmesh, seed};
use crate::killing::{Leftovers, RunningCommand, StepEvent, first_starts};

/// No run takes this long.
const RUN_TIMEOUT: Duration = Duration::from_secs(600);
/// The number of random moments.
const RANDOM_KILLS: u32 = 10;

/// `up` without a template.
const CREATE: &[&str] = &["up", "--fresh"];
/// `up` from a template, if there is one.
const UP: &[&str] = &["up"];

/// One cycle of an environment: `up` is killed, the next one converges, `down` is killed, the next one leaves nothing behind.
struct Cycle<'a> {
    kindmesh: &'a Kindmesh,
    /// The events of a `down`; each cycle kills it at another one.
    down_events: &'a [StepEvent],
}

impl Cycle<'_> {
    fn run(&self, kill_point: &str, turn: usize, converge: bool, kill: impl FnOnce() -> bool) {
        let before = Leftovers::now(self.kindmesh);
        let started = Instant::now();
        let killed = kill();
        let up = if converge {
            let up = self.kindmesh.run(&["up"]);
            assert_eq!(up.code, 0, "up after {kill_point}: {}", up.stderr);
            assert_eq!(self.kindmesh.json_lines(&["call"])[0]["statusCode"], 200, "after {kill_point}");
            "up converged, "
        } else {
            ""
        };
        let kill_event = &self.down_events[turn % self.down_events.len()];
        RunningCommand::start(self.kindmesh, &["down"]).kill_at(|event| event == kill_event, RUN_TIMEOUT);
        let down = self.kindmesh.run(&["down"]);
        assert_eq!(down.code, 0, "down after {kill_point}, and after {kill_event}: {}", down.stderr);
        assert_eq!(Leftovers::now(self.kindmesh), before, "after {kill_point}, and {kill_event}");
        let killed = if killed { "killed" } else { "NOT killed: it had already exited" };
        println!(
            "{kill_point}: {killed}; {up}down killed at {kill_event}, nothing left behind; {:?}",
            started.elapsed()
        );
    }
}

#[test]
#[ignore = "needs a container engine and most of an hour"]
fn up_and_down_recover_from_kill_at_any_event() {
    let kindmesh = Kindmesh::named("e2e-killed");
    let before = Leftovers::now(&kindmesh);
    let up_events = RunningCommand::start(&kindmesh, CREATE).finish();
    let down_events = RunningCommand::start(&kindmesh, &["down"]).finish();
    assert_eq!(Leftovers::now(&kindmesh), before);
    let cycle = Cycle { kindmesh: &kindmesh, down_events: &down_events };

    // Cycles of seconds, without a second `up`: every event before the first cluster exists.
    let first_cluster_ready = up_events.iter().position(|event| event.is_end_of("cluster")).unwrap();
    for (turn, kill_event) in up_events[..first_cluster_ready].iter().enumerate() {
        cycle.run(&kill_event.to_string(), turn, false, || {
            RunningCommand::start(&kindmesh, CREATE).kill_at(|event| event == kill_event, RUN_TIMEOUT)
        });
    }
    // Cycles with a second `up`: each kind of step, killed while it runs.
    for (turn, kill_event) in first_starts(&up_events).into_iter().enumerate() {
        cycle.run(&kill_event.to_string(), turn, true, || {
            RunningCommand::start(&kindmesh, CREATE).kill_at(|event| event == kill_event, RUN_TIMEOUT)
        });
    }
}

#[test]
#[ignore = "needs a container engine and a quarter of an hour"]
fn up_and_down_recover_from_kill_at_random_times() {
    kill_at_random_times(CREATE);
}

#[test]
#[ignore = "needs a container engine and ten minutes"]
fn up_from_a_template_and_down_recover_from_kill_at_random_times() {
    let kindmesh = Kindmesh::named("e2e-killed");
    RunningCommand::start(&kindmesh, UP).finish();
    assert_eq!(kindmesh.run(&["down"]).code, 0);
    kill_at_random_times(UP);
}

fn kill_at_random_times(up: &[&str]) {
    let kindmesh = Kindmesh::named("e2e-killed");
    let started = Instant::now();
    RunningCommand::start(&kindmesh, up).finish();
    let up_duration = started.elapsed();
    let down_events = RunningCommand::start(&kindmesh, &["down"]).finish();
    let cycle = Cycle { kindmesh: &kindmesh, down_events: &down_events };
    let mut random = Random(seed());
    for turn in 0..RANDOM_KILLS {
        let after = random.part_of(up_duration);
        cycle.run(&format!("{after:.1?}"), turn as usize, true, || {
            RunningCommand::start(&kindmesh, up).kill_at(|_| false, after)
        });
    }
}

#[test]
#[ignore = "needs a container engine and ten minutes"]
fn snapshot_save_and_restore_recover_from_kill_at_random_times() {
    let kindmesh = Kindmesh::named("e2e-killed");
    assert_eq!(kindmesh.run(UP).code, 0);
    let (save, restore) = (&["snapshot", "save", "e2e-killed"], &["snapshot", "restore", "e2e-killed"]);
    let remove = || kindmesh.run(&["snapshot", "remove", "e2e-killed"]);
    remove();
    let mut random = Random(seed());
    for _ in 0..RANDOM_KILLS / 2 {
        let after = random.part_of(Duration::from_secs(4));
        let killed = RunningCommand::start(&kindmesh, save).kill_at(|_| false, after);
        assert_eq!(kindmesh.json_lines(&["call"])[0]["statusCode"], 200, "after {after:.1?} of save");
        // What is listed is whole.
        let saved = kindmesh.run(&["snapshot", "show", "e2e-killed"]).code == 0;
        println!("save killed after {after:.1?}: {killed}, saved: {saved}");
        remove();
    }
    assert_eq!(kindmesh.run(save).code, 0);
    for _ in 0..RANDOM_KILLS / 2 {
        let after = random.part_of(Duration::from_secs(20));
        let killed = RunningCommand::start(&kindmesh, restore).kill_at(|_| false, after);
        let restored = kindmesh.run(restore);
        assert_eq!(restored.code, 0, "after {after:.1?} of restore: {restored:?}");
        assert_eq!(kindmesh.json_lines(&["call"])[0]["statusCode"], 200, "after {after:.1?} of restore");
        println!("restore killed after {after:.1?}: {killed}, the next one converged");
    }
    remove();
    assert_eq!(kindmesh.run(&["down"]).code, 0);
}

/// Knuth's generator: good enough to spread ten moments over a run, and reproducible from the seed.
struct Random(u64);

impl Random {
    /// Returns a random part of a duration.
    fn part_of(&mut self, duration: Duration) -> Duration {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        duration.mul_f64((self.0 >> 11) as f64 / (1_u64 << 53) as f64)
    }
}
