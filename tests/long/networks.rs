//! Three clusters, two of them on one network and the third behind a gateway, with the subnets of the first.

use std::time::{Duration, Instant};

use crate::environment::{Temporary, restart_with_swapped_addresses};
use crate::sabotage::failed_checks;

const SPEC: &str = "
clusters:
  - {name: east, region: r1, zone: z1, podSubnet: 10.200.0.0/16, serviceSubnet: 10.201.0.0/16}
  - {name: west, region: r2, zone: z2}
  - {name: far, region: r3, zone: z3, network: vpc2, podSubnet: 10.200.0.0/16, serviceSubnet: 10.201.0.0/16}
samples:
  caller: {clusters: [east, far]}
  producer: {clusters: [west, far]}
";

#[test]
#[ignore = "needs a container engine, 6 GB of memory and minutes"]
fn flat_and_separate_networks_mix() {
    let environment = Temporary::up("e2e-mixed", SPEC);
    let kindmesh = &environment.kindmesh;
    assert!(failed_checks(kindmesh, &[], None).is_empty());
    let again = environment.up_again();
    assert!(again.iter().all(|event| event["changed"] != true), "{again:?}");

    let started = Instant::now();
    restart_with_swapped_addresses(["e2e-mixed-east-control-plane", "e2e-mixed-far-control-plane"]);
    let recovered = kindmesh.wait_for_cross_cluster_call(started + Duration::from_secs(120));
    println!("recovered after {:?}", started.elapsed());
    assert!(recovered, "not recovered within two minutes: {:?}", kindmesh.run(&["status"]));
    assert!(failed_checks(kindmesh, &["network.apart", "link.pods"], None).is_empty());
    let clusters = ["east", "far", "west"];
    kindmesh.istio_is_in_sync(&clusters, &clusters);
}
