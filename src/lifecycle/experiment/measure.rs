//! What the calls of an experiment show: pure functions of the calls and of the times of faults.
//!
//! All times are seconds since the first call was due. A call is lost unless its status is 200.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Happened;
use crate::sample::Sent;

/// Durations of answered calls, in milliseconds, by nearest rank.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Latency {
    /// The median.
    pub p50: f64,
    /// The 90th percentile.
    pub p90: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The maximum.
    pub max: f64,
}

/// Lost calls with the same reason.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Loss {
    /// The status and the text of the response, or why there is none.
    pub why: String,
    /// How many.
    pub calls: usize,
    /// When the first was sent.
    pub first: f64,
    /// When the last was sent.
    pub last: f64,
}

/// All calls, counted.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tally {
    /// The number of calls.
    pub sent: usize,
    /// The number of calls answered with 200.
    pub answered: usize,
    /// The number of the others.
    pub lost: usize,
    /// The lost calls in percent of all.
    pub lost_percent: f64,
    /// The latencies of the answered calls; none without any.
    pub latency_millis: Option<Latency>,
    /// The lost calls by reason, the most frequent first.
    pub losses: Vec<Loss>,
}

/// Whether a call was lost.
pub fn is_lost(call: &Sent) -> bool {
    call.status != Some(200)
}

fn at(call: &Sent) -> f64 {
    call.at_millis / 1000.0
}

/// Returns the value at a percentile of sorted values, by nearest rank.
fn percentile(sorted: &[f64], percent: f64) -> f64 {
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

fn latencies<'a>(calls: impl Iterator<Item = &'a Sent>) -> Vec<f64> {
    let mut millis: Vec<f64> = calls.filter(|call| !is_lost(call)).map(|call| call.millis).collect();
    millis.sort_by(f64::total_cmp);
    millis
}

impl Tally {
    /// Counts calls.
    pub fn of(calls: &[Sent]) -> Self {
        let millis = latencies(calls.iter());
        let latency_millis = (!millis.is_empty()).then(|| Latency {
            p50: percentile(&millis, 50.0),
            p90: percentile(&millis, 90.0),
            p99: percentile(&millis, 99.0),
            max: percentile(&millis, 100.0),
        });
        let lost = calls.len() - millis.len();
        let lost_percent = if calls.is_empty() { 0.0 } else { 100.0 * lost as f64 / calls.len() as f64 };
        let (sent, answered) = (calls.len(), millis.len());
        Self { sent, answered, lost, lost_percent, latency_millis, losses: losses(calls) }
    }
}

fn losses(calls: &[Sent]) -> Vec<Loss> {
    let mut found: BTreeMap<String, Loss> = BTreeMap::new();
    for call in calls.iter().filter(|call| is_lost(call)) {
        let text = call.reason.as_deref().unwrap_or_default();
        let why = match call.status {
            Some(status) => format!("{status} {text}").trim_end().to_owned(),
            None => text.to_owned(),
        };
        let loss = found.entry(why.clone()).or_insert(Loss { why, calls: 0, first: at(call), last: at(call) });
        loss.calls += 1;
        loss.first = loss.first.min(at(call));
        loss.last = loss.last.max(at(call));
    }
    let mut losses: Vec<Loss> = found.into_values().collect();
    losses.sort_by(|one, other| other.calls.cmp(&one.calls).then(one.first.total_cmp(&other.first)));
    losses
}

/// When calls are answered without a loss again after an event.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Back {
    /// The number of calls that were lost after it.
    pub lost: usize,
    /// When the last of them was sent.
    pub last_lost: Option<f64>,
    /// The seconds from the event to the first call after which none is lost; 0 if none was lost, none if the last call was.
    pub after: Option<f64>,
}

