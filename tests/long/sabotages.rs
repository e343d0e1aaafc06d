//! Every check of `verify` fails when its claim is broken, and only then.

use kindmesh::internals::diagnose::verify::CHECKS;
use kindmesh::internals::host::trust::{Intermediate, Root};

use crate::environment::{E2E, docker};
use crate::sabotage::{self, failed_checks};
use crate::wait_until;

/// Claims that hold whatever fails between the clusters.
const LINK_INDEPENDENT: [&str; 2] = ["name.absent", "trust.root"];

#[test]
#[ignore = "needs a container engine and minutes"]
fn policy_checks_fail_only_when_their_policy_is_broken() {
    let kindmesh = E2E.up();
    for id in sabotage::policy_checks() {
        assert_eq!(failed_checks(kindmesh, &[], Some(&id)), [id.as_str()]);
    }
    assert!(failed_checks(kindmesh, &[], None).is_empty());
}

#[test]
#[ignore = "needs a container engine and minutes"]
fn verify_detects_a_disabled_link() {
    let kindmesh = E2E.up();
    let node = "e2e-cluster2-control-plane";
    docker(&["exec", node, "touch", "/etc/kindmesh/cut"]);
    let route_removed = wait_until(|| {
        docker(&["exec", node, "ip", "route", "show", "root", "10.0.0.0/8"]).matches("via 1").count() == 0
    });
    let failures = failed_checks(kindmesh, &[], None);
    docker(&["exec", node, "rm", "/etc/kindmesh/cut"]);
    assert!(route_removed, "the route was not removed");
    assert!(failures.contains(&"link.pods".into()), "{failures:?}");
    assert!(!failures.iter().any(|id| LINK_INDEPENDENT.contains(&id.as_str())), "{failures:?}");
    assert!(wait_until(|| failed_checks(kindmesh, &["link.pods"], None).is_empty()));
}

#[test]
#[ignore = "needs a container engine and minutes"]
fn verify_detects_a_deleted_remote_secret() {
    let kindmesh = E2E.up();
    let secret = ["-n", "istio-system", "delete", "secret", "istio-remote-secret-cluster2"];
    assert_eq!(kindmesh.kubectl("cluster1", &secret).code, 0);
    let failures = failed_checks(kindmesh, &[], None);
    assert_eq!(kindmesh.run(&["up"]).code, 0);
    assert!(failures.contains(&"mesh.synced".into()), "{failures:?}");
    assert!(
        !failures.iter().any(|id| LINK_INDEPENDENT.contains(&id.as_str()) || id == "link.pods"),
        "{failures:?}"
    );
    assert!(failed_checks(kindmesh, &[], None).is_empty());
}

#[test]
#[ignore = "needs a container engine and minutes"]
fn verify_detects_missing_mutual_tls() {
    let kindmesh = E2E.up();
    let file = tempfile::NamedTempFile::new().unwrap();
    let policy = "{apiVersion: security.istio.io/v1, kind: PeerAuthentication, \
        metadata: {name: default, namespace: istio-system}, spec: {mtls: {mode: DISABLE}}}";
    std::fs::write(file.path(), policy).unwrap();
    let path = file.path().to_str().unwrap();
    let in_both_clusters = |verb: &str| {
        for cluster in ["cluster1", "cluster2"] {
            let output = kindmesh.kubectl(cluster, &[verb, "-f", path]);
            assert_eq!(output.code, 0, "{output:?}");
        }
    };
    in_both_clusters("apply");
    let failures = failed_checks(kindmesh, &["mtls", "link", "name", "balance", "telemetry", "protocol"], None);
    in_both_clusters("delete");
    assert!(failures.contains(&"mtls.identity".into()), "{failures:?}");
    let protocols = failures.iter().filter(|id| id.starts_with("protocol."));
    assert_eq!(protocols.count(), 4, "{failures:?}");
    // STRICT on one pod also fails in a mesh whose callers do not encrypt.
    assert!(failures.iter().all(|id| id.starts_with("mtls") || id.starts_with("protocol.")), "{failures:?}");
    assert!(failed_checks(kindmesh, &["mtls", "protocol"], None).is_empty());
}

#[test]
#[ignore = "needs a container engine and minutes"]
fn verify_detects_another_root_ca() {
    let kindmesh = E2E.up();
    let dir = tempfile::tempdir().unwrap();
    let root = Root::ensure(dir.path(), "other").unwrap().value;
    let other = Intermediate::ensure(dir.path(), &root, "other", "cluster2").unwrap().value;
    for (name, content) in other.secret_data() {
        std::fs::write(dir.path().join(name), content).unwrap();
    }
    let from_file = |name: &str| format!("--from-file={}", dir.path().join(name).display());
    let files = ["ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"].map(from_file);
    let mut create = vec!["-n", "istio-system", "create", "secret", "generic", "cacerts"];
    create.extend(files.iter().map(String::as_str));
    kindmesh.kubectl("cluster2", &["-n", "istio-system", "delete", "secret", "cacerts"]);
    assert_eq!(kindmesh.kubectl("cluster2", &create).code, 0);
    for (namespace, deployment) in [("istio-system", "deploy/istiod"), ("sample", "deploy/sample-producer")] {
        for verb in ["restart", "status"] {
            let output = kindmesh.kubectl("cluster2", &["-n", namespace, "rollout", verb, deployment]);
            assert_eq!(output.code, 0, "{output:?}");
        }
    }
    let failures = failed_checks(kindmesh, &[], None);
    // `up` restarts what uses the replaced `cacerts`, whoever replaced it.
    let up = kindmesh.run(&["up"]);
    assert_eq!(up.code, 0, "{up:?}");
    assert!(failures.contains(&"trust.root".into()), "{failures:?}");
    assert!(!failures.iter().any(|id| ["link.pods", "name.absent"].contains(&id.as_str())), "{failures:?}");
    assert!(failed_checks(kindmesh, &[], None).is_empty());
}

#[test]
fn every_check_has_a_sabotage() {
    let environment_checks = ["link.pods", "network.apart", "trust.root", "mesh.synced", "mtls.identity"];
    let policy_checks = sabotage::policy_checks();
    for check in &CHECKS {
        let has_exactly_one =
            policy_checks.iter().any(|id| id == check.id) != environment_checks.contains(&check.id);
        assert!(has_exactly_one, "{} has no sabotage, or two", check.id);
    }
    assert_eq!(policy_checks.len() + environment_checks.len(), CHECKS.len());
}
