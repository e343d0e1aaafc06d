//! The engine's clock compared with the host's: a certificate created on one side must already be valid on the
//! other.

use super::check::{Check, Judgement, Severity, good};
use super::facts::Facts;

/// The smallest reported difference, in milliseconds: timestamps in logs no longer match.
const NOTICED: u64 = 5_000;
/// Certificates created on nodes are valid from five minutes before their creation (`CertificateBackdate` of
/// kubeadm 1.36): an engine that is further ahead creates clusters whose certificates are not valid yet on this
/// host.
const AHEAD: i64 = 300_000;
/// Certificates created on this host are valid from an hour before their creation: for an engine that is further
/// behind, they are not valid yet.
const BEHIND: i64 = -3_600_000;

pub(super) const CHECKS: &[Check] = &[Check {
    id: "clock.skew",
    finds: "the engine's clock differs from the host's: by seconds (warns), or more than certificates tolerate \
        (blocks)",
    tested: "recorded: an engine's responses, modified",
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
        AHEAD.. => (Severity::Blocks, "on this host, the clusters' certificates are not valid yet"),
        ..=BEHIND => (Severity::Blocks, "in the clusters, the mesh's certificates are not valid yet"),
        _ => (
            Severity::Warns,
            "times in logs do not match; certificates tolerate an engine 5 minutes ahead or an hour behind",
        ),
    };
    let cure = match (facts.same_machine(), engine.system.as_str()) {
        (Some(_), _) => "synchronize it: sudo timedatectl set-ntp true",
        (_, "Docker Desktop") => {
            "restart its virtual machine, whose clock stops while a laptop sleeps: docker desktop restart"
        }
        _ => "restart its virtual machine, whose clock stops while a laptop sleeps (with Colima: colima restart)",
    };
    Judgement::found(
        severity,
        format!("the engine's clock is {seconds} s {direction} the host's"),
        "docker info: SystemTime, compared with the host's clock at the time of the request",
        consequence,
        cure,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::doctor::testing::{engine, found, golden, good, only};

    #[test]
    fn clock_tolerance_follows_certificate_validity() {
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
