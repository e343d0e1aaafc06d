//! A killed control plane and a killed cluster, and their return.

use std::time::Duration;

use crate::environment::{E2E, Kindmesh, docker};
use crate::faulting::{NODES, active, eventually, fault};
use crate::killing::RunningCommand;

#[test]
#[ignore = "needs a container engine, kubectl and minutes"]
fn killed_control_plane_and_cluster_return() {
    let kindmesh = E2E.up();
    let istiods = |kindmesh: &Kindmesh| {
        kindmesh
            .kubectl(
                "cluster1",
                &["-n", "istio-system", "get", "deployment/istiod", "-o", "jsonpath={.spec.replicas}"],
            )
            .stdout
    };
    let before = istiods(kindmesh);
    fault(kindmesh, &["kill-istiod", "cluster1", "--for", "30s"]);
    assert_eq!((istiods(kindmesh).as_str(), before.as_str()), ("0", "1"));
    eventually("istiod to return", || istiods(kindmesh) == before);

    // A killed command leaves the cluster down, and says so until the next command.
    let command = RunningCommand::start(kindmesh, &["fault", "kill-cluster", "cluster2", "--for", "10m"]);
    assert!(command.kill_at(|event| event.is_end_of("kill"), Duration::from_secs(60)));
    assert_eq!(docker(&["inspect", "--format", "{{.State.Running}}", NODES[1]]), "false");
    let status = kindmesh.run(&["status"]);
    assert!(status.code == 1 && status.stdout.contains("its command was killed"), "{status:?}");
    let call = kindmesh.run(&["call"]);
    assert!(call.code == 0 && call.stdout.starts_with("200 "), "{call:?}");
    assert_eq!(active(kindmesh), (0, 0));
}
