//! The firewall of the engine's host: nodes are connected by a bridge, and a packet filter may drop their packets.

use serde::Deserialize;

use super::check::{Check, Judgement, Severity, good};
use super::facts::{Facts, Firewall};
use super::fix::Fix;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "forward.off",
        finds: "the engine's host does not forward IPv4 packets",
        tested: "real: the test lab's engine in a network namespace with net.ipv4.ip_forward=0",
        judge: forwarding,
    },
    Check {
        id: "firewall.iptables",
        finds: "the FORWARD chain of iptables drops or rejects packets, and no rule of the engine comes first",
        tested: "real: iptables in a network namespace; the test lab's own rules pass",
        judge: iptables,
    },
    Check {
        id: "firewall.nftables",
        finds: "a chain of nftables that is not the engine's has hook forward and policy drop",
        tested: "recorded: `nft -j list chains` of nftables 1.0.6; by hand with that nft in a network namespace",
        judge: nftables,
    },
    Check {
        id: "firewall.firewalld",
        finds: "firewalld is running, and the engine is not integrated with it",
        tested: "real: the test lab's engine beside a process of that name",
        judge: firewalld,
    },
];

const RESTART: &str = "restart the engine, which then writes its rules again: sudo systemctl restart docker";

fn forwarding(facts: &Facts) -> Vec<Judgement> {
    // The engine reports what it found when it started.
    let (on, evidence) = match facts.same_machine().and_then(|host| host.forwarding) {
        Some(on) => (on, "net.ipv4.ip_forward = 0"),
        None => {
            let told = facts.engine.as_ref().and_then(|engine| engine.forwarding);
            (told.unwrap_or(true), "docker info: IPv4 forwarding is disabled")
        }
    };
    if on {
        return good();
    }
    let off = Judgement::found(
        Severity::Warns,
        "the engine's host does not forward IPv4 packets",
        evidence,
        "nodes and pods cannot reach other hosts, and cannot pull your images",
        "sudo sysctl net.ipv4.ip_forward=1",
    );
    match facts.same_machine() {
        Some(_) => Judgement::fixed_by(off, Fix::sysctl(&[("net.ipv4.ip_forward".into(), 1)])),
        None => off,
    }
}

/// Returns the packet filter, if the engine runs on this host.
fn seen(facts: &Facts) -> Option<&Firewall> {
    facts.same_machine().and(facts.firewall.as_ref())
}

/// Returns the effect of dropped packets: packets between containers on one bridge may or may not pass through the filter.
fn dropped(facts: &Facts) -> (Severity, &'static str) {
    match facts.host.filters_bridges {
        Some(true) => (Severity::Blocks, "packets between nodes are dropped: no cluster can reach another"),
        _ => (Severity::Warns, "nodes and pods cannot reach other hosts"),
    }
}

fn iptables(facts: &Facts) -> Vec<Judgement> {
    let rules = match seen(facts).and_then(|firewall| firewall.iptables.as_ref()) {
        Some(Ok(rules)) => rules,
        Some(Err(why)) => return Judgement::unknown(format!("iptables: {why}")),
        None => return good(),
    };
    let refuses = |target: &str| matches!(target, "DROP" | "REJECT");
    for line in rules.lines().map(str::trim) {
        let words: Vec<_> = line.split_whitespace().collect();
        match words.as_slice() {
            // Earlier rules do not match all packets, and the nodes' packets do not reach later rules.
            ["-A", "FORWARD", "-j", target, ..] if target.starts_with("DOCKER") => return good(),
            ["-A", "FORWARD", "-j", target, ..] if refuses(target) => return refused(facts, line),
            _ => {}
        }
    }
    match rules.lines().map(str::trim).find(|line| *line == "-P FORWARD DROP") {
        // Before Docker 28, the engine's rules are in this chain itself.
        Some(_) if rules.contains("-j DOCKER") || rules.contains("-o docker0") => good(),
        Some(policy) => refused(facts, policy),
        None => good(),
    }
}

fn refused(facts: &Facts, line: &str) -> Vec<Judgement> {
    let (severity, consequence) = dropped(facts);
    Judgement::found(
        severity,
        "iptables drops or rejects forwarded packets, and no rule of the engine accepts them first",
        format!("iptables -S FORWARD: {line}"),
        consequence,
        RESTART,
    )
}

/// The output of `nft -j list chains`.
#[derive(Deserialize)]
struct Ruleset {
    nftables: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    chain: Option<Chain>,
}

#[derive(Deserialize)]
struct Chain {
    family: String,
    table: String,
    name: String,
    #[serde(default)]
    hook: String,
    #[serde(default)]
    policy: String,
}

fn nftables(facts: &Facts) -> Vec<Judgement> {
    let Some(text) = seen(facts).and_then(|firewall| firewall.nftables.as_ref()) else { return good() };
    let Ok(ruleset) = serde_json::from_str::<Ruleset>(text) else { return good() };
    // A packet must be accepted by every table. The table of iptables is judged above.
    let drops = |chain: &Chain| {
        let iptables = chain.family == "ip" && chain.table == "filter" && chain.name == "FORWARD";
        let engine = chain.table.starts_with("docker");
        let ipv4 = matches!(chain.family.as_str(), "ip" | "inet" | "bridge");
        chain.hook == "forward" && chain.policy == "drop" && ipv4 && !iptables && !engine
    };
    let Some(chain) = ruleset.nftables.into_iter().filter_map(|item| item.chain).find(drops) else {
        return good();
    };
    let (severity, consequence) = match (dropped(facts), chain.family.as_str()) {
        ((_, consequence), "bridge") => (Severity::Blocks, consequence),
        // The chain may accept the engine's networks, which is not checked.
        ((_, consequence), _) => (Severity::Warns, consequence),
    };
    let Chain { family, table, name, .. } = chain;
    Judgement::found(
        severity,
        "a chain of nftables drops forwarded packets that it does not explicitly accept",
        format!("nft list chain {family} {table} {name}: policy drop"),
        format!("unless that chain accepts the engine's networks, {consequence}"),
        format!("allow bridges: sudo nft insert rule {family} {table} {name} iifname \"br-*\" accept"),
    )
}

