//! Locality failover without outlier detection.

use serde_json::Value;

use crate::lifecycle::lint::levels::{Level, levels};
use crate::lifecycle::lint::mesh::{Mesh, Source};
use crate::lifecycle::lint::rule::{Finding, Rule, Severity};

pub(super) static RULE: Rule = Rule {
    id: "failover-without-outlier-detection",
    summary: "Locality failover without outlier detection",
    reason: "Istio prefers localities and fails over to others only for hosts with outlier detection. Without it, calls are spread \
        over all localities as if localityLbSetting were not there.",
    severity: Severity::Error,
};

pub(super) fn find(mesh: Mesh) -> Vec<Finding> {
    let rules = mesh.of_istio("DestinationRule");
    rules
        .flat_map(|(number, rule)| levels(rule).into_iter().filter_map(move |level| judge(number, rule, &level)))
        .collect()
}

fn judge(number: usize, rule: &Source, level: &Level) -> Option<Finding> {
    let path = "/loadBalancer/localityLbSetting";
    let setting = level.policy.pointer(path).filter(|setting| setting.is_object())?;
    // Weights of `distribute` are applied without outlier detection, too.
    let weighted = setting.get("distribute").is_some_and(|weights| !weights.is_null());
    if setting["enabled"] == false || weighted || detects(level.policy) {
        return None;
    }
    // A subset inherits what it does not set; a port inherits nothing.
    let inherits = level.subset.is_some() && !level.path.contains("portLevelSettings");
    if inherits && detects(&rule.spec()["trafficPolicy"]) {
        return None;
    }
    let has_policy = |subset: &Value| detects(&subset["trafficPolicy"]);
    if level.subset.is_none() && rule.list("subsets").iter().any(has_policy) {
        return None;
    }
    let host = rule.spec()["host"].as_str().unwrap_or_default();
    Some(RULE.found(
        number,
        format!("{}.loadBalancer.localityLbSetting", level.path),
        format!("localityLbSetting for {host} has no effect: there is no outlierDetection beside it"),
        format!("add outlierDetection to {}, with a maxEjectionPercent that lets all endpoints of a locality be ejected", level.path),
    ))
}

fn detects(policy: &Value) -> bool {
    policy["outlierDetection"].is_object()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::lint::testing::{found, rule};

    #[test]
    fn failover_needs_outlier_detection() {
        let setting = "loadBalancer: {localityLbSetting: {failoverPriority: [topology.kubernetes.io/region]}}";
        let found = found(&rule(&format!("trafficPolicy: {{{setting}}}")), find);
        assert_eq!(found[0].path, "spec.trafficPolicy.loadBalancer.localityLbSetting");
        assert_eq!(
            found[0].what,
            "localityLbSetting for orders has no effect: there is no outlierDetection beside it"
        );
    }

    #[test]
    fn failover_with_outlier_detection_is_clean() {
        let setting = "loadBalancer: {localityLbSetting: {enabled: true}}";
        for policy in [
            format!("trafficPolicy: {{{setting}, outlierDetection: {{}}}}"),
            format!(
                "trafficPolicy: {{outlierDetection: {{}}}}, subsets: [{{name: v1, trafficPolicy: {{{setting}}}}}]"
            ),
            format!(
                "trafficPolicy: {{{setting}}}, subsets: [{{name: v1, trafficPolicy: {{outlierDetection: {{}}}}}}]"
            ),
            "trafficPolicy: {loadBalancer: {localityLbSetting: {enabled: false}}}".into(),
            "trafficPolicy: {loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {a: 100}}]}}}".into(),
        ] {
            assert_eq!(found(&rule(&policy), find), [], "{policy}");
        }
        // A port inherits nothing.
        let port = format!(
            "trafficPolicy: {{outlierDetection: {{}}, portLevelSettings: [{{port: {{number: 8080}}, {setting}}}]}}"
        );
        assert_eq!(found(&rule(&port), find).len(), 1);
    }
}
