//! Policies where they do not act: for pods that do not exist, in a namespace where no caller looks for them, or against what
//! the other side requires.

use kube::ResourceExt;
use serde_json::Value;

use super::routes::full;
use crate::lifecycle::deploy::place;
use crate::lifecycle::lint::levels::levels;
use crate::lifecycle::lint::mesh::{Host, Mesh, ROOT_NAMESPACE, Source, labels, matches, named, shown};
use crate::lifecycle::lint::rule::{Finding, Rule, Severity};

pub(super) static RULE: Rule = Rule {
    id: "policy-on-the-wrong-side",
    summary: "A policy where it does not act, or that contradicts one on the other side of the call",
    reason: "AuthorizationPolicy and PeerAuthentication act at the server, on pods of their own namespace. A DestinationRule acts at \
        the caller, whose proxy looks for it in the caller's namespace, then in that of the Service, then in istio-system.",
    severity: Severity::Error,
};

pub(super) fn find(mesh: Mesh) -> Vec<Finding> {
    let mut found = Vec::new();
    for kind in ["AuthorizationPolicy", "PeerAuthentication", "RequestAuthentication"] {
        found.extend(mesh.of_istio(kind).filter_map(|(number, policy)| selects_nobody(mesh, number, policy)));
    }
    for (number, rule) in mesh.of_istio("DestinationRule") {
        found.extend(not_looked_up(mesh, number, rule));
        found.extend(plain_to_strict(mesh, number, rule));
    }
    found
}

fn selector(policy: &Source) -> Option<&Value> {
    let wanted = &policy.spec()["selector"]["matchLabels"];
    wanted.as_object().filter(|wanted| !wanted.is_empty()).map(|_| wanted)
}

/// Finds a policy whose selector matches no pods, if the manifests contain pods of its namespace.
fn selects_nobody(mesh: Mesh, number: usize, policy: &Source) -> Option<Finding> {
    let wanted = selector(policy)?;
    let namespace = policy.namespace();
    let everywhere = namespace == ROOT_NAMESPACE;
    let here: Vec<&Source> =
        mesh.workloads().filter(|workload| everywhere || workload.namespace() == namespace).collect();
    if here.is_empty()
        || here.iter().any(|workload| matches(wanted, &labels(workload)))
        || has_other_pods(mesh, policy, wanted)
    {
        return None;
    }
    let selected = shown(wanted);
    let elsewhere: Vec<&Source> = mesh.workloads().filter(|workload| matches(wanted, &labels(workload))).collect();
    // The pods of gateways, which others install.
    if everywhere {
        return None;
    }
    let path = "spec.selector.matchLabels";
    if let Some(other) = elsewhere.first() {
        let what = format!(
            "{} selects no pod of namespace {namespace}: those with {selected} are in namespace {} ({})",
            policy.kind(),
            other.namespace(),
            named(&elsewhere)
        );
        return Some(RULE.found(number, path, what, format!("move it to namespace {}", other.namespace())));
    }
    let what =
        format!("{} selects no pod of these manifests in namespace {namespace} by {selected}", policy.kind());
    let fix = format!("compare it with the labels of the pods: {}", known(&here));
    Some(RULE.found(number, path, what, fix).with(Severity::Note))
}

/// Whether a Service selects pods with these labels that are not in the manifests.
fn has_other_pods(mesh: Mesh, policy: &Source, wanted: &Value) -> bool {
    mesh.of("Service").any(|(_, service)| {
        let selector = service.spec()["selector"].as_object();
        let agrees = |selector: &serde_json::Map<String, Value>| {
            !selector.is_empty()
                && selector.iter().all(|(key, value)| wanted.get(key).is_none_or(|wanted| wanted == value))
                && selector.keys().any(|key| wanted.get(key).is_some())
        };
        service.namespace() == policy.namespace()
            && selector.is_some_and(agrees)
            && mesh.behind(&[service]).is_empty()
    })
}

fn known(workloads: &[&Source]) -> String {
    let mut known: Vec<String> = workloads.iter().map(|workload| shown(&labels(workload))).collect();
    known.sort();
    known.dedup();
    known.join("; ")
}

/// Finds a DestinationRule in a namespace without callers, which is not that of its Service either.
fn not_looked_up(mesh: Mesh, number: usize, rule: &Source) -> Option<Finding> {
    let host = rule.spec()["host"].as_str()?;
    let here = rule.namespace();
    let Host::Service { name, namespace } = Host::of(host, &here) else { return None };
    let is_elsewhere = namespace != here && here != ROOT_NAMESPACE;
    let all_known = !mesh.behind(&mesh.services(&name, &namespace)).is_empty();
    if !is_elsewhere || !all_known || !mesh.workloads_in(&here).is_empty() {
        return None;
    }
    let what = format!(
        "no caller looks for this DestinationRule in namespace {here}, which has no pods in these manifests; its Service is in {namespace}"
    );
    let fix = format!("move it to namespace {namespace}, or to that of the callers");
    // The callers in that namespace may come from elsewhere.
    Some(RULE.found(number, "metadata.namespace", what, fix).with(Severity::Warning))
}

