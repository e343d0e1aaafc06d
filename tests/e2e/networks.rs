//! Clusters on different Istio networks: calls go through east-west gateways, and nothing else does.

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
    assert!(failed_checks(kindmesh, &[], None).is_empty());
    let again = environment.up_again();
    assert!(again.iter().all(|event| event["changed"] != true), "{again:?}");

    // A route to the pods of the other network: the claim is that there is none.
    let others = r"s/^stranger [^ ]* \([^ ]*\) .*/\1/p";
    let routes = [(&nodes[0], &nodes[1]), (&nodes[1], &nodes[0])].map(|(node, peer)| {
        let subnet = docker(&["exec", node, "sed", "-n", others, "/etc/kindmesh/link.conf"]);
        docker(&[
            "exec",
            node,
            "ip",
            "route",
            "add",
            &subnet,
            "via",
            &node_address(peer).to_string(),
            "metric",
            "1",
        ]);
        (node, subnet)
    });
    assert_eq!(failed_checks(kindmesh, &["network.apart"], None), ["network.apart"]);
    for (node, subnet) in &routes {
        docker(&["exec", node, "ip", "route", "del", subnet, "metric", "1"]);
    }

    // Calls that fail meanwhile make the breaker eject the gateway, the only endpoint, for 15 s and then 30 s.
    let started = Instant::now();
    restart_with_swapped_addresses([&nodes[0], &nodes[1]]);
    let recovered = kindmesh.wait_for_cross_cluster_call(started + Duration::from_secs(120));
    println!("recovered after {:?}", started.elapsed());
    assert!(recovered, "not recovered within two minutes: {:?}", kindmesh.run(&["status"]));
    assert!(failed_checks(kindmesh, &["network.apart"], None).is_empty());
}
