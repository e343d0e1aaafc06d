//! NetworkPolicies that keep connections between clusters away.

use std::collections::{BTreeMap, BTreeSet};

use super::mesh::{Clusters, Mesh, ROOT_NAMESPACE, Source, labels, named};
use super::rule::{Finding, Rule, Severity};
use crate::cluster::network_policy::{Direction, Labels, Peer, Port, cut};
use crate::lifecycle::deploy::place::{By, Placed};
use crate::lifecycle::deploy::references::references;
use crate::lifecycle::deploy::stubs::is_service;

pub(super) static RULE: Rule = Rule {
    id: "network-policy-cuts-clusters",
    summary: "A NetworkPolicy that admits no pods of other clusters",
    reason: "A podSelector or namespaceSelector matches only pods of its own cluster. Pods of other clusters have addresses that only \
        an ipBlock admits.",
    severity: Severity::Error,
};

/// What a policy keeps away.
pub(super) struct Cut {
    /// The finding.
    pub finding: Finding,
    /// Whether the manifests show a call that it keeps away.
    pub is_called: bool,
}

pub(super) fn find(mesh: Mesh) -> Vec<Finding> {
    cuts(mesh).into_iter().map(|cut| cut.finding).collect()
}

/// Returns what the policies keep away.
pub(super) fn cuts(mesh: Mesh) -> Vec<Cut> {
    let policies = mesh.of("NetworkPolicy");
    policies
        .flat_map(|(number, policy)| {
            [incoming(mesh, number, policy), outgoing(mesh, number, policy)].into_iter().flatten()
        })
        .collect()
}

const FIX: &str = "add an ipBlock with the pod subnet of each cluster with callers, or of the east-west gateways, to ingress.from";

/// Judges connections to the pods that a policy selects.
fn incoming(mesh: Mesh, number: usize, policy: &Source) -> Option<Cut> {
    let abroad = Peer::Outside(None);
    let cut = cut_by(mesh, policy, Direction::Ingress, &abroad);
    if cut.is_empty() {
        return None;
    }
    let called = cut.iter().find_map(|pods| Some((*pods, called_from_elsewhere(mesh, pods)?)));
    // A policy that admits nobody at all is meant, unless there is a caller.
    if policy.list("ingress").is_empty() && called.is_none() {
        return None;
    }
    // Calls between networks come in through pods of a gateway of this cluster.
    let gateway = Peer::Pod {
        namespace: Labels::of_namespace(ROOT_NAMESPACE, false),
        same_namespace: policy.namespace() == ROOT_NAMESPACE,
        labels: Labels::unknown(),
        address: None,
    };
    let is_called = called.is_some();
    let finding = if cut_by(mesh, policy, Direction::Ingress, &gateway).is_empty() {
        let what = format!("pods of other clusters reach {} only through an east-west gateway", named(&cut));
        let fix = format!("if the clusters share a network: {FIX}");
        RULE.found(number, "spec.ingress", what, fix).with(Severity::Note)
    } else if let Some((pods, because)) = called {
        let what = format!("pods of other clusters cannot reach {}, but {because}", named(&[pods]));
        RULE.found(number, "spec.ingress", what, FIX)
    } else {
        let what = format!("pods of other clusters cannot reach {}", named(&cut));
        RULE.found(number, "spec.ingress", what, format!("if they should: {FIX}")).with(Severity::Note)
    };
    Some(Cut { finding, is_called })
}

/// Judges connections from the pods that a policy selects to Services whose pods are only in other clusters.
fn outgoing(mesh: Mesh, number: usize, policy: &Source) -> Option<Cut> {
    let cut = cut_by(mesh, policy, Direction::Egress, &Peer::Outside(None));
    let (pods, because) = cut.into_iter().find_map(|pods| Some((pods, calls_elsewhere(mesh, pods)?)))?;
    let what = format!("{} cannot reach pods of other clusters, but {because}", named(&[pods]));
    let fix = "add an ipBlock with the pod subnet of each cluster with such pods, or with the addresses of its east-west gateway, to \
        egress.to";
    Some(Cut { finding: RULE.found(number, "spec.egress", what, fix), is_called: true })
}

