//! NetworkPolicies that admit nobody from other clusters.

use std::collections::BTreeSet;

use kube::core::{Selector, SelectorExt};
use serde_json::Value;

use crate::lifecycle::deploy::place::{By, Placed};
use crate::lifecycle::deploy::references::references;
use crate::lifecycle::deploy::stubs::is_service;
use crate::lifecycle::lint::mesh::{Clusters, Mesh, ROOT_NAMESPACE, Source, labels, list, named};
use crate::lifecycle::lint::rule::{Finding, Rule, Severity};

pub(super) static RULE: Rule = Rule {
    id: "network-policy-cuts-clusters",
    summary: "A NetworkPolicy that admits no pods of other clusters",
    reason: "A podSelector or namespaceSelector matches only pods of its own cluster. Pods of other clusters come in with addresses \
        that only an ipBlock admits.",
    severity: Severity::Error,
};

pub(super) fn find(mesh: Mesh) -> Vec<Finding> {
    mesh.of("NetworkPolicy").filter_map(|(number, policy)| judge(mesh, number, policy)).collect()
}

fn judge(mesh: Mesh, number: usize, policy: &Source) -> Option<Finding> {
    if !restricts(policy) || policy.list("ingress").is_empty() {
        return None;
    }
    let selected: Vec<&Source> =
        mesh.workloads_in(&policy.namespace()).into_iter().filter(|pods| selects(policy, pods)).collect();
    // Policies add up: a connection is accepted if any of them admits it.
    let cut: Vec<&Source> = selected
        .into_iter()
        .filter(|pods| {
            let about = mesh
                .of("NetworkPolicy")
                .map(|(_, other)| other)
                .filter(|other| other.namespace() == pods.namespace() && restricts(other) && selects(other, pods));
            about.flat_map(|other| other.list("ingress")).all(is_of_this_cluster)
        })
        .collect();
    if cut.is_empty() {
        return None;
    }
    let path = "spec.ingress";
    let fix = "add an ipBlock with the pod subnet of each cluster with callers, or of the east-west gateways, to ingress.from";
    // Calls between networks come in through pods of a gateway of this cluster.
    let gateways = mesh.of("NetworkPolicy").any(|(_, other)| {
        let peers = other.list("ingress").iter().flat_map(|rule| list(&rule["from"]));
        other.namespace() == policy.namespace() && peers.into_iter().any(may_be_gateway)
    });
    if gateways {
        let what = format!("pods of other clusters reach {} only through an east-west gateway", named(&cut));
        let fix = format!("if the clusters share a network: {fix}");
        return Some(RULE.found(number, path, what, fix).with(Severity::Note));
    }
    if let Some((pods, because)) = cut.iter().find_map(|pods| Some((*pods, called_from_elsewhere(mesh, pods)?))) {
        let what = format!("pods of other clusters cannot reach {}, but {because}", named(&[pods]));
        return Some(RULE.found(number, path, what, fix));
    }
    let what = format!("pods of other clusters cannot reach {}", named(&cut));
    Some(RULE.found(number, path, what, format!("if they should: {fix}")).with(Severity::Note))
}

/// Whether a policy restricts incoming connections.
fn restricts(policy: &Source) -> bool {
    let types = policy.list("policyTypes");
    types.is_empty() || types.iter().any(|kind| kind == "Ingress")
}

/// Whether a policy selects the pods of a workload in its namespace.
fn selects(policy: &Source, pods: &Source) -> bool {
    let selector: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector> =
        serde_json::from_value(policy.spec()["podSelector"].clone()).ok();
    let Some(selector) = selector.and_then(|selector| Selector::try_from(selector).ok()) else { return false };
    let labels = labels(pods);
    let labels = labels.as_object().into_iter().flatten();
    let labels = labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
    selector.matches(&labels.collect())
}

/// Whether a rule admits only pods that a selector of this cluster matches.
fn is_of_this_cluster(rule: &Value) -> bool {
    let from = list(&rule["from"]);
    !from.is_empty() && from.iter().all(|peer| peer["ipBlock"].is_null())
}

/// Whether a peer of a rule may be an east-west gateway: it admits pods of all namespaces, or of that of the control plane.
fn may_be_gateway(peer: &Value) -> bool {
    let selector = &peer["namespaceSelector"];
    let wanted = selector["matchLabels"].as_object();
    let name = wanted.and_then(|wanted| wanted.get("kubernetes.io/metadata.name"));
    selector.is_object()
        && (wanted.is_none_or(|wanted| wanted.is_empty()) || name.is_some_and(|name| name == ROOT_NAMESPACE))
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
    let placed = |workload: &Source| match &workload.clusters {
        Clusters::In(clusters) => Some(Placed {
            object: workload.object.clone(),
            clusters: clusters.iter().cloned().collect(),
            by: By::Annotation,
            source: Default::default(),
        }),
        _ => None,
    };
    let placed: Vec<Placed> = mesh.workloads().filter_map(placed).collect();
    let services = mesh.of("Service").map(|(_, service)| service);
    let services: Vec<&Source> =
        services.filter(|service| mesh.behind(&[*service]).iter().any(|w| std::ptr::eq(*w, pods))).collect();
    others.into_iter().find_map(|cluster| {
        let named = |host: &str, from: Option<&str>| {
            services.iter().any(|service| is_service(host, &service.object, from)).then_some(())
        };
        references(&placed, cluster, named).map(|((), because)| because)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::lint::testing::{ORDERS, found};

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
            policy("{podSelector: {}, policyTypes: [Egress], ingress: [{from: [{podSelector: {}}]}]}"),
            policy(&SELECTORS.replace("app: orders", "app: other")),
            // Another policy admits them.
            policy(SELECTORS) + &policy(block),
        ] {
            assert_eq!(found(&(two_clusters() + &clean), find), [], "{clean}");
        }
    }
}
