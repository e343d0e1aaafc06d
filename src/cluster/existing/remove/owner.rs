//! Whose an object is: which kinds kindmesh creates, and what in a namespace belongs to others. Pure.

use kube::ResourceExt;
use kube::api::{ApiResource, DynamicObject};
use kube::core::{GroupVersionKind, PartialObjectMeta};

use crate::cluster::kinds::same;
use crate::cluster::objects::is_ours;
use crate::plan::{MANAGED_BY, MANAGED_BY_LABEL};

/// The metadata of an object. Content is not needed, and that of Secrets is secret.
pub(super) type Metadata = PartialObjectMeta<DynamicObject>;
/// The API version of a kind, and the kind.
pub(super) type Kind = (&'static str, &'static str);

pub(super) const CONFIG_MAP: Kind = ("v1", "ConfigMap");
pub(super) const DEFINITION: Kind = ("apiextensions.k8s.io/v1", "CustomResourceDefinition");
pub(super) const DEPLOYMENT: Kind = ("apps/v1", "Deployment");
pub(super) const GATEWAY_API_GATEWAY: Kind = ("gateway.networking.k8s.io/v1", "Gateway");
pub(super) const GATEWAY_CLASS: Kind = ("gateway.networking.k8s.io/v1", "GatewayClass");
pub(super) const LEASE: Kind = ("coordination.k8s.io/v1", "Lease");
pub(super) const NAMESPACE: Kind = ("v1", "Namespace");
pub(super) const SECRET: Kind = ("v1", "Secret");
pub(super) const SERVICE: Kind = ("v1", "Service");

/// The configurations of webhooks.
pub(super) const WEBHOOKS: [Kind; 2] = [
    ("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration"),
    ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"),
];
/// Cluster-wide kinds that kindmesh creates, besides webhooks, CRDs and namespaces.
pub(super) const CLUSTER_WIDE: [Kind; 2] =
    [("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"), ("rbac.authorization.k8s.io/v1", "ClusterRole")];
