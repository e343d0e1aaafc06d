//! What an istiod makes at run time, without kindmesh's labels. The lists are fixed: what is not in them is not deleted.
//!
//! Read from Istio's sources, branches `release-1.31` and `release-1.30`, where both make the same.

use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::Value;

use super::record::Before;

/// Config maps of every namespace: the root certificate and the list of revoked certificates, which is empty unless `cacerts` has one.
/// From `pilot/pkg/serviceregistry/kube/controller/namespacecontroller.go`, `reconcileCACertAndCRL`.
const TRUST: [&str; 2] = ["istio-ca-root-cert", "istio-ca-crl"];
/// The label of those config maps. Same source, `configMapLabel`.
pub(super) const TRUST_LABEL: &str = "istio.io/config=true";

/// Config maps by which istiods elect a leader for a task. Names from `pilot/pkg/leaderelection/leaderelection.go`; which of them are
/// used, and as what: `pilot/pkg/bootstrap/configcontroller.go`, `pilot/pkg/bootstrap/server.go`,
/// `pilot/pkg/serviceregistry/kube/controller/multicluster.go`.
const ELECTION_MAPS: [&str; 7] = [
    "istio-analyze-leader",
    "istio-gateway-status-leader",
    "istio-ip-autoallocate",
    "istio-leader",
    "istio-namespace-controller-election",
    "istio-node-untaint",
    "istio-serviceexport-controller-election",
];
/// Leases for the same purpose. Same sources.
const ELECTION_LEASES: [&str; 1] = ["istio-status-leader"];
/// Leases of each revision, whose names end with it: `newLeaderElection` in the same file.
const ELECTION_LEASES_BY_REVISION: [&str; 2] = ["istio-gateway-deployment-", "istio-gateway-status-leader-"];
/// The Secret with the CA of an istiod without `cacerts`. From `security/pkg/pki/ca/ca.go`, `CASecret`.
const CA_SECRET: &str = "istio-ca-secret";

/// Classes of gateways, made if the cluster has the kind. From `pilot/pkg/config/kube/gatewaycommon/classinfo.go`, `GetAllClasses`, and
/// `pkg/config/constants/constants.go`; by default the first two.
const GATEWAY_CLASSES: [&str; 6] = [
    "istio",
    "istio-remote",
    "istio-waypoint",
    "istio-east-west",
    "istio-agentgateway",
    "istio-agentgateway-waypoint",
];

/// Whether an object of Istio's namespace has the kind and the name of one that istiod makes there.
pub(super) fn is_of_istiod(kind: &str, name: &str) -> bool {
    match kind {
        "ConfigMap" => ELECTION_MAPS.contains(&name),
        "Lease" => {
            ELECTION_LEASES.contains(&name) || ELECTION_LEASES_BY_REVISION.iter().any(|of| name.starts_with(of))
        }
        "Secret" => name == CA_SECRET,
        _ => false,
    }
}

/// Whether a name is that of a config map that istiod makes in every namespace.
pub(super) fn is_trust(name: &str) -> bool {
    TRUST.contains(&name)
}

/// Whether istiod made a config map of trust in a namespace: the namespace had none before `up`.
pub(super) fn made_trust(map: &impl ResourceExt, before: &Before) -> bool {
    let had = map.namespace().is_some_and(|namespace| before.trusting.contains(&namespace));
    is_trust(&map.name_any()) && !had && is_newer(map, before.recorded)
}

/// Whether istiod made a class of gateways.
pub(super) fn made_class(class: &DynamicObject, before: &Before) -> bool {
    let controller = class.data.pointer("/spec/controllerName").and_then(Value::as_str).unwrap_or_default();
    GATEWAY_CLASSES.contains(&class.name_any().as_str())
        && controller.starts_with("istio.io/")
        && is_newer(class, before.recorded)
}

/// Whether an object was created after `up` had recorded the environment: before that, kindmesh created no istiod. Times are whole
/// seconds.
pub(super) fn is_newer(object: &impl ResourceExt, recorded: Timestamp) -> bool {
    object.creation_timestamp().is_some_and(|created| created.0 >= recorded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn before(trusting: &[&str]) -> Before {
        let trusting = trusting.iter().map(|name| (*name).to_owned()).collect();
        Before {
            recorded: "2026-11-27T10:00:00Z".parse().unwrap(),
            trusting,
            kinds: Vec::new(),
            uses_istio: false,
        }
    }

    fn object(name: &str, namespace: Option<&str>, created: &str, controller: &str) -> DynamicObject {
        let metadata = json!({"name": name, "namespace": namespace, "creationTimestamp": created});
        serde_json::from_value(json!({"metadata": metadata, "spec": {"controllerName": controller}})).unwrap()
    }

    #[test]
    fn only_listed_names_of_their_kind_are_istiods() {
        assert!(is_of_istiod("ConfigMap", "istio-leader") && is_of_istiod("Secret", "istio-ca-secret"));
        assert!(
            is_of_istiod("Lease", "istio-gateway-deployment-default")
                && is_of_istiod("Lease", "istio-status-leader")
        );
        // Of another kind, or of something else.
        assert!(
            !is_of_istiod("Lease", "istio-leader")
                && !is_of_istiod("ConfigMap", "istio-gateway-deployment-default")
        );
        for map in ["istio", "istio-leaders", "cacerts", "istio-ca-secret", "istio-ca-root-cert"] {
            assert!(!is_of_istiod("ConfigMap", map), "{map}");
        }
        assert!(!is_of_istiod("Secret", "cacerts"));
    }

    #[test]
    fn trust_that_was_there_before_stays() {
        let before = before(&["legacy"]);
        let made = |name, namespace, created| made_trust(&object(name, Some(namespace), created, ""), &before);
        assert!(made("istio-ca-root-cert", "default", "2026-11-27T10:00:00Z"));
        assert!(made("istio-ca-crl", "default", "2026-11-28T10:00:00Z"));
        assert!(!made("istio-ca-root-cert", "legacy", "2026-11-27T10:05:00Z"));
        assert!(!made("istio-ca-crl", "default", "2026-11-27T09:59:59Z"));
        assert!(!made("kube-root-ca.crt", "default", "2026-11-27T10:05:00Z"));
    }

    #[test]
    fn classes_of_others_stay() {
        let before = before(&[]);
        let made = |name, created, controller| made_class(&object(name, None, created, controller), &before);
        let (later, earlier) = ("2026-11-27T10:00:30Z", "2026-11-26T10:00:00Z");
        assert!(made("istio-remote", later, "istio.io/unmanaged-gateway"));
        assert!(!made("istio", earlier, "istio.io/gateway-controller"));
        assert!(!made("istio", later, "example.org/gateway"));
        assert!(!made("gke-l7", later, "istio.io/gateway-controller"));
    }
}
