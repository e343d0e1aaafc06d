//! Every check of `verify` fails when its claim is broken, and only then.

use kindmesh::internals::diagnose::verify::CHECKS;
use kindmesh::internals::host::trust::{Intermediate, Root};

use crate::environment::{E2E, docker};
use crate::sabotage::{self, failed};
use crate::until;

/// Claims that hold whatever fails between the clusters.
const ALONE: [&str; 2] = ["name.absent", "trust.root"];

#[test]
#[ignore = "needs a container engine and minutes"]
fn every_check_of_a_policy_fails_when_its_policy_is_broken() {
    let kindmesh = E2E.up();
    for id in sabotage::of_policies() {
        assert_eq!(failed(kindmesh, &[], Some(&id)), [id.as_str()]);
    }
    assert!(failed(kindmesh, &[], None).is_empty());
}

#[test]
#[ignore = "needs a container engine and minutes"]
fn a_cut_link_is_found() {
    let kindmesh = E2E.up();
    let node = "e2e-cluster2-control-plane";
    docker(&["exec", node, "touch", "/etc/kindmesh/cut"]);
    let cut = until(|| {
        docker(&["exec", node, "ip", "route", "show", "root", "10.0.0.0/8"]).matches("via 1").count() == 0
    });
    let found = failed(kindmesh, &[], None);
    docker(&["exec", node, "rm", "/etc/kindmesh/cut"]);
    assert!(cut, "the route was not removed");
    assert!(found.contains(&"link.pods".into()), "{found:?}");
    assert!(!found.iter().any(|id| ALONE.contains(&id.as_str())), "{found:?}");
    assert!(until(|| failed(kindmesh, &["link.pods"], None).is_empty()));
}

#[test]
#[ignore = "needs a container engine and minutes"]
fn a_lost_remote_secret_is_found() {
    let kindmesh = E2E.up();
    let secret = ["-n", "istio-system", "delete", "secret", "istio-remote-secret-cluster2"];
    assert_eq!(kindmesh.kubectl("cluster1", &secret).code, 0);
    let found = failed(kindmesh, &[], None);
    assert_eq!(kindmesh.run(&["up"]).code, 0);
    assert!(found.contains(&"mesh.synced".into()), "{found:?}");
    assert!(!found.iter().any(|id| ALONE.contains(&id.as_str()) || id == "link.pods"), "{found:?}");
    assert!(failed(kindmesh, &[], None).is_empty());
}

#[test]
#[ignore = "needs a container engine and minutes"]
fn a_mesh_without_mutual_tls_is_found() {
    let kindmesh = E2E.up();
    let file = tempfile::NamedTempFile::new().unwrap();
    let policy = "{apiVersion: security.istio.io/v1, kind: PeerAuthentication, \
        metadata: {name: default, namespace: istio-system}, spec: {mtls: {mode: DISABLE}}}";
    std::fs::write(file.path(), policy).unwrap();
    let path = file.path().to_str().unwrap();
    let both = |verb: &str| {
        for cluster in ["cluster1", "cluster2"] {
            let said = kindmesh.kubectl(cluster, &[verb, "-f", path]);
            assert_eq!(said.code, 0, "{said:?}");
        }
    };
    both("apply");
    let found = failed(kindmesh, &["mtls", "link", "name", "balance", "telemetry"], None);
    both("delete");
    assert!(found.contains(&"mtls.identity".into()), "{found:?}");
    // STRICT on one pod also fails in a mesh whose callers do not encrypt.
    assert!(found.iter().all(|id| id.starts_with("mtls")), "{found:?}");
    assert!(failed(kindmesh, &["mtls"], None).is_empty());
}

#[test]
#[ignore = "needs a container engine and minutes"]
fn another_root_is_found() {
    let kindmesh = E2E.up();
    let folder = tempfile::tempdir().unwrap();
    let root = Root::ensure(folder.path(), "other").unwrap().value;
    let other = Intermediate::ensure(folder.path(), &root, "other", "cluster2").unwrap().value;
    for (name, content) in other.secret_data() {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    let from = |name: &str| format!("--from-file={}", folder.path().join(name).display());
    let files = ["ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"].map(from);
    let mut create = vec!["-n", "istio-system", "create", "secret", "generic", "cacerts"];
    create.extend(files.iter().map(String::as_str));
    kindmesh.kubectl("cluster2", &["-n", "istio-system", "delete", "secret", "cacerts"]);
    assert_eq!(kindmesh.kubectl("cluster2", &create).code, 0);
    for (namespace, deployment) in [("istio-system", "deploy/istiod"), ("sample", "deploy/sample-producer")] {
        for verb in ["restart", "status"] {
            let said = kindmesh.kubectl("cluster2", &["-n", namespace, "rollout", verb, deployment]);
            assert_eq!(said.code, 0, "{said:?}");
        }
    }
    let found = failed(kindmesh, &[], None);
    // `up` restarts what uses the replaced `cacerts`, whoever replaced it.
    let up = kindmesh.run(&["up"]);
    assert_eq!(up.code, 0, "{up:?}");
    assert!(found.contains(&"trust.root".into()), "{found:?}");
    assert!(!found.iter().any(|id| ["link.pods", "name.absent"].contains(&id.as_str())), "{found:?}");
    assert!(failed(kindmesh, &[], None).is_empty());
}

#[test]
fn every_check_has_a_sabotage() {
    let of_the_environment = ["link.pods", "trust.root", "mesh.synced", "mtls.identity"];
    let of_policies = sabotage::of_policies();
    for check in &CHECKS {
        let one = of_policies.iter().any(|id| id == check.id) != of_the_environment.contains(&check.id);
        assert!(one, "{} has no sabotage, or two", check.id);
    }
    assert_eq!(of_policies.len() + of_the_environment.len(), CHECKS.len());
}
