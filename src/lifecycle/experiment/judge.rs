//! The verdict on each expectation.

use super::Happened;
use super::file::Expect;
use super::measure::{Back, Tally, back, next_begin};
use super::rules::shown;
use crate::base::verdict::{Status, Verdict};
use crate::sample::Sent;

/// The losses that a verdict lists.
const LISTED: usize = 5;

/// Judges what was expected. `seconds` is how long calls were sent.
pub(super) fn judge(
    expect: &Expect,
    sent: &[Sent],
    tally: &Tally,
    happened: &[Happened],
    seconds: f64,
) -> Vec<Verdict> {
    let verdict = |id: &str, claim: String, holds: bool, evidence: Vec<String>, hint: &str| Verdict {
        id: id.to_owned(),
        claim,
        status: if holds { Status::Passed } else { Status::Failed },
        seconds,
        evidence,
        hint: (!holds).then(|| hint.to_owned()),
    };
    let mut verdicts = Vec::new();
    if let Some(limit) = expect.lost {
        let claim = match limit {
            0.0 => "No call is lost".to_owned(),
            limit => format!("At most {limit} % of the calls are lost"),
        };
        let mut evidence: Vec<String> = tally.losses.iter().take(LISTED).map(loss).collect();
        if tally.losses.len() > LISTED {
            evidence.push(format!("and {} other reasons", tally.losses.len() - LISTED));
        }
        evidence.push(format!("{} of {} calls were lost: {:.2} %", tally.lost, tally.sent, tally.lost_percent));
        let hint = "the report shows when calls were lost, and why: --report html=FILE";
        verdicts.push(verdict("lost", claim, tally.lost_percent <= limit, evidence, hint));
    }
    if let Some(limit) = expect.p99 {
        let claim = format!("99 % of the answered calls take at most {}", shown(limit));
        let (holds, saw) = match &tally.latency_millis {
            Some(latency) => (
                latency.p99 <= limit.as_secs_f64() * 1000.0,
                format!(
                    "p50 {:.1} ms, p90 {:.1} ms, p99 {:.1} ms, maximum {:.1} ms, of {} answered calls",
                    latency.p50, latency.p90, latency.p99, latency.max, tally.answered
                ),
            ),
            None => (false, "no call was answered".into()),
        };
        let hint = "the report shows when calls were slow: --report html=FILE";
        verdicts.push(verdict("p99", claim, holds, vec![saw], hint));
    }
    let begins: Vec<_> = happened.iter().map(|one| (one, one.begin)).collect();
    let ends: Vec<_> = happened.iter().filter_map(|one| Some((one, one.end?))).collect();
    for (id, limit, times, which) in
        [("back", expect.back, begins, "began"), ("backAfterEnd", expect.back_after_end, ends, "ended")]
    {
        let Some(limit) = limit else { continue };
        let claim = format!(
            "No call that is sent more than {} after a fault {which} is lost, until the next one begins",
            shown(limit)
        );
        let mut holds = true;
        let mut evidence = Vec::new();
        for (one, time) in times {
            let next = next_begin(happened, time);
            let found = back(sent, time, next);
            // A fault that ended late, because its nodes took long to start, may leave no time for calls.
            let measured = next.is_finite() || time + limit.as_secs_f64() < seconds;
            // In whole milliseconds: a difference of two times is not exact.
            let millis = |seconds: f64| (seconds * 1000.0).round();
            let good =
                measured && found.last_lost.is_none_or(|last| millis(last - time) <= millis(limit.as_secs_f64()));
            holds &= good;
            let saw = match measured {
                true => described(&found, time),
                false => format!("not measured, since the calls ended at {seconds:.1} s"),
            };
            let line = format!("{} {which} at {time:.1} s: {saw}", one.what);
            // The last line of a failure says why.
            let place = if good { 0 } else { evidence.len() };
            evidence.insert(place, line);
        }
        let hint = "the report shows when calls were lost: --report html=FILE";
        verdicts.push(verdict(id, claim, holds && !evidence.is_empty(), evidence, hint));
    }
    verdicts
}

fn loss(loss: &super::Loss) -> String {
    match loss.calls {
        1 => format!("1 × {}, sent at {:.1} s", loss.why, loss.first),
        calls => format!("{calls} × {}, sent from {:.1} to {:.1} s", loss.why, loss.first, loss.last),
    }
}