/// Kinds that kindmesh creates in namespaces.
pub(super) const NAMESPACED: [Kind; 13] = [
    DEPLOYMENT,
    SERVICE,
    ("v1", "Pod"),
    CONFIG_MAP,
    SECRET,
    ("v1", "ServiceAccount"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("networking.istio.io/v1", "DestinationRule"),
    ("networking.istio.io/v1", "Gateway"),
    ("networking.istio.io/v1", "VirtualService"),
    ("security.istio.io/v1", "AuthorizationPolicy"),
    ("security.istio.io/v1", "PeerAuthentication"),
];

/// Further kinds that others may have in a namespace.
const OF_OTHERS: [Kind; 23] = [
    ("v1", "PersistentVolumeClaim"),
    ("v1", "ReplicationController"),
    ("v1", "ResourceQuota"),
    ("apps/v1", "DaemonSet"),
    ("apps/v1", "ReplicaSet"),
    ("apps/v1", "StatefulSet"),
    ("batch/v1", "CronJob"),
    ("batch/v1", "Job"),
    ("networking.k8s.io/v1", "Ingress"),
    ("extensions.istio.io/v1alpha1", "TrafficExtension"),
    ("extensions.istio.io/v1alpha1", "WasmPlugin"),
    ("networking.istio.io/v1", "ServiceEntry"),
    ("networking.istio.io/v1", "Sidecar"),
    ("networking.istio.io/v1", "WorkloadEntry"),
    ("networking.istio.io/v1", "WorkloadGroup"),
    ("networking.istio.io/v1alpha3", "EnvoyFilter"),
    ("networking.istio.io/v1beta1", "ProxyConfig"),
    ("security.istio.io/v1", "RequestAuthentication"),
    ("telemetry.istio.io/v1", "Telemetry"),
    GATEWAY_API_GATEWAY,
    ("gateway.networking.k8s.io/v1", "GRPCRoute"),
    ("gateway.networking.k8s.io/v1", "HTTPRoute"),
    ("gateway.networking.k8s.io/v1", "TLSRoute"),
];

/// Objects that Kubernetes and Istio create in every namespace.
const IN_EVERY_NAMESPACE: [Kind; 4] = [
    ("ConfigMap", "kube-root-ca.crt"),
    ("ConfigMap", "istio-ca-root-cert"),
    ("ConfigMap", "istio-ca-crl"),
    ("ServiceAccount", "default"),
];
/// The annotation of a Secret with the token of a service account: Kubernetes deletes it with that account.
const TOKEN_OF: &str = "kubernetes.io/service-account.name";
/// How many objects of others a message names.
const MAX_NAMED: usize = 10;

/// Returns the API resource of a kind.
pub(super) fn resource((api_version, kind): Kind) -> ApiResource {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

/// Returns the kinds of cluster-wide objects that kindmesh creates.
pub(super) fn everywhere() -> impl Iterator<Item = ApiResource> {
    WEBHOOKS.into_iter().chain(CLUSTER_WIDE).chain([NAMESPACE, DEFINITION]).map(resource)
}

/// Returns the kinds that kindmesh creates in namespaces, and those that `deploy` applied.
pub(super) fn applied(deployed: &[ApiResource]) -> Vec<ApiResource> {
    let mut kinds = NAMESPACED.map(resource).to_vec();
    let own: Vec<ApiResource> = everywhere().chain(kinds.clone()).collect();
    kinds.extend(deployed.iter().filter(|kind| !own.iter().any(|own| same(own, kind))).cloned());
    kinds
}

/// Returns the kinds of objects by which a namespace is not only kindmesh's.
pub(super) fn looked_for(deployed: &[ApiResource]) -> Vec<ApiResource> {
    let mut kinds = applied(deployed);
    for kind in OF_OTHERS.map(resource) {
        if !kinds.iter().any(|known| same(known, &kind)) {
            kinds.push(kind);
        }
    }
    kinds
}

/// Returns the selector of kindmesh's objects: a cluster that exists belongs to at most one environment.
pub(super) fn selector() -> String {
    format!("{MANAGED_BY_LABEL}={MANAGED_BY}")
}

/// Whether an object in a namespace that kindmesh created belongs to somebody else. `looked_for` are the kinds that are listed: an
/// object that one of another kind owns is judged by itself, because its owner is not seen.
pub(super) fn is_foreign(kind: &str, object: &Metadata, looked_for: &[ApiResource]) -> bool {
    let name = object.name_any();
    let owned = object.owner_references().iter().any(|owner| {
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        looked_for.iter().any(|known| (known.group.as_str(), &known.kind) == (group, &owner.kind))
    });
    let goes_along = object.metadata.deletion_timestamp.is_some()
        || IN_EVERY_NAMESPACE.contains(&(kind, name.as_str()))
        || (kind == "Secret" && object.annotations().contains_key(TOKEN_OF));
    !(is_ours(object) || owned || goes_along)
}

/// Returns names as one text, of many only the first.
pub(super) fn named(names: &[String]) -> String {
    let more = names.len().saturating_sub(MAX_NAMED);
    let mut text = names[..names.len() - more].join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

/// Returns why an object still exists after it was deleted.
pub(super) fn why_there(kind: &str, object: &Metadata, others: usize) -> String {
    let name = match object.namespace() {
        Some(namespace) => format!("{kind} {namespace}/{}", object.name_any()),
        None => format!("{kind} {}", object.name_any()),
    };
    let state = match (&object.metadata.deletion_timestamp, object.finalizers()) {
        (None, _) => "exists".to_owned(),
        (Some(_), []) => "is being deleted".to_owned(),
        (Some(_), finalizers) => format!("is being deleted, finalizers: {}", finalizers.join(", ")),
    };
    if others == 0 { format!("{name} {state}") } else { format!("{name} {state}, and {others} more") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::permissions;
    use serde_json::{Value, json};

    fn object(metadata: Value) -> Metadata {
        serde_json::from_value(json!({ "metadata": metadata })).unwrap()
    }

    fn foreign(kind: &str, metadata: Value) -> bool {
        is_foreign(kind, &object(metadata), &looked_for(&[]))
    }

    #[test]
    fn what_only_belongs_to_the_namespace_is_not_foreign() {
        assert!(foreign("ConfigMap", json!({"name": "settings"})));
        assert!(!foreign("ConfigMap", json!({"name": "kube-root-ca.crt"})));
        // The name alone does not decide.
        assert!(
            foreign("Secret", json!({"name": "default"}))
                && !foreign("ServiceAccount", json!({"name": "default"}))
        );
        assert!(!foreign(
            "Secret",
            json!({"name": "t", "annotations": {"kubernetes.io/service-account.name": "default"}})
        ));
        assert!(!foreign("ConfigMap", json!({"name": "a", "deletionTimestamp": "2026-11-27T10:00:00Z"})));
    }

    #[test]
    fn an_owned_object_counts_only_if_its_owner_is_not_listed() {
        let owned = |api_version: &str, kind: &str| {
            let owner = json!({"apiVersion": api_version, "kind": kind, "name": "o", "uid": "u"});
            foreign("Secret", json!({"name": "tls", "ownerReferences": [owner]}))
        };
        assert!(!owned("apps/v1", "ReplicaSet") && !owned("v1", "Service"));
        assert!(owned("cert-manager.io/v1", "Certificate") && owned("example.org/v1", "Deployment"));
    }

    #[test]
    fn recorded_kinds_are_added_once() {
        let stateful = resource(("apps/v1", "StatefulSet"));
        let deployed = [stateful.clone(), resource(DEPLOYMENT), resource(NAMESPACE), resource(CLUSTER_WIDE[1])];
        let kinds = applied(&deployed);
        assert_eq!(kinds.len(), NAMESPACED.len() + 1);
        assert_eq!(kinds.last(), Some(&stateful));
        let kind = |kind: &ApiResource| format!("{} {}", kind.group, kind.kind);
        let seen: Vec<String> = looked_for(&deployed).iter().map(kind).collect();
        let each: std::collections::BTreeSet<&String> = seen.iter().collect();
        assert_eq!(each.len(), seen.len(), "{seen:?}");
    }

    /// What `up` may create, `down` must delete; and it may do nothing that the role does not grant.
    #[test]
    fn the_role_grants_what_is_listed_and_deleted() {
        let needed = permissions::needed().unwrap();
        let granted = |kind: &ApiResource, verb: &str| {
            needed.iter().any(|permission| {
                permission.group == kind.group
                    && (permission.resource == kind.plural || permission.resource == "*")
                    && permission.verb == verb
            })
        };
        let deleted = NAMESPACED.into_iter().chain(WEBHOOKS).chain(CLUSTER_WIDE);
        let deleted: Vec<_> = deleted.chain([NAMESPACE, DEFINITION, LEASE, GATEWAY_CLASS]).map(resource).collect();
        for kind in &deleted {
            assert!(granted(kind, "list") && granted(kind, "delete"), "{kind:?}");
        }
        for kind in &looked_for(&[]) {
            assert!(granted(kind, "list"), "{kind:?}");
        }
        // What is no object of the cluster, and what only istiod creates, for workloads and Services that others declare.
        let others = ["tokenreviews", "subjectaccessreviews", "workloadentries", "serviceexports"];
        for permission in needed.iter().filter(|permission| permission.verb == "create") {
            let resource = permission.resource.as_str();
            let is = |kind: &ApiResource| kind.group == permission.group && kind.plural == resource;
            let left = !resource.contains('/') && !others.contains(&resource);
            assert!(!left || deleted.iter().any(is), "{permission}, but it is never deleted");
        }
    }

    #[test]
    fn messages_name_what_is_left() {
        let names: Vec<String> = (0..12).map(|number| format!("Secret {number}")).collect();
        assert!(named(&names).ends_with("Secret 9 and 2 more") && named(&names[..2]) == "Secret 0, Secret 1");
        let service = object(
            json!({"name": "gateway", "namespace": "istio-system", "finalizers": ["service.kubernetes.io/load-balancer-cleanup"],
            "deletionTimestamp": "2026-11-27T10:00:00Z"}),
        );
        let said = "Service istio-system/gateway is being deleted, finalizers: service.kubernetes.io/load-balancer-cleanup";
        assert_eq!(why_there("Service", &service, 0), said);
        assert_eq!(why_there("ClusterRole", &object(json!({"name": "a"})), 2), "ClusterRole a exists, and 2 more");
    }
}