/// Returns the workloads that a policy selects and that it, with the others of its namespace, keeps from a peer.
fn cut_by<'a>(mesh: Mesh<'a>, policy: &Source, direction: Direction, peer: &Peer) -> Vec<&'a Source> {
    let of_namespace: Vec<&Source> = mesh
        .of("NetworkPolicy")
        .map(|(_, other)| other)
        .filter(|other| other.namespace() == policy.namespace() && may_meet(other, policy))
        .collect();
    let is_cut = |pods: &&Source| {
        if !may_meet(pods, policy) {
            return false;
        }
        let specs = of_namespace.iter().map(|other| other.spec());
        let by = cut(specs, &labels_of(pods), direction, peer, &Port::any());
        // The first with rules is reported, else the first.
        let first = by.iter().find(|number| !of_namespace[**number].list(direction.fields().0).is_empty());
        first.or(by.first()).is_some_and(|number| std::ptr::eq(of_namespace[*number], policy))
    };
    mesh.workloads_in(&policy.namespace()).into_iter().filter(is_cut).collect()
}

/// Whether two objects may be in the same cluster.
fn may_meet(one: &Source, other: &Source) -> bool {
    !matches!((&one.clusters, &other.clusters), (Clusters::In(one), Clusters::In(other)) if one.is_disjoint(other))
}

