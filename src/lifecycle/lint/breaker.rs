//! Circuit breakers that cannot open.

use serde_json::Value;

use super::levels::{Level, levels};
use super::mesh::{Clusters, Mesh, Source, labels, matches, named};
use super::rule::{Finding, Rule, Severity};
use crate::cluster::ejection;
use crate::lifecycle::deploy::place;

pub(super) static RULE: Rule = Rule {
    id: "breaker-cannot-open",
    summary: "A circuit breaker that can never eject an endpoint",
    reason: "Outlier detection ejects an endpoint only if the ejected ones stay within maxEjectionPercent of all endpoints. The \
        default is 10 %, which is nobody of fewer than ten endpoints: failing pods keep getting calls.",
    severity: Severity::Error,
};

pub(super) fn find(mesh: Mesh) -> Vec<Finding> {
    let rules = mesh.of_istio("DestinationRule");
    rules
        .flat_map(|(number, rule)| {
            levels(rule).into_iter().filter_map(move |level| judge(mesh, number, rule, &level))
        })
        .collect()
}

fn judge(mesh: Mesh, number: usize, rule: &Source, level: &Level) -> Option<Finding> {
    let outlier = level.policy.get("outlierDetection").filter(|outlier| outlier.is_object())?;
    let path = format!("{}.outlierDetection", level.path);
    if counts_nothing(outlier) {
        let what = "outlierDetection counts no errors: consecutive5xxErrors is 0, and consecutiveGatewayErrors is not set";
        return Some(RULE.found(number, path, what, "set consecutive5xxErrors to 1 or more"));
    }
    let host = rule.spec()["host"].as_str()?;
    let services = mesh.services_of(host, rule);
    // A Service of a single pod of a StatefulSet selects fewer than the workload has.
    if services.iter().any(|service| selects_one(service)) {
        return None;
    }
    let mut pods = mesh.behind(&services);
    if let Some(subset) = level.subset {
        pods.retain(|workload| matches(&subset["labels"], &labels(workload)));
    }
    let endpoints = mesh.pods(&pods)?;
    let percent = ejection::percent(outlier);
    let why = ejection::impossible(percent, endpoints)?;
    let of = level.subset.and_then(|subset| subset["name"].as_str()).map(|name| format!("subset {name} of "));
    let default = if outlier["maxEjectionPercent"].as_u64().unwrap_or(0) == 0 { " by default" } else { "" };
    let what = format!(
        "the circuit breaker of {}{host} never opens:{default} {why} ({})",
        of.unwrap_or_default(),
        named(&pods)
    );
    let path = match outlier.get("maxEjectionPercent") {
        Some(_) => format!("{path}.maxEjectionPercent"),
        None => path,
    };
    let found = RULE.found(number, path, what, ejection::cure(endpoints));
    // The same manifests may be applied to two clusters, which doubles the endpoints.
    let is_certain = pods.iter().all(|pods| pods.clusters != Clusters::Unknown)
        || ejection::impossible(percent, endpoints * 2).is_some();
    Some(if is_certain { found } else { found.with(Severity::Note) })
}

fn selects_one(service: &Source) -> bool {
    service.spec()["selector"].as_object().is_some_and(|selector| selector.contains_key(place::POD_NAME))
}

/// Whether no kind of error leads to an ejection. Errors of gateways count only if they are set, and those of the proxy itself
/// only if they are split.
fn counts_nothing(outlier: &Value) -> bool {
    let number = |field: &str| outlier[field].as_u64();
    number("consecutive5xxErrors") == Some(0)
        && number("consecutiveGatewayErrors").unwrap_or(0) == 0
        && outlier["splitExternalLocalOriginErrors"] != true
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ORDERS, found, rule};
    use super::*;

    #[test]
    fn breaker_of_the_pattern_is_found() {
        let yaml =
            format!("{ORDERS}---\n{}", rule("trafficPolicy: {outlierDetection: {consecutive5xxErrors: 3}}"));
        let found = found(&yaml, find);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].path, "spec.trafficPolicy.outlierDetection");
        assert_eq!(
            found[0].what,
            "the circuit breaker of orders never opens: by default at most 10 % of 2 endpoints may be ejected, which is less \
                than one (Deployment orders)"
        );
        assert!(found[0].fix.starts_with("set maxEjectionPercent to 50 or more"), "{}", found[0].fix);
    }

    #[test]
    fn breaker_that_can_eject_one_is_clean() {
        for policy in [
            "trafficPolicy: {outlierDetection: {maxEjectionPercent: 50}}",
            "trafficPolicy: {connectionPool: {}}",
            "subsets: [{name: none, labels: {version: v9}, trafficPolicy: {outlierDetection: {}}}]",
        ] {
            assert_eq!(found(&format!("{ORDERS}---\n{}", rule(policy)), find), [], "{policy}");
        }
        // Ten pods over two clusters.
        let orders = ORDERS.replace("replicas: 2", "replicas: 5").replace(
            "kind: Deployment, metadata: {name: orders",
            "kind: Deployment, metadata: {annotations: {kindmesh/clusters: \"a,b\"}, name: orders",
        );
        assert_ne!(orders, ORDERS);
        let breaker = rule("trafficPolicy: {outlierDetection: {}}");
        assert_eq!(found(&format!("{orders}---\n{breaker}"), find), []);
        // The pods are not in the manifests.
        assert_eq!(found(&breaker, find), []);
    }

    #[test]
    fn breaker_that_two_clusters_would_let_open_is_a_note() {
        let breaker = rule("trafficPolicy: {outlierDetection: {maxEjectionPercent: 25}}");
        let yaml = format!("{ORDERS}---\n{breaker}");
        assert_eq!(found(&yaml, find)[0].severity, Severity::Note);
        let placed = yaml.replace(
            "kind: Deployment, metadata: {",
            "kind: Deployment, metadata: {annotations: {kindmesh/clusters: a}, ",
        );
        assert_eq!(found(&placed, find)[0].severity, Severity::Error);
    }

    #[test]
    fn breaker_of_a_subset_counts_its_pods() {
        let subset = rule(
            "subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {portLevelSettings: [{port: {number: 8080}, \
                outlierDetection: {maxEjectionPercent: 30}}]}}]",
        );
        let found = found(&format!("{ORDERS}---\n{subset}"), find);
        assert!(found[0].what.contains("subset v1 of orders") && found[0].what.contains("30 % of 2"), "{found:?}");
        assert_eq!(
            found[0].path,
            "spec.subsets[0].trafficPolicy.portLevelSettings[0].outlierDetection.maxEjectionPercent"
        );
    }

    #[test]
    fn breaker_that_counts_nothing_is_found_without_pods() {
        let policy = |more: &str| {
            rule(&format!(
                "trafficPolicy: {{outlierDetection: {{consecutive5xxErrors: 0, maxEjectionPercent: 100{more}}}}}"
            ))
        };
        assert_eq!(found(&policy(""), find).len(), 1);
        assert_eq!(found(&policy(", consecutiveGatewayErrors: 3"), find), []);
        assert_eq!(found(&policy(", splitExternalLocalOriginErrors: true"), find), []);
    }
}
