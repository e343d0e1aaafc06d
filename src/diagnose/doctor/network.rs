//! Addresses: whether the environment gets the subnets it needs, and names that are in use.

use super::check::{Check, Judgement, Severity, good};
use super::facts::Facts;
use crate::base::error::{Error, Kind};

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "addresses.none",
        finds: "no subnet is free: other Docker networks or a VPN's routes use all of them",
        tested: "real: the test lab's engine in a network namespace with a VPN's routes",
        judge: |facts| refused(facts, |error| error.kind == Kind::Prerequisite && is_about_subnets(error)),
    },
    Check {
        id: "samples.image",
        finds: "the sample image cannot be built: this kindmesh is for another platform than the engine's",
        tested: "recorded: an engine's responses, modified",
        judge: |facts| refused(facts, |error| error.kind == Kind::Prerequisite && !is_about_subnets(error)),
    },
    Check {
        id: "spec.conflict",
        finds: "the spec conflicts with what exists: a subnet or a kind cluster name is in use, a change \
            requires `down`, or the environment is on another engine",
        tested: "real: the test lab's engine with a conflicting Docker network",
        judge: |facts| refused(facts, |error| error.kind != Kind::Prerequisite),
    },
];

fn is_about_subnets(error: &Error) -> bool {
    error.message.starts_with("no free subnet")
}

/// Returns why there is no plan.
fn refused(facts: &Facts, counts: impl Fn(&Error) -> bool) -> Vec<Judgement> {
    let Some(error) = facts.plan.as_ref().and_then(|plan| plan.as_ref().err()).filter(|error| counts(error))
    else {
        return good();
    };
    let evidence = match error.evidence.as_slice() {
        [] => {
            "comparison of the spec with the engine's platform, networks and clusters, and with the host's routes"
                .into()
        }
        // There may be hundreds of subnets.
        some => some.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ") + &more(some.len()),
    };
    let consequence = "up fails before it creates anything";
    let cure = error.hint.clone().unwrap_or_default();
    Judgement::found(Severity::Blocks, &error.message, evidence, consequence, cure)
}

/// The maximum number of subnets listed.
const SHOWN: usize = 6;

fn more(all: usize) -> String {
    match all.saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!("; and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use crate::diagnose::doctor::testing::{found, golden, good, replan};
    use crate::plan::inventory::Taken;
    use crate::spec;

    fn taken(subnet: &str, by: &str) -> Taken {
        Taken { subnet: subnet.parse().unwrap(), by: by.into() }
    }

    #[test]
    fn vpn_using_every_range_leaves_no_subnet() {
        let mut facts = good();
        let inventory = facts.inventory.as_mut().unwrap();
        inventory.taken.push(taken("10.0.0.0/8", "the route via tun0"));
        replan(&mut facts, "{}");
        assert_eq!(found(&facts), "", "the other private ranges are left");
        let inventory = facts.inventory.as_mut().unwrap();
        for subnet in ["172.16.0.0/12", "192.168.0.0/16"] {
            inventory.taken.push(taken(subnet, "the route via tun0"));
        }
        replan(&mut facts, "{}");
        golden("vpn", &facts);
    }

    #[test]
    fn fixed_subnet_in_use() {
        let mut facts = good();
        facts.inventory.as_mut().unwrap().taken.push(taken("172.30.0.0/16", "Docker network \"shop\""));
        replan(&mut facts, "network: {subnet: 172.30.7.0/24}");
        golden("subnet_taken", &facts);
    }

    #[test]
    fn name_of_another_kind_cluster() {
        let mut facts = good();
        facts.inventory.as_mut().unwrap().foreign_clusters.push("kindmesh-cluster1".into());
        replan(&mut facts, "{}");
        golden("name_taken", &facts);
    }

    #[test]
    fn executable_of_another_platform_is_rejected() {
        let mut facts = good();
        facts.inventory.as_mut().unwrap().executable.as_mut().unwrap().os = "darwin".into();
        replan(&mut facts, "{}");
        golden("platform", &facts);
        assert!(spec::from_text("samples: {image: registry.example/kindmesh:1}", "x").is_ok());
        replan(&mut facts, "samples: {image: registry.example/kindmesh:1}");
        assert_eq!(found(&facts), "");
    }
}