/// Returns when calls that were sent from `from` on and before `until` are answered without a loss again.
pub fn back(calls: &[Sent], from: f64, until: f64) -> Back {
    let mut within: Vec<&Sent> = calls.iter().filter(|call| (from..until).contains(&at(call))).collect();
    within.sort_by(|one, other| one.at_millis.total_cmp(&other.at_millis));
    let lost = within.iter().filter(|call| is_lost(call)).count();
    match within.iter().rposition(|call| is_lost(call)) {
        None => Back { lost, last_lost: None, after: Some(0.0) },
        Some(last) => Back {
            lost,
            last_lost: Some(at(within[last])),
            after: within.get(last + 1).map(|call| at(call) - from),
        },
    }
}

/// Returns when the first fault or rollout after `time` begins.
pub fn next_begin(happened: &[Happened], time: f64) -> f64 {
    happened.iter().map(|one| one.begin).filter(|begin| *begin > time).fold(f64::INFINITY, f64::min)
}

/// How late a call may be answered before the first fault, in milliseconds.
const BASELINE_MILLIS: f64 = 2000.0;

/// Fails if something is wrong without any fault: if a call that ended before the first fault was lost, or if one that was sent two
/// seconds before it was not answered by then. `sent` is the number of calls sent so far, in order, `qps` their rate.
///
/// # Errors
/// What is wrong.
pub fn baseline(calls: &[Sent], sent: usize, qps: u32, first: f64, now: f64) -> Result<(), String> {
    let ended = |call: &&Sent| call.at_millis + call.millis < first * 1000.0;
    let before: Vec<&Sent> = calls.iter().filter(ended).collect();
    let lost: Vec<Sent> = before.iter().filter(|call| is_lost(call)).map(|call| (*call).clone()).collect();
    if let Some(loss) = losses(&lost).first() {
        return Err(format!("{} of {} calls were lost: {} × {}", lost.len(), before.len(), loss.calls, loss.why));
    }
    // Those that were due long enough ago.
    let due = |call: &&&Sent| call.at_millis < now.min(first) * 1000.0 - BASELINE_MILLIS;
    let expected = ((now.min(first) - BASELINE_MILLIS / 1000.0).max(0.0) * f64::from(qps)).floor() as usize;
    let answered = before.iter().filter(due).count();
    if answered < expected.min(sent) {
        return Err(format!(
            "{} of {} calls have no response after 2 s",
            expected.min(sent) - answered,
            expected.min(sent)
        ));
    }
    Ok(())
}

/// The calls of a second, or of some seconds of a long experiment.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Interval {
    /// When it begins.
    pub from: f64,
    /// How long it is.
    pub seconds: f64,
    /// The calls that were sent in it and answered.
    pub answered: usize,
    /// The calls that were sent in it and lost.
    pub lost: usize,
    /// The median of the latencies of the answered calls, in milliseconds.
    pub p50: Option<f64>,
    /// Their maximum.
    pub max: Option<f64>,
}

/// The most intervals of a picture.
const INTERVALS: u32 = 120;

