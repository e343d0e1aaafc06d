//! The engine's clock against this machine's: what one side signs must not lie in the other's future.

use super::check::{Check, Judgement, Severity, good};
use super::facts::Facts;

/// From here on it is worth saying, in milliseconds: logs of both sides no longer fit together.
const NOTICED: u64 = 5_000;
/// Certificates made on nodes count from five minutes before they were made (`CertificateBackdate` of kubeadm 1.36): an
/// engine further ahead makes clusters that this machine does not believe yet.
const AHEAD: i64 = 300_000;
/// Certificates made here count from an hour before: an engine further behind does not believe them yet.
const BEHIND: i64 = -3_600_000;

pub(super) const CHECKS: &[Check] = &[Check {
    id: "clock.skew",
    finds: "the engine's clock differs from this machine's: by seconds (warns), or beyond what certificates bear (blocks)",
    tested: "recorded: an engine's answers, changed",
    judge: skew,
}];

fn skew(facts: &Facts) -> Vec<Judgement> {
    let Some(engine) = &facts.engine else { return good() };
    let ahead = engine.clock_ahead_ms;
    if ahead.unsigned_abs() < NOTICED {
        return good();
    }
    let seconds = ahead.unsigned_abs() / 1000;
    let direction = if ahead > 0 { "ahead of" } else { "behind" };
    let (severity, consequence) = match ahead {
        AHEAD.. => (Severity::Blocks, "the clusters' certificates are not valid yet on this machine"),
        ..=BEHIND => (Severity::Blocks, "the mesh's certificates are not valid yet in the clusters"),
        _ => (
            Severity::Warns,
            "times in logs do not fit together; certificates bear 5 minutes ahead, an hour behind",
        ),
    };
    let cure = match (facts.same_machine(), engine.system.as_str()) {
        (Some(_), _) => "set it: sudo timedatectl set-ntp true",
        (_, "Docker Desktop") => {
            "restart its virtual machine, whose clock stands still while a laptop sleeps: \
            docker desktop restart"
        }
        _ => {
            "restart its virtual machine, whose clock stands still while a laptop sleeps (with Colima: colima restart)"
        }
    };
    Judgement::found(
        severity,
        format!("the engine's clock is {seconds} s {direction} this machine's"),
        "docker info: its SystemTime, against the time here when it was asked",
        consequence,
        cure,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::doctor::testing::{engine, found, golden, good, only};

    #[test]
    fn certificates_decide_what_a_clock_may_be_off() {
        let mut facts = good();
        for (ahead, severity) in [
            (4_999, None),
            (-4_999, None),
            (5_000, Some(Severity::Warns)),
            (299_999, Some(Severity::Warns)),
            (300_000, Some(Severity::Blocks)),
            (-3_599_999, Some(Severity::Warns)),
            (-3_600_000, Some(Severity::Blocks)),
        ] {
            engine(&mut facts).clock_ahead_ms = ahead;
            match severity {
                Some(severity) => assert_eq!(only(&facts, "clock.skew").severity, severity, "{ahead}"),
                None => assert_eq!(found(&facts), "", "{ahead}"),
            }
        }
        engine(&mut facts).machine = "colima".into();
        golden("clock", &facts);
    }
}
