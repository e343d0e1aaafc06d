//! `kill -9` at every event of `up` and `down`, and at random moments: the next `up` converges, the next `down` leaves
//! nothing behind.

#![expect(clippy::print_stdout, reason = "what was killed when, printed with --nocapture")]

use std::time::{Duration, Instant};

use crate::environment::{Kindmesh, seed};
use crate::killing::{Left, Moment, Working};

/// No run takes this long.
const AT_MOST: Duration = Duration::from_secs(600);
/// The number of random moments.
const RANDOM: u32 = 10;

/// The life of one environment: `up` is killed, the next one converges, `down` is killed, the next one leaves nothing behind.
struct Life<'a> {
    kindmesh: &'a Kindmesh,
    /// The moments of a `down`; each life kills it at another one.
    downs: &'a [Moment],
}

impl Life<'_> {
    fn live(&self, what: &str, turn: usize, converge: bool, kill: impl FnOnce() -> bool) {
        let before = Left::now(self.kindmesh);
        let started = Instant::now();
        let killed = kill();
        let up = if converge {
            let up = self.kindmesh.run(&["up"]);
            assert_eq!(up.code, 0, "up after {what}: {}", up.stderr);
            assert_eq!(self.kindmesh.json_lines(&["call"])[0]["statusCode"], 200, "after {what}");
            "up converged, "
        } else {
            ""
        };
        let moment = &self.downs[turn % self.downs.len()];
        Working::start(self.kindmesh, &["down"]).kill_at(|seen| seen == moment, AT_MOST);
        let down = self.kindmesh.run(&["down"]);
        assert_eq!(down.code, 0, "down after {what}, and after {moment}: {}", down.stderr);
        assert_eq!(Left::now(self.kindmesh), before, "after {what}, and {moment}");
        let killed = if killed { "killed" } else { "NOT killed: it had already exited" };
        println!("{what}: {killed}; {up}down killed at {moment}, nothing left behind; {:?}", started.elapsed());
    }
}

#[test]
#[ignore = "needs a container engine and most of an hour"]
fn killed_at_any_moment_it_converges_and_leaves_nothing() {
    let kindmesh = Kindmesh::named("e2e-killed");
    let before = Left::now(&kindmesh);
    let ups = Working::start(&kindmesh, &["up"]).finish();
    let downs = Working::start(&kindmesh, &["down"]).finish();
    assert_eq!(Left::now(&kindmesh), before);
    let life = Life { kindmesh: &kindmesh, downs: &downs };

    // Lives of seconds, without a second `up`: every event before the first cluster exists.
    let cheap = ups.iter().position(|moment| moment.is_end_of("cluster")).unwrap();
    for (turn, moment) in ups[..cheap].iter().enumerate() {
        life.live(&moment.to_string(), turn, false, || {
            Working::start(&kindmesh, &["up"]).kill_at(|seen| seen == moment, AT_MOST)
        });
    }
    // Lives with a second `up`: each kind of step, killed while it runs.
    let mut kinds: Vec<&Moment> = Vec::new();
    for moment in ups.iter().filter(|moment| moment.is_start()) {
        if !kinds.iter().any(|kind| kind.step == moment.step) {
            kinds.push(moment);
        }
    }
    for (turn, moment) in kinds.into_iter().enumerate() {
        life.live(&moment.to_string(), turn, true, || {
            Working::start(&kindmesh, &["up"]).kill_at(|seen| seen == moment, AT_MOST)
        });
    }
}

#[test]
#[ignore = "needs a container engine and a quarter of an hour"]
fn killed_at_random_moments_it_converges_and_leaves_nothing() {
    let kindmesh = Kindmesh::named("e2e-killed");
    let started = Instant::now();
    Working::start(&kindmesh, &["up"]).finish();
    let whole = started.elapsed();
    let downs = Working::start(&kindmesh, &["down"]).finish();
    let life = Life { kindmesh: &kindmesh, downs: &downs };
    let mut random = seed();
    for turn in 0..RANDOM {
        // Knuth's generator: good enough to spread ten moments over a run, and reproducible from the seed.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let after = whole.mul_f64((random >> 11) as f64 / (1_u64 << 53) as f64);
        life.live(&format!("{after:.1?}"), turn as usize, true, || {
            Working::start(&kindmesh, &["up"]).kill_at(|_| false, after)
        });
    }
}
