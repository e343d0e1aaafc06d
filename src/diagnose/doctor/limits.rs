//! The kernel's network tables: the ARP table, and that of tracked connections.

use super::check::{Check, Judgement, Severity, good};
use super::facts::Facts;
use super::fix::Fix;

/// An estimate of the ARP entries of a node: it has one for each of its 12 to 15 pods, and each of them has one for the node.
const NEIGHBOURS_A_NODE: u64 = 30;
/// An estimate for everything else on the host. The table is one for all network namespaces, and full at the limit: the kernel
/// default is 1024.
const NEIGHBOURS_OF_OTHERS: u64 = 256;
/// An estimate of the connections between a node and all others, which the host tracks, too.
const CONNECTIONS_A_NODE: u64 = 2_000;
/// An estimate for everything else on the host.
const CONNECTIONS_OF_OTHERS: u64 = 16_384;

pub(super) const CHECK: Check = Check {
    id: "network.limits",
    finds: "the kernel's ARP table or its table of tracked connections is too small for the nodes of all environments",
    tested: "unit: limits below and above",
    judge,
};

fn judge(facts: &Facts) -> Vec<Judgement> {
    // Without an answer from this kernel, `inotify.low` says that the engine runs elsewhere.
    let Some(host) = facts.same_kernel() else { return good() };
    let (nodes, own) = (facts.all_nodes(), facts.wanted.nodes);
    let neighbours = NEIGHBOURS_OF_OTHERS + nodes * NEIGHBOURS_A_NODE + own * own.saturating_sub(1);
    let connections = CONNECTIONS_OF_OTHERS + nodes * CONNECTIONS_A_NODE;
    let limits = [
        ("net.ipv4.neigh.default.gc_thresh3", host.neighbours, neighbours),
        ("net.netfilter.nf_conntrack_max", host.connections, connections),
    ];
    let low: Vec<_> = limits.into_iter().filter(|(_, has, wants)| has.is_some_and(|has| has < *wants)).collect();
    if low.is_empty() {
        return good();
    }
    let evidence = low.iter().map(|(name, has, _)| format!("{name} = {}", has.unwrap_or_default()));
    // Room to grow.
    let raised = |wants: u64| wants.next_power_of_two();
    let wanted: Vec<_> = low.iter().map(|(name, _, wants)| ((*name).to_owned(), raised(*wants))).collect();
    // The file replaces an earlier one, so it has all limits.
    let kept = |has: Option<u64>, wants: u64| match has {
        Some(has) if has < wants => raised(wants),
        has => has.unwrap_or(wants),
    };
    let lines = limits.map(|(name, has, wants)| format!("{name}={}", kept(has, wants)));
    let found = Judgement::found(
        Severity::Warns,
        format!("the kernel's network tables are too small for {nodes} nodes"),
        evidence.collect::<Vec<_>>().join(", "),
        "packets are dropped when a table is full (dmesg: \"neighbor table overflow\", \"nf_conntrack: table full\")",
        format!(
            "printf '{}\\n' | sudo tee /etc/sysctl.d/99-kindmesh.conf && sudo sysctl --system",
            lines.join("\\n")
        ),
    );
    Judgement::fixed_by(found, Fix::sysctl(&wanted))
}

#[cfg(test)]
mod tests {
    use crate::diagnose::doctor::testing::{fix, found, golden, good};

    #[test]
    fn tables_must_fit_the_number_of_nodes() {
        let mut facts = good();
        (facts.host.neighbours, facts.host.connections) = (Some(1024), Some(262_144));
        assert_eq!(found(&facts), "", "the kernel's defaults suffice for two clusters");
        facts.wanted.nodes = 20;
        golden("network_limits", &facts);
        assert_eq!(fix(&facts), "sudo sysctl net.ipv4.neigh.default.gc_thresh3=2048");
        (facts.host.neighbours, facts.host.connections) = (Some(4096), Some(32_768));
        assert_eq!(fix(&facts), "sudo sysctl net.netfilter.nf_conntrack_max=65536");
        (facts.host.neighbours, facts.host.connections) = (None, None);
        assert_eq!(found(&facts), "", "in a container, the kernel does not report them");
    }
}