/// Finds calls in plain text to pods that accept only mutual TLS.
fn plain_to_strict(mesh: Mesh, number: usize, rule: &Source) -> Vec<Finding> {
    let Some(host) = rule.spec()["host"].as_str() else { return Vec::new() };
    let pods = mesh.behind(&mesh.services_of(host, rule));
    let judge = |level: crate::lifecycle::lint::levels::Level| {
        if level.policy["tls"]["mode"] != "DISABLE" {
            return None;
        }
        let wanted = level.subset.map(|subset| &subset["labels"]);
        let pods: Vec<&Source> = pods
            .iter()
            .copied()
            .filter(|pods| wanted.is_none_or(|wanted| matches(wanted, &labels(pods))))
            .collect();
        let strict = pods.iter().map(|pods| strict(mesh, pods)).collect::<Option<Vec<&Source>>>()?;
        let policy = strict.first()?;
        Some(RULE.found(
            number,
            format!("{}.tls.mode", level.path),
            format!(
                "calls to {} are sent in plain text, but PeerAuthentication {} of namespace {} accepts only mutual TLS for {}",
                full(host, &rule.namespace()),
                policy.name(),
                policy.namespace(),
                named(&pods)
            ),
            "set tls.mode: ISTIO_MUTUAL, or leave tls out",
        ))
    };
    levels(rule).into_iter().filter_map(judge).collect()
}

/// Returns the policy by which pods accept only mutual TLS: one that selects them, else that of their namespace, else that of the
/// mesh. None if they have no proxy, or if several policies differ.
fn strict<'a>(mesh: Mesh<'a>, pods: &Source) -> Option<&'a Source> {
    let labels = labels(pods);
    let has_proxy = has_proxy(mesh, pods);
    let of = |namespace: &str, selecting: bool| -> Vec<&'a Source> {
        let policies = mesh.of_istio("PeerAuthentication").map(|(_, policy)| policy);
        let here = policies.filter(|policy| policy.namespace() == namespace);
        here.filter(|policy| match selector(policy) {
            Some(wanted) => selecting && matches(wanted, &labels),
            None => !selecting,
        })
        .collect()
    };
    let namespace = pods.namespace();
    // A policy for the mesh says nothing about a namespace that may not be part of it.
    let of_mesh = if has_proxy == Some(true) { of(ROOT_NAMESPACE, false) } else { Vec::new() };
    let tiers = [of(&namespace, true), of(&namespace, false), of_mesh];
    let tiers = tiers.into_iter().filter(|_| has_proxy != Some(false));
    let acting = tiers.into_iter().find(|tier| !tier.is_empty())?;
    let is_strict =
        |policy: &&Source| policy.spec()["mtls"]["mode"] == "STRICT" && policy.spec()["portLevelMtls"].is_null();
    acting.iter().all(is_strict).then(|| acting[0])
}

