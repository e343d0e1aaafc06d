//! Policies: whether the AuthorizationPolicies in the pods' clusters allow this caller.

use crate::base::names;
use serde_json::Value;

use super::facts::{Cluster, Pod, Policy};
use super::{Facts, Hop};

const HOP: &str = "policy";

/// Whether a condition matches, as far as that is known without the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Match {
    Yes,
    No,
    Unknown,
}

impl Match {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Yes, Self::Yes) => Self::Yes,
            _ => Self::Unknown,
        }
    }

    fn any(all: impl IntoIterator<Item = Self>) -> Self {
        all.into_iter().fold(Self::No, |found, next| match (found, next) {
            (Self::Yes, _) | (_, Self::Yes) => Self::Yes,
            (Self::No, Self::No) => Self::No,
            _ => Self::Unknown,
        })
    }

    fn is(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }
}

pub(super) fn judge(facts: &Facts) -> Hop {
    let ready: Vec<_> = facts.ready().into_iter().filter(|(_, pod)| pod.meshed).collect();
    if ready.is_empty() {
        return Hop::skipped(HOP, "no pod has a proxy, so no policy applies");
    }
    let mut unknown = None;
    let mut asked = 0;
    for (cluster, pod) in &ready {
        let about: Vec<&Policy> = cluster
            .authorization_policies
            .iter()
            .filter(|policy| policy.is_about(&facts.call.service_namespace, pod))
            .collect();
        asked += about.len();
        let caller = Identity::of(facts, cluster, pod);
        match decide(&about, &caller, facts) {
            Decision::Allowed => {}
            Decision::Unknown(policy) => unknown = Some((policy, cluster)),
            Decision::Denied(policy) => return denied(facts, cluster, pod, policy, &caller),
            Decision::NotAllowed(policies) => return not_allowed(facts, cluster, pod, &policies, &caller),
        }
    }
    match (unknown, asked) {
        (Some((policy, cluster)), _) => Hop::unknown(
            HOP,
            format!("AuthorizationPolicy {} in {} depends on the request itself", policy.name, cluster.name),
        ),
        (None, 0) => Hop::ok(HOP, "no AuthorizationPolicy selects these pods"),
        (None, _) => Hop::ok(HOP, "the AuthorizationPolicies that select these pods allow this caller"),
    }
}

fn denied(facts: &Facts, cluster: &Cluster, pod: &Pod, policy: &Policy, caller: &Identity) -> Hop {
    Hop::wrong(
        HOP,
        format!(
            "AuthorizationPolicy {} in namespace {} of {} denies calls from {}: {} would return 403",
            policy.name,
            policy.namespace,
            cluster.name,
            caller.told(),
            pod.name
        ),
        format!(
            "{}kubectl --context {} -n {} edit authorizationpolicy {}",
            hint(facts),
            cluster.context,
            policy.namespace,
            policy.name
        ),
    )
}

fn not_allowed(facts: &Facts, cluster: &Cluster, pod: &Pod, policies: &[&Policy], caller: &Identity) -> Hop {
    let names: Vec<&str> = policies.iter().map(|policy| policy.name.as_str()).collect();
    let first = policies.first().map(|policy| policy.namespace.as_str()).unwrap_or_default();
    Hop::wrong(
        HOP,
        format!(
            "no rule of AuthorizationPolicy {} in {} allows {}: {} would return 403",
            super::facts::listed(&names),
            cluster.name,
            caller.told(),
            pod.name
        ),
        format!(
            "add the caller to the policy: kubectl --context {} -n {first} edit authorizationpolicy {}",
            cluster.context,
            names.join(" ")
        ),
    )
    .with_hint(facts)
}

impl Hop {
    /// Prepends the kindmesh command that removes the policy, if kindmesh may have applied it.
    fn with_hint(mut self, facts: &Facts) -> Self {
        self.cure = self.cure.map(|cure| format!("{}{cure}", hint(facts)));
        self
    }
}

fn hint(facts: &Facts) -> String {
    let samples = facts.call.name == names::PRODUCER_NAME;
    if samples {
        format!("if kindmesh applied it: {}; otherwise ", facts.kindmesh("unapply --all"))
    } else {
        String::new()
    }
}

/// The caller's identity as the pods' proxies receive it.
struct Identity {
    principal: Option<String>,
    namespace: Option<String>,
}