/// Returns the labels of a workload's pods.
fn labels_of(pods: &Source) -> BTreeMap<String, String> {
    let labels = labels(pods);
    let labels = labels.as_object().into_iter().flatten();
    labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// Returns how a workload refers to a Service whose pods are only in other clusters, if it does.
fn calls_elsewhere(mesh: Mesh, pods: &Source) -> Option<String> {
    let Clusters::In(own) = &pods.clusters else { return None };
    let is_elsewhere = |service: &&Source| {
        let behind = mesh.behind(&[*service]);
        !behind.is_empty()
            && behind.iter().all(|other| matches!(&other.clusters, Clusters::In(names) if names.is_disjoint(own)))
    };
    let services: Vec<&Source> = mesh.of("Service").map(|(_, service)| service).filter(is_elsewhere).collect();
    let placed = [placed(pods)?];
    own.iter().find_map(|cluster| refers(&placed, cluster, &services))
}

/// Returns how objects in a cluster refer to one of these Services, if they do.
fn refers(placed: &[Placed], cluster: &str, services: &[&Source]) -> Option<String> {
    let named = |host: &str, from: Option<&str>| {
        services.iter().any(|service| is_service(host, &service.object, from)).then_some(())
    };
    references(placed, cluster, named).map(|((), because)| because)
}

/// Returns a workload with its clusters; none if they are not known.
fn placed(workload: &Source) -> Option<Placed> {
    let Clusters::In(clusters) = &workload.clusters else { return None };
    Some(Placed {
        object: workload.object.clone(),
        clusters: clusters.iter().cloned().collect(),
        by: By::Annotation,
        source: Default::default(),
    })
}

/// Returns what refers to the Service of pods in clusters that they are not in, if anything does.
fn called_from_elsewhere(mesh: Mesh, pods: &Source) -> Option<String> {
    let Clusters::In(own) = &pods.clusters else { return None };
    let others: BTreeSet<&String> = mesh
        .workloads()
        .filter_map(|workload| match &workload.clusters {
            Clusters::In(clusters) => Some(clusters.iter().filter(|cluster| !own.contains(*cluster))),
            _ => None,
        })
        .flatten()
        .collect();
    let placed: Vec<Placed> = mesh.workloads().filter_map(placed).collect();
    let services = mesh.of("Service").map(|(_, service)| service);
    let services: Vec<&Source> =
        services.filter(|service| mesh.behind(&[*service]).iter().any(|w| std::ptr::eq(*w, pods))).collect();
    others.into_iter().find_map(|cluster| refers(&placed, cluster, &services))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ORDERS, found};
    use super::*;

    fn policy(spec: &str) -> String {
        format!(
            "---\n{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: p, namespace: shop}}, spec: {spec}}}\n"
        )
    }

    const SELECTORS: &str = "{podSelector: {matchLabels: {app: orders}}, ingress: [{from: [{podSelector: {}}, {namespaceSelector: {matchLabels: {team: shop}}}]}]}";

    /// The Deployment `orders` in one cluster, and one that calls it in another.
    fn two_clusters() -> String {
        let orders = ORDERS.replace(
            "kind: Deployment, metadata: {",
            "kind: Deployment, metadata: {annotations: {kindmesh/clusters: east}, ",
        );
        assert_ne!(orders, ORDERS);
        orders
            + "---\n{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: shop, annotations: {kindmesh/clusters: west}}, \
                spec: {template: {metadata: {labels: {app: web}}, spec: {containers: [{name: a, env: [{name: ORDERS, \
                value: \"http://orders:8080\"}]}]}}}}\n"
    }

    #[test]
    fn policy_that_cuts_known_callers_is_found() {
        let found = found(&(two_clusters() + &policy(SELECTORS)), find);
        assert_eq!((found.len(), found[0].severity), (1, Severity::Error));
        assert_eq!(
            found[0].what,
            "pods of other clusters cannot reach Deployment orders, but Deployment web in west refers to http://orders:8080 (ORDERS)"
        );
    }

    #[test]
    fn default_deny_is_found_if_there_is_a_caller() {
        let deny = policy("{podSelector: {}, policyTypes: [Ingress]}");
        assert_eq!(found(&(two_clusters() + &deny), find).len(), 1);
        assert_eq!(found(&(ORDERS.to_owned() + &deny), find), []);
        // Of several policies, one with rules is reported.
        let both = found(&(two_clusters() + &deny + &policy(SELECTORS)), find);
        assert_eq!((both.len(), both[0].source), (1, 4));
    }

    #[test]
    fn egress_to_pods_of_other_clusters_needs_an_ip_block() {
        let egress = |to: &str| {
            policy(&format!(
                "{{podSelector: {{matchLabels: {{app: web}}}}, policyTypes: [Egress], egress: [{{to: [{to}]}}]}}"
            ))
        };
        let found = |to: &str| found(&(two_clusters() + &egress(to)), find);
        assert_eq!(
            found("{namespaceSelector: {}}")[0].what,
            "Deployment web cannot reach pods of other clusters, but Deployment web in west refers to http://orders:8080 (ORDERS)"
        );
        assert_eq!(found("{namespaceSelector: {}}, {ipBlock: {cidr: 10.0.0.0/8}}"), []);
    }

    #[test]
    fn policy_without_known_callers_is_a_note() {
        let found = found(&(ORDERS.to_owned() + &policy(SELECTORS)), find);
        assert_eq!((found.len(), found[0].severity), (1, Severity::Note));
    }

    #[test]
    fn policy_that_admits_a_gateway_is_a_note() {
        for selector in ["{}", "{matchLabels: {kubernetes.io/metadata.name: istio-system}}"] {
            let admits = SELECTORS.replace("{matchLabels: {team: shop}}", selector);
            assert_ne!(admits, SELECTORS);
            let found = found(&(two_clusters() + &policy(&admits)), find);
            assert_eq!((found.len(), found[0].severity), (1, Severity::Note), "{selector}");
        }
    }

    #[test]
    fn policy_that_admits_other_clusters_is_clean() {
        let block = "{podSelector: {}, ingress: [{from: [{podSelector: {}}, {ipBlock: {cidr: 10.0.0.0/8}}]}]}";
        for clean in [
            policy(block),
            policy("{podSelector: {}, ingress: [{}]}"),
            policy(
                "{podSelector: {}, policyTypes: [Egress], egress: [{}], ingress: [{from: [{podSelector: {}}]}]}",
            ),
            policy(&SELECTORS.replace("app: orders", "app: other")),
            // Another policy admits them.
            policy(SELECTORS) + &policy(block),
        ] {
            assert_eq!(found(&(two_clusters() + &clean), find), [], "{clean}");
        }
    }
}