fn firewalld(facts: &Facts) -> Vec<Judgement> {
    let Some(engine) = facts.engine.as_ref().filter(|_| seen(facts).is_some_and(|firewall| firewall.firewalld))
    else {
        return good();
    };
    // Engines before 28.2 do not report it.
    if engine.firewall.is_empty() || engine.firewall.ends_with("+firewalld") {
        return good();
    }
    let (_, consequence) = dropped(facts);
    Judgement::found(
        Severity::Warns,
        "firewalld is running, and the engine is not integrated with it",
        format!("a firewalld process exists; docker info: Firewall Backend {}", engine.firewall),
        format!("the engine's networks are in no firewalld zone, and {consequence}"),
        RESTART,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::doctor::judge;
    use crate::diagnose::doctor::testing::{engine, found, golden, good, only};

    fn with(rules: &str) -> Facts {
        let mut facts = good();
        facts.firewall.as_mut().unwrap().iptables = Some(Ok(rules.into()));
        facts
    }

    #[test]
    fn ip_forwarding_is_the_hosts_if_the_engine_is_local() {
        let mut facts = good();
        facts.host.forwarding = Some(false);
        golden("forwarding", &facts);
        engine(&mut facts).machine = "colima".into();
        assert_eq!(found(&facts), "");
        engine(&mut facts).forwarding = Some(false);
        assert!(only(&facts, "forward.off").evidence.starts_with("docker info"));
    }

    #[test]
    fn rules_after_the_engines_are_accepted() {
        for rules in [
            "-P FORWARD ACCEPT",
            "-P FORWARD DROP\n-A FORWARD -j DOCKER-USER\n-A FORWARD -j DOCKER-FORWARD\n",
            "-P FORWARD DROP\n-A FORWARD -i tun0 -j DROP\n-A FORWARD -j DOCKER-FORWARD\n-A FORWARD -j REJECT",
            "-P FORWARD DROP\n-A FORWARD -j ufw-before-forward\n-A FORWARD -o docker0 -j DOCKER",
        ] {
            assert_eq!(found(&with(rules)), "", "{rules}");
        }
    }

    #[test]
    fn rules_that_drop_first_are_reported() {
        let mut facts = with("-P FORWARD DROP\n-A FORWARD -i tun0 -j ACCEPT");
        golden("iptables_policy", &facts);
        facts.host.filters_bridges = Some(false);
        assert_eq!(only(&facts, "firewall.iptables").severity, Severity::Warns);
        let rejected = "-P FORWARD ACCEPT\n-A FORWARD -j REJECT --reject-with icmp-host-prohibited\n\
            -A FORWARD -j DOCKER-FORWARD";
        golden("iptables_rule", &with(rejected));
    }

    #[test]
    fn rules_are_unknown_without_root() {
        let mut facts = good();
        facts.firewall.as_mut().unwrap().iptables = Some(Err("only root can read its rules".into()));
        assert_eq!(judge(&facts).unknown, ["iptables: only root can read its rules"]);
    }

    #[test]
    fn separate_nftables_table_can_drop_accepted_packets() {
        /// Output of nft 1.0.6, with another chain before.
        const RECORDED: &str = r#"{"nftables": [{"metainfo": {"version": "1.0.6", "release_name": "Lester Gooch #5",
            "json_schema_version": 1}}, {"chain": {"family": "inet", "table": "filter", "name": "mine", "handle": 2}},
            {"chain": {"family": "inet", "table": "filter", "name": "forward", "handle": 1, "type": "filter",
            "hook": "forward", "prio": 0, "policy": "drop"}}]}"#;
        let chains = |family: &str, table: &str, name: &str| {
            let chain = |family: &str, table: &str, name: &str| {
                format!("{{\"family\": \"{family}\", \"table\": \"{table}\", \"name\": \"{name}\"")
            };
            let has = chain("inet", "filter", "forward");
            assert!(RECORDED.contains(&has));
            RECORDED.replace(&has, &chain(family, table, name))
        };
        let mut facts = good();
        facts.firewall.as_mut().unwrap().nftables = Some(chains("inet", "filter", "forward"));
        golden("nftables", &facts);
        for (family, table, name) in
            [("ip", "filter", "FORWARD"), ("ip", "docker-bridges", "f"), ("ip6", "filter", "f")]
        {
            facts.firewall.as_mut().unwrap().nftables = Some(chains(family, table, name));
            assert_eq!(found(&facts), "", "{family} {table} {name}");
        }
    }

    #[test]
    fn engine_started_before_firewalld() {
        let mut facts = good();
        facts.firewall.as_mut().unwrap().firewalld = true;
        golden("firewalld", &facts);
        for knows in ["iptables+firewalld", ""] {
            engine(&mut facts).firewall = knows.into();
            assert_eq!(found(&facts), "");
        }
    }
}