impl Identity {
    fn of(facts: &Facts, cluster: &Cluster, pod: &Pod) -> Self {
        let caller = facts.caller.as_ref().filter(|_| facts.is_mutual(cluster, pod));
        let namespace = &facts.call.namespace;
        Self {
            principal: caller.map(|caller| format!("cluster.local/ns/{namespace}/sa/{}", caller.account)),
            namespace: caller.map(|_| namespace.clone()),
        }
    }

    fn told(&self) -> String {
        self.principal.clone().unwrap_or_else(|| "a caller without an identity".into())
    }
}

enum Decision<'a> {
    Allowed,
    Denied(&'a Policy),
    NotAllowed(Vec<&'a Policy>),
    Unknown(&'a Policy),
}

/// Evaluates policies as Istio does: DENY first; if there are ALLOW policies, one of them must allow the call.
fn decide<'a>(policies: &[&'a Policy], caller: &Identity, facts: &Facts) -> Decision<'a> {
    let action = |policy: &Policy| policy.spec["action"].as_str().unwrap_or("ALLOW").to_owned();
    let of = |wanted: &'static str| policies.iter().copied().filter(move |policy| action(policy) == wanted);
    let mut unknown = of("CUSTOM").next();
    for policy in of("DENY") {
        match matches(policy, caller, facts) {
            Match::Yes => return Decision::Denied(policy),
            Match::Unknown => unknown = Some(policy),
            Match::No => {}
        }
    }
    let allowing: Vec<&Policy> = of("ALLOW").collect();
    match Match::any(allowing.iter().map(|policy| matches(policy, caller, facts))) {
        Match::No if !allowing.is_empty() => return Decision::NotAllowed(allowing),
        Match::Unknown => unknown = unknown.or(allowing.first().copied()),
        _ => {}
    }
    unknown.map_or(Decision::Allowed, Decision::Unknown)
}

/// Whether any rule of a policy matches this call. A policy without rules matches nothing.
fn matches(policy: &Policy, caller: &Identity, facts: &Facts) -> Match {
    let rules = policy.spec["rules"].as_array().map(Vec::as_slice).unwrap_or_default();
    Match::any(rules.iter().map(|rule| {
        let when = if rule.get("when").is_some() { Match::Unknown } else { Match::Yes };
        let from = any_of(&rule["from"], "source", |source| is_source(source, caller));
        let to = any_of(&rule["to"], "operation", |operation| is_operation(operation, facts));
        when.and(from).and(to)
    }))
}

/// Whether any item of a list matches. A missing list matches everything.
fn any_of(list: &Value, key: &str, fits: impl Fn(&Value) -> Match) -> Match {
    match list.as_array() {
        Some(items) => Match::any(items.iter().map(|item| fits(&item[key]))),
        None => Match::Yes,
    }
}

fn is_source(source: &Value, caller: &Identity) -> Match {
    let fields = source.as_object().into_iter().flatten();
    fields.fold(Match::Yes, |holds, (field, patterns)| {
        holds.and(match field.as_str() {
            "principals" => one(patterns, caller.principal.as_deref()),
            "notPrincipals" => none(patterns, caller.principal.as_deref()),
            "namespaces" => one(patterns, caller.namespace.as_deref()),
            "notNamespaces" => none(patterns, caller.namespace.as_deref()),
            // IP addresses, tokens: not known before the call is sent.
            _ => Match::Unknown,
        })
    })
}

fn is_operation(operation: &Value, facts: &Facts) -> Match {
    let path = facts.call.path.split('?').next().unwrap_or_default();
    let fields = operation.as_object().into_iter().flatten();
    fields.fold(Match::Yes, |holds, (field, patterns)| {
        holds.and(match field.as_str() {
            "paths" => one(patterns, Some(path)),
            "notPaths" => none(patterns, Some(path)),
            // The explained call is a GET. Hosts and ports are not evaluated.
            "methods" => one(patterns, Some("GET")),
            "notMethods" => none(patterns, Some("GET")),
            _ => Match::Unknown,
        })
    })
}

fn one(patterns: &Value, value: Option<&str>) -> Match {
    let patterns = patterns.as_array().map(Vec::as_slice).unwrap_or_default();
    Match::is(
        value.is_some_and(|value| patterns.iter().filter_map(Value::as_str).any(|pattern| fits(pattern, value))),
    )
}

