//! Subsets without pods, and routes to subsets that do not exist.

use serde_json::Value;

use super::routes::{destinations, full, is_about};
use crate::lifecycle::lint::mesh::{Mesh, Source, labels, matches, named, shown};
use crate::lifecycle::lint::rule::{Finding, Rule, Severity};

pub(super) static RULE: Rule = Rule {
    id: "subset-without-pods",
    summary: "A subset that no pod belongs to, or that no DestinationRule defines",
    reason: "Calls that are routed to a subset without endpoints, or to one that is not defined, fail with 503.",
    severity: Severity::Error,
};

pub(super) fn find(mesh: Mesh) -> Vec<Finding> {
    let rules = mesh.of_istio("DestinationRule").flat_map(|(number, rule)| empty(mesh, number, rule));
    let services = mesh.of_istio("VirtualService").flat_map(|(number, service)| undefined(mesh, number, service));
    rules.chain(services).collect()
}

/// Finds subsets that none of the pods of their host belongs to.
fn empty(mesh: Mesh, number: usize, rule: &Source) -> Vec<Finding> {
    let Some(host) = rule.spec()["host"].as_str() else { return Vec::new() };
    let pods = mesh.behind(&mesh.services_of(host, rule));
    if pods.is_empty() {
        return Vec::new();
    }
    let judge = |(index, subset): (usize, &Value)| {
        let wanted = &subset["labels"];
        let is_added = |key: &String| is_added_later(key);
        let any_added = wanted.as_object().is_some_and(|wanted| wanted.keys().any(is_added));
        if any_added || pods.iter().any(|pods| matches(wanted, &labels(pods))) {
            return None;
        }
        let name = subset["name"].as_str().unwrap_or_default();
        Some(RULE.found(
            number,
            format!("spec.subsets[{index}].labels"),
            format!(
                "subset {name} of {host} has no pods: no pod of {} has the labels {}",
                named(&pods),
                shown(wanted)
            ),
            format!("give the pods these labels, or change those of subset {name}"),
        ))
    };
    rule.list("subsets").iter().enumerate().filter_map(judge).collect()
}

/// Whether a label is not in the pod template: Kubernetes adds it to pods, or Istio to endpoints.
fn is_added_later(key: &str) -> bool {
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    domain.ends_with("istio.io") || domain.ends_with("kubernetes.io") || key == "pod-template-hash"
}

/// Finds routes to subsets that no DestinationRule defines.
fn undefined(mesh: Mesh, number: usize, service: &Source) -> Vec<Finding> {
    let mut found = Vec::new();
    for destination in destinations(service) {
        let (Some(host), Some(subset)) = (destination.host(), destination.value["subset"].as_str()) else {
            continue;
        };
        let whole = full(host, &service.namespace());
        let rules: Vec<&Source> =
            mesh.of_istio("DestinationRule").map(|(_, rule)| rule).filter(|rule| is_about(rule, &whole)).collect();
        let defines = |rule: &&Source| rule.list("subsets").iter().any(|known| known["name"] == subset);
        if rules.iter().any(defines) {
            continue;
        }
        let path = format!("{}.subset", destination.path);
        let fix = format!("add subset {subset} to a DestinationRule for {host}, or route to one that exists");
        if !rules.is_empty() {
            let what = format!("no DestinationRule for {host} has a subset {subset}");
            found.push(RULE.found(number, path, what, fix));
        } else if !mesh.services_of(host, service).is_empty() {
            // It may be applied from elsewhere.
            let what =
                format!("these manifests contain no DestinationRule for {host} that defines subset {subset}");
            found.push(RULE.found(number, path, what, fix).with(Severity::Warning));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::lint::testing::{ORDERS, found, routes, rule};

    #[test]
    fn subset_without_pods_is_found() {
        let yaml = format!("{ORDERS}---\n{}", rule("subsets: [{name: v2, labels: {version: v2}}]"));
        let found = found(&yaml, find);
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].what,
            "subset v2 of orders has no pods: no pod of Deployment orders has the labels version=v2"
        );
    }

    #[test]
    fn subset_with_pods_or_unknown_pods_is_clean() {
        let v1 = rule("subsets: [{name: v1, labels: {version: v1}}]");
        assert_eq!(found(&format!("{ORDERS}---\n{v1}"), find), []);
        assert_eq!(found(&v1.replace("v1", "v2"), find), []);
        let cluster = rule("subsets: [{name: a, labels: {topology.istio.io/cluster: a}}]");
        assert_eq!(found(&format!("{ORDERS}---\n{cluster}"), find), []);
    }

    #[test]
    fn route_to_an_undefined_subset_is_found() {
        let route = routes("http: [{route: [{destination: {host: orders, subset: v2}}]}]");
        let v1 = rule("subsets: [{name: v1, labels: {version: v1}}]");
        let with_rule = found(&format!("{ORDERS}---\n{v1}---\n{route}"), find);
        assert_eq!(with_rule[0].what, "no DestinationRule for orders has a subset v2");
        assert_eq!(
            (with_rule[0].path.as_str(), with_rule[0].severity),
            ("spec.http[0].route[0].destination.subset", Severity::Error)
        );
        assert_eq!(found(&format!("{ORDERS}---\n{route}"), find)[0].severity, Severity::Warning);
        // Neither the Service nor a DestinationRule is in the manifests.
        assert_eq!(found(&route, find), []);
        let full = v1.replace("host: orders", "host: orders.shop.svc.cluster.local").replace("v1", "v2");
        assert_eq!(found(&format!("{full}---\n{route}"), find), []);
    }
}
