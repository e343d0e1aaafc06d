//! Mutates the input of users and of other programs: no parser may panic, and each must keep its promises.
//!
//! Without arguments, each target runs for about a second, always with the same seed. The ignored test runs all
//! targets in turn, for ten minutes or `FUZZ_SECONDS`, with a seed that it prints; `FUZZ_SEED` repeats a run. Bugs
//! that it found are in `found.rs`.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

mod found;
mod mutation;
mod targets;

use mutation::mutated;
use targets::{TARGETS, Target};

/// The number of inputs of each target in the quick tests.
const QUICK: u32 = 150;
/// The number of inputs between two checks of the time.
const BATCH: u32 = 200;
/// The total duration of the long test, in seconds, unless `FUZZ_SECONDS` is set.
const LONG: u64 = 600;
/// The seed of the quick tests.
const SEED: u64 = 20_261_124;

fn runner(seed: u64, cases: u32) -> TestRunner {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 2_000, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::XorShift, &bytes))
}

/// Runs a target with inputs that are derived from a seed, and shrinks a failing input. Returns the number of inputs
/// that it tried.
fn try_with(target: &Target, seed: u64, cases: u32) -> u64 {
    let count = Cell::new(0);
    // A runner that has run all its cases does nothing, so each call needs a new one.
    let tried = runner(seed, cases).run(&mutated(target.corpus), |input| {
        count.set(count.get() + 1);
        (target.check)(&input).map_err(|why| TestCaseError::fail(format!("{why}\n{input:?}")))
    });
    match tried {
        Ok(()) => count.get(),
        Err(TestError::Fail(why, input)) => panic!("{}: {why}\nsmallest failing input:\n{input:?}", target.name),
        Err(TestError::Abort(why)) => panic!("{}: {why}", target.name),
    }
}

#[test]
fn a_seeded_sample_of_every_target() {
    for target in TARGETS {
        assert_eq!(try_with(target, SEED, QUICK), u64::from(QUICK));
    }
}

#[test]
#[ignore = "needs minutes"]
fn ten_minutes_of_every_target_in_turn() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = number("FUZZ_SEED").unwrap_or(u64::from(now.subsec_nanos()) ^ now.as_secs());
    let whole = Duration::from_secs(number("FUZZ_SECONDS").unwrap_or(LONG));
    eprintln!("seed {seed}");
    let shares: u32 = TARGETS.iter().map(|target| target.share).sum();
    let mut all = 0;
    for target in TARGETS {
        let started = Instant::now();
        let (mut tried, mut batches) = (0, 0);
        while started.elapsed() < whole * target.share / shares {
            tried += try_with(target, seed.wrapping_add(batches), BATCH);
            batches += 1;
        }
        eprintln!("{:<22} {tried:>9} inputs in {:.0} s", target.name, started.elapsed().as_secs_f64());
        all += tried;
    }
    eprintln!("{all} inputs of {} targets, seed {seed}", TARGETS.len());
}