/// Whether Istio adds a proxy to pods, as far as the manifests show it: in their labels and annotations, or in those of their
/// namespace.
fn has_proxy(mesh: Mesh, pods: &Source) -> Option<bool> {
    const INJECT: &str = "sidecar.istio.io/inject";
    let template = place::pod_template(&pods.object).unwrap_or_default();
    let annotations =
        pods.object.data.pointer(&format!("{template}/metadata/annotations")).unwrap_or(&Value::Null);
    if let Some(inject) = labels(pods)[INJECT].as_str().or(annotations[INJECT].as_str()) {
        return Some(inject == "true");
    }
    let namespace = mesh.of("Namespace").find(|(_, namespace)| namespace.name() == pods.namespace())?.1;
    let labels = namespace.object.labels();
    let is_enabled = |(key, value): (&String, &String)| match key.as_str() {
        "istio-injection" => value == "enabled",
        "istio.io/rev" => true,
        "istio.io/dataplane-mode" => value == "ambient",
        _ => false,
    };
    Some(labels.iter().any(is_enabled))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::lint::testing::{ORDERS, found, rule};

    fn with(more: &str) -> Vec<Finding> {
        found(&format!("{ORDERS}---\n{more}"), find)
    }

    fn policy(kind: &str, namespace: &str, spec: &str) -> String {
        format!(
            "{{apiVersion: security.istio.io/v1, kind: {kind}, metadata: {{name: p, namespace: {namespace}}}, spec: {spec}}}\n"
        )
    }

    const CALLER: &str = "---\n{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: web}, spec: {template: \
        {metadata: {labels: {app: web}}, spec: {containers: [{name: a}]}}}}\n";

    #[test]
    fn policy_in_the_callers_namespace_is_found() {
        let authz = policy("AuthorizationPolicy", "web", "{selector: {matchLabels: {app: orders}}}");
        let found = with(&format!("{authz}{CALLER}"));
        assert_eq!(
            found[0].what,
            "AuthorizationPolicy selects no pod of namespace web: those with app=orders are in namespace shop (Deployment orders)"
        );
        assert_eq!((found[0].severity, found[0].fix.as_str()), (Severity::Error, "move it to namespace shop"));
    }

    #[test]
    fn policy_for_pods_that_nothing_shows_is_a_note() {
        let found = with(&policy("PeerAuthentication", "shop", "{selector: {matchLabels: {app: order}}}"));
        assert_eq!(found[0].severity, Severity::Note);
        assert_eq!(found[0].fix, "compare it with the labels of the pods: app=orders,version=v1");
    }

    #[test]
    fn policy_that_selects_pods_is_clean() {
        for clean in [
            policy("AuthorizationPolicy", "shop", "{selector: {matchLabels: {app: orders}}}"),
            policy("AuthorizationPolicy", "istio-system", "{selector: {matchLabels: {app: orders}}}"),
            policy("AuthorizationPolicy", "istio-system", "{selector: {matchLabels: {istio: ingressgateway}}}"),
            policy("AuthorizationPolicy", "shop", "{rules: [{}]}"),
            // No pods of that namespace are in the manifests.
            policy("AuthorizationPolicy", "elsewhere", "{selector: {matchLabels: {app: orders}}}"),
            // Nor those of this Service.
            policy("AuthorizationPolicy", "shop", "{selector: {matchLabels: {app: stock}}}")
                + "---\n{apiVersion: v1, kind: Service, metadata: {name: stock, namespace: shop}, spec: {selector: {app: stock}}}",
        ] {
            assert_eq!(with(&clean), [], "{clean}");
        }
    }

    #[test]
    fn destination_rule_in_a_third_namespace_is_found() {
        let full = rule("").replace("host: orders", "host: orders.shop.svc.cluster.local");
        let third = full.replacen("namespace: shop", "namespace: config", 1);
        let found = with(&third);
        assert_eq!((found[0].path.as_str(), found[0].severity), ("metadata.namespace", Severity::Warning));
        for clean in [full.clone(), full.replacen("namespace: shop", "namespace: istio-system", 1)] {
            assert_eq!(with(&clean), [], "{clean}");
        }
        let callers = full.replacen("namespace: shop", "namespace: web", 1);
        assert_eq!(with(&format!("{callers}{CALLER}")), []);
    }

    #[test]
    fn plain_text_to_strict_pods_is_found() {
        let plain = rule("trafficPolicy: {tls: {mode: DISABLE}}");
        let strict =
            |namespace: &str, spec: &str| format!("{plain}---\n{}", policy("PeerAuthentication", namespace, spec));
        for (namespace, spec) in [
            ("shop", "{mtls: {mode: STRICT}}"),
            ("shop", "{selector: {matchLabels: {app: orders}}, mtls: {mode: STRICT}}"),
        ] {
            let found = with(&strict(namespace, spec));
            assert_eq!(found.len(), 1, "{namespace} {spec}");
            assert_eq!(found[0].path, "spec.trafficPolicy.tls.mode");
        }
        for (namespace, spec) in [
            ("shop", "{mtls: {mode: PERMISSIVE}}"),
            ("web", "{mtls: {mode: STRICT}}"),
            ("shop", "{mtls: {mode: STRICT}, portLevelMtls: {8080: {mode: DISABLE}}}"),
        ] {
            assert_eq!(with(&strict(namespace, spec)), [], "{namespace} {spec}");
        }
        // The mesh's policy, for a namespace that is part of the mesh.
        let namespace = |labels: &str| {
            let of_mesh = strict("istio-system", "{mtls: {mode: STRICT}}");
            format!(
                "{of_mesh}---\n{{apiVersion: v1, kind: Namespace, metadata: {{name: shop, labels: {{{labels}}}}}}}\n"
            )
        };
        assert_eq!(with(&namespace("istio-injection: enabled")).len(), 1);
        assert_eq!(with(&namespace("istio.io/rev: stable")).len(), 1);
        assert_eq!(with(&namespace("team: shop")), []);
        assert_eq!(with(&strict("istio-system", "{mtls: {mode: STRICT}}")), []);
        // Pods without a proxy take plain text.
        let yaml = format!("{ORDERS}---\n{}", strict("shop", "{mtls: {mode: STRICT}}"));
        for bare in [
            ("labels: {app: orders,", "labels: {sidecar.istio.io/inject: \"false\", app: orders,"),
            (
                "template: {metadata: {",
                "template: {metadata: {annotations: {sidecar.istio.io/inject: \"false\"}, ",
            ),
        ] {
            assert!(yaml.contains(bare.0));
            assert_eq!(found(&yaml.replace(bare.0, bare.1), find), [], "{bare:?}");
        }
        // A policy for the pods takes precedence over that of the namespace.
        let open = policy(
            "PeerAuthentication",
            "shop",
            "{selector: {matchLabels: {app: orders}}, mtls: {mode: PERMISSIVE}}",
        );
        assert_eq!(with(&format!("{}---\n{open}", strict("shop", "{mtls: {mode: STRICT}}"))), []);
        let mutual = strict("shop", "{mtls: {mode: STRICT}}").replace("DISABLE", "ISTIO_MUTUAL");
        assert_eq!(with(&mutual), []);
    }
}