/// Returns the calls by the time at which they were sent, in intervals of whole seconds.
pub fn intervals(calls: &[Sent], seconds: f64) -> Vec<Interval> {
    let length = (seconds / f64::from(INTERVALS)).ceil().max(1.0);
    let mut intervals = Vec::new();
    let mut from = 0.0;
    while from < seconds {
        let within = || calls.iter().filter(|call| (from..from + length).contains(&at(call)));
        let millis = latencies(within());
        intervals.push(Interval {
            from,
            seconds: length.min(seconds - from),
            answered: millis.len(),
            lost: within().count() - millis.len(),
            p50: (!millis.is_empty()).then(|| percentile(&millis, 50.0)),
            max: millis.last().copied(),
        });
        from += length;
    }
    intervals
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(at_millis: f64, millis: f64, status: u16) -> Sent {
        let reason = (status != 200).then(|| "no healthy upstream".to_owned());
        Sent { at_millis, millis, status: (status > 0).then_some(status), reason }
    }

    /// Ten calls a second, lost from 2 s on and before 3 s.
    fn calls() -> Vec<Sent> {
        (0..50)
            .map(|number| {
                let at = f64::from(number) * 100.0;
                sent(at, f64::from(number + 1), if (2000.0..3000.0).contains(&at) { 503 } else { 200 })
            })
            .collect()
    }

    #[test]
    fn calls_are_counted() {
        let tally = Tally::of(&calls());
        assert_eq!((tally.sent, tally.answered, tally.lost, tally.lost_percent), (50, 40, 10, 20.0));
        // Of 1 to 20 and 31 to 50.
        let latency = tally.latency_millis.unwrap();
        assert_eq!((latency.p50, latency.p90, latency.p99, latency.max), (20.0, 46.0, 50.0, 50.0));
        assert_eq!(
            tally.losses,
            [Loss { why: "503 no healthy upstream".into(), calls: 10, first: 2.0, last: 2.9 }]
        );
        let nothing = Tally::of(&[]);
        assert_eq!((nothing.lost_percent, nothing.latency_millis), (0.0, None));
        assert_eq!(Tally::of(&[sent(0.0, 1.0, 0)]).losses[0].why, "no healthy upstream");
    }

    #[test]
    fn p99_leaves_out_one_of_a_hundred() {
        let many: Vec<Sent> = (1..=100).map(|number| sent(0.0, f64::from(number), 200)).collect();
        assert_eq!(Tally::of(&many).latency_millis.unwrap().p99, 99.0);
    }

    #[test]
    fn back_is_the_first_call_after_the_last_lost_one() {
        let calls = calls();
        // The time is the event's: the calls are lost from 0.5 s after it on.
        let found = back(&calls, 1.5, f64::INFINITY);
        assert_eq!((found.lost, found.last_lost, found.after), (10, Some(2.9), Some(1.5)));
        assert_eq!(back(&calls, 3.0, f64::INFINITY), Back { lost: 0, last_lost: None, after: Some(0.0) });
        // Another event begins while calls are lost.
        assert_eq!(back(&calls, 1.5, 2.45).after, None);
        // Calls before the event do not count.
        assert_eq!(back(&calls, 2.75, 9.0).lost, 2);
        assert_eq!(back(&[], 0.0, 9.0).after, Some(0.0));
        // The order in which calls end does not matter.
        let mut reversed = calls;
        reversed.reverse();
        assert_eq!(back(&reversed, 1.5, f64::INFINITY).after, Some(1.5));
    }

    #[test]
    fn baseline_finds_lost_and_slow_calls() {
        let calls = calls();
        assert_eq!(baseline(&calls[..20], 20, 10, 2.0, 2.0), Ok(()));
        let lost = baseline(&calls[..25], 25, 10, 5.0, 2.5).unwrap_err();
        assert_eq!(lost, "5 of 25 calls were lost: 5 × 503 no healthy upstream");
        // A call that was lost after the fault began says nothing, even if it was sent before.
        let hanging = sent(1900.0, 500.0, 504);
        assert_eq!(baseline(&[hanging], 1, 10, 2.0, 3.0), Ok(()));
        let none = baseline(&[], 40, 10, 5.0, 4.0).unwrap_err();
        assert_eq!(none, "20 of 20 calls have no response after 2 s");
        assert_eq!(baseline(&[], 10, 10, 5.0, 1.0), Ok(()));
    }

    #[test]
    fn intervals_hold_every_call() {
        let intervals = intervals(&calls(), 5.0);
        let counts: Vec<_> = intervals.iter().map(|interval| (interval.answered, interval.lost)).collect();
        assert_eq!(counts, [(10, 0), (10, 0), (0, 10), (10, 0), (10, 0)]);
        assert_eq!((intervals[2].p50, intervals[3].p50, intervals[3].max), (None, Some(35.0), Some(40.0)));
        let long = super::intervals(&[], 601.0);
        assert_eq!((long.len(), long[0].seconds, long[100].seconds), (101, 6.0, 1.0));
    }
}