fn described(found: &Back, time: f64) -> String {
    let calls = if found.lost == 1 { "call" } else { "calls" };
    match (found.last_lost, found.after) {
        (None, _) => "no call was lost".into(),
        (Some(last), Some(after)) => format!(
            "{} {calls} lost, the last one sent {:.1} s later; answered again after {after:.1} s",
            found.lost,
            last - time
        ),
        (Some(_), None) => {
            format!("{} {calls} lost, and the last one before the next event was among them", found.lost)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Ten calls a second for 20 s: those sent from 10.5 s on and before 12 s are lost.
    fn calls() -> Vec<Sent> {
        let call = |number: u32| {
            let at_millis = f64::from(number) * 100.0;
            let lost = (10_500.0..12_000.0).contains(&at_millis);
            let (status, reason) = if lost { (503, Some("no healthy upstream".into())) } else { (200, None) };
            Sent { at_millis, millis: 4.0, status: Some(status), reason }
        };
        (0..200).map(call).collect()
    }

    fn judged(expect: &Expect) -> Vec<(String, Status, String)> {
        let cut = Happened { what: "link cut".into(), begin: 10.0, end: Some(11.5) };
        let calls = calls();
        let verdicts = judge(expect, &calls, &Tally::of(&calls), &[cut], 20.0);
        let last = |verdict: Verdict| {
            assert_eq!(verdict.hint.is_some(), verdict.status == Status::Failed);
            (verdict.id, verdict.status, verdict.evidence.last().cloned().unwrap_or_default())
        };
        verdicts.into_iter().map(last).collect()
    }

    fn statuses(lost: f64, p99: u64, back: u64, after_end: u64) -> Vec<Status> {
        let millis = |millis| Some(Duration::from_millis(millis));
        let expect =
            Expect { lost: Some(lost), p99: millis(p99), back: millis(back), back_after_end: millis(after_end) };
        judged(&expect).into_iter().map(|(_, status, _)| status).collect()
    }

    #[test]
    fn each_limit_is_decided_at_its_edge() {
        assert_eq!(statuses(7.5, 4, 1900, 400), [Status::Passed; 4]);
        assert_eq!(statuses(7.4, 3, 1800, 300), [Status::Failed; 4]);
        assert!(judged(&Expect::default()).is_empty());
    }

    #[test]
    fn the_evidence_says_what_was_measured() {
        let expect = Expect {
            lost: Some(0.0),
            p99: Some(Duration::from_secs(1)),
            back: Some(Duration::from_secs(1)),
            back_after_end: Some(Duration::from_secs(1)),
        };
        let lines: Vec<_> = judged(&expect).into_iter().map(|(id, _, line)| format!("{id}: {line}")).collect();
        assert_eq!(
            lines,
            [
                "lost: 15 of 200 calls were lost: 7.50 %",
                "p99: p50 4.0 ms, p90 4.0 ms, p99 4.0 ms, maximum 4.0 ms, of 185 answered calls",
                "back: link cut began at 10.0 s: 15 calls lost, the last one sent 1.9 s later; answered again after 2.0 s",
                "backAfterEnd: link cut ended at 11.5 s: 5 calls lost, the last one sent 0.4 s later; answered again after 0.5 s",
            ]
        );
    }

    #[test]
    fn return_is_not_measured_without_calls() {
        let restart = Happened { what: "rollout".into(), begin: 15.0, end: None };
        let calls = calls();
        let judged = |back: u64| {
            let expect = Expect { back: Some(Duration::from_secs(back)), ..Expect::default() };
            let verdicts = judge(&expect, &calls, &Tally::of(&calls), std::slice::from_ref(&restart), 20.0);
            (verdicts[0].status, verdicts[0].evidence[0].clone())
        };
        assert_eq!(judged(4), (Status::Passed, "rollout began at 15.0 s: no call was lost".into()));
        let late = "rollout began at 15.0 s: not measured, since the calls ended at 20.0 s";
        assert_eq!(judged(6), (Status::Failed, late.into()));
    }

    #[test]
    fn without_an_answer_no_latency_holds() {
        let expect = Expect { p99: Some(Duration::from_secs(60)), ..Expect::default() };
        let lost = vec![Sent { at_millis: 0.0, millis: 1.0, status: None, reason: None }];
        let verdicts = judge(&expect, &lost, &Tally::of(&lost), &[], 1.0);
        assert_eq!(
            (verdicts[0].status, verdicts[0].evidence[0].as_str()),
            (Status::Failed, "no call was answered")
        );
    }
}