fn none(patterns: &Value, value: Option<&str>) -> Match {
    match one(patterns, value) {
        Match::Yes => Match::No,
        _ => Match::Yes,
    }
}

/// Matches Istio's patterns: an exact value, `*` for any value, or `*` at one end.
fn fits(pattern: &str, value: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(""), _) => !value.is_empty(),
        (Some(end), _) => value.ends_with(end),
        (_, Some(begin)) => value.starts_with(begin),
        _ => pattern == value,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::testing::works;
    use super::*;
    use serde_json::json;

    fn with(specs: &[Value]) -> Hop {
        let mut facts = works();
        let policy = |spec: &Value| Policy { namespace: "shop".into(), name: "p".into(), spec: spec.clone() };
        facts.clusters[1].authorization_policies = specs.iter().map(policy).collect();
        judge(&facts)
    }

    fn from(action: &str, field: &str, value: &str) -> Value {
        json!({"action": action, "rules": [{"from": [{"source": {field: [value]}}]}]})
    }

    const CHECKOUT: &str = "cluster.local/ns/shop/sa/checkout";

    #[test]
    fn each_policy_decides_as_istio_does() {
        for (specs, verdict) in [
            (vec![], Verdict::Ok),
            (vec![from("ALLOW", "principals", CHECKOUT)], Verdict::Ok),
            (vec![from("ALLOW", "principals", "*/sa/checkout")], Verdict::Ok),
            (vec![from("ALLOW", "namespaces", "shop")], Verdict::Ok),
            (vec![from("ALLOW", "principals", "cluster.local/ns/shop/sa/other")], Verdict::Wrong),
            (vec![from("ALLOW", "notNamespaces", "shop")], Verdict::Wrong),
            (vec![from("DENY", "principals", CHECKOUT)], Verdict::Wrong),
            (vec![from("DENY", "namespaces", "other")], Verdict::Ok),
            // Without rules, nothing is allowed; an empty rule allows everything.
            (vec![json!({})], Verdict::Wrong),
            (vec![json!({"rules": [{}]})], Verdict::Ok),
            (vec![json!({"action": "DENY", "rules": [{}]})], Verdict::Wrong),
            // One ALLOW is enough; DENY takes precedence.
            (vec![json!({}), json!({"rules": [{}]})], Verdict::Ok),
            (vec![json!({"rules": [{}]}), from("DENY", "namespaces", "shop")], Verdict::Wrong),
            (vec![json!({"rules": [{"to": [{"operation": {"paths": ["/a*"]}}]}]})], Verdict::Wrong),
            (
                vec![json!({"rules": [{"to": [{"operation": {"paths": ["/*"], "methods": ["GET"]}}]}]})],
                Verdict::Ok,
            ),
            (
                vec![json!({"rules": [{"when": [{"key": "request.headers[x]", "values": ["y"]}]}]})],
                Verdict::Unknown,
            ),
            (vec![from("DENY", "ipBlocks", "10.0.0.0/8")], Verdict::Unknown),
            // For another pod.
            (vec![json!({"selector": {"matchLabels": {"app": "other"}}})], Verdict::Ok),
        ] {
            let hop = with(&specs);
            assert_eq!(hop.verdict, verdict, "{specs:?}: {hop:?}");
        }
    }

    #[test]
    fn denied_caller_and_policy_are_named() {
        let hop = with(&[from("DENY", "principals", CHECKOUT)]);
        assert!(
            hop.saw.contains("denies calls from cluster.local/ns/shop/sa/checkout: orders-1 would return 403"),
            "{hop:?}"
        );
        assert_eq!(hop.cure.unwrap(), "kubectl --context kind-e-cluster2 -n shop edit authorizationpolicy p");
    }

    #[test]
    fn without_mutual_tls_the_caller_has_no_identity() {
        let mut facts = works();
        facts.caller.as_mut().unwrap().meshed = false;
        let allow = Policy { namespace: "shop".into(), name: "p".into(), spec: from("ALLOW", "principals", "*") };
        facts.clusters[1].authorization_policies = vec![allow];
        assert!(judge(&facts).saw.contains("a caller without an identity"));
    }
}
