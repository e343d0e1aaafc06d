//! Clusters on different Istio networks: calls go through east-west gateways, and nothing else does.

#![expect(clippy::unwrap_used, reason = "clippy does not recognize the helpers of tests")]

use std::time::{Duration, Instant};

use crate::environment::{Temporary, docker, node_address, restart_with_swapped_addresses};
use crate::sabotage::failed_checks;

const NAME: &str = "e2e-networks";

#[test]
#[ignore = "needs a container engine, kubectl and minutes"]
fn calls_between_networks_pass_gateways() {
    let environment = Temporary::up(NAME, "topology: multi-network\n");
    let kindmesh = &environment.kindmesh;
    let nodes = ["cluster1", "cluster2"].map(|cluster| format!("{NAME}-{cluster}-control-plane"));
    // Packets to pods of the other network that leave a node: there are none.
    let others = r"s/^stranger [^ ]* \([^ ]*\) .*/\1/p";
    let strangers = [(&nodes[0], &nodes[1]), (&nodes[1], &nodes[0])].map(|(node, peer)| {
        let subnet = docker(&["exec", node, "sed", "-n", others, "/etc/kindmesh/link.conf"]);
        let count = ["-t", "mangle", "-I", "POSTROUTING", "-o", "eth0", "-d", &subnet];
        docker(&[&["exec", node, "iptables", "-w"][..], &count].concat());
        (node, peer, subnet)
    });
    assert!(failed_checks(kindmesh, &[], None).is_empty());
    assert_eq!(strangers.each_ref().map(|(node, _, subnet)| packets(node, subnet)), [0, 0]);
    let again = environment.up_again();
    assert!(again.iter().all(|event| event["changed"] != true), "{again:?}");

    // A route to the pods of the other network: the claim is that there is none.
    for (node, peer, subnet) in &strangers {
        let via = node_address(peer).to_string();
        docker(&["exec", node, "ip", "route", "add", subnet, "via", &via, "metric", "1"]);
    }
    assert_eq!(failed_checks(kindmesh, &["network.apart"], None), ["network.apart"]);
    assert!(strangers.iter().any(|(node, _, subnet)| packets(node, subnet) > 0));
    for (node, _, subnet) in &strangers {
        docker(&["exec", node, "ip", "route", "del", subnet, "metric", "1"]);
    }

    // Calls that fail meanwhile make the breaker eject the gateway, the only endpoint, for 15 s and then 30 s.
    let started = Instant::now();
    restart_with_swapped_addresses([&nodes[0], &nodes[1]]);
    let recovered = kindmesh.wait_for_cross_cluster_call(started + Duration::from_secs(120));
    println!("recovered after {:?}", started.elapsed());
    assert!(recovered, "not recovered within two minutes: {:?}", kindmesh.run(&["status"]));
    assert!(failed_checks(kindmesh, &["network.apart"], None).is_empty());
    let clusters = ["cluster1", "cluster2"];
    kindmesh.istio_is_in_sync(&clusters, &clusters);
}

/// Returns the number of packets to a subnet that have left a node since they are counted.
fn packets(node: &str, subnet: &str) -> u64 {
    let rules = docker(&["exec", node, "iptables", "-w", "-t", "mangle", "-L", "POSTROUTING", "-n", "-v", "-x"]);
    let rule = rules.lines().find(|rule| rule.ends_with(subnet)).unwrap();
    rule.split_whitespace().next().unwrap().parse().unwrap()
}
