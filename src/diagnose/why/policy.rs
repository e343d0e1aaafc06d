//! Policies: whether the AuthorizationPolicies in the pods' clusters allow this caller.

use crate::base::names;
use serde_json::Value;

use super::facts::{Cluster, Pod, Policy};
use super::protocol::{Declared, Speaks};
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
    if let Some(why) = ready.iter().find_map(|(cluster, _)| cluster.unread.as_ref()) {
        return Hop::unknown(HOP, format!("the policies could not be read from {why}"));
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
        let target = cluster.port(facts.call.port).and_then(|port| pod.port(&port.target));
        let request = Request { facts, caller: &caller, port: target, bytes: is_bytes(facts, cluster) };
        match decide(&about, &request) {
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
            "AuthorizationPolicy {} in namespace {} of {} denies calls from {}: {}",
            policy.name,
            policy.namespace,
            cluster.name,
            caller.told(),
            refusal(facts, cluster, pod)
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
            "no rule of AuthorizationPolicy {} in {} allows {}: {}",
            super::facts::listed(&names),
            cluster.name,
            caller.told(),
            refusal(facts, cluster, pod)
        ),
        format!(
            "add the caller to the policy: kubectl --context {} -n {first} edit authorizationpolicy {}",
            cluster.context,
            names.join(" ")
        ),
    )
    .with_hint(facts)
}

/// Returns what a denied client gets.
fn refusal(facts: &Facts, cluster: &Cluster, pod: &Pod) -> String {
    match (is_bytes(facts, cluster), facts.call.speaks) {
        // Envoy decides when the client's first bytes arrive.
        (true, _) => format!(
            "{}'s proxy would close the connection after the client's first bytes, before the server responds; \
                what a server says first still arrives",
            pod.name
        ),
        (false, Speaks::Grpc) => format!("{} would return PERMISSION_DENIED", pod.name),
        (false, _) => format!("{} would return 403", pod.name),
    }
}

/// Whether the pods' proxies see bytes, not requests: as the Service in their cluster declares.
fn is_bytes(facts: &Facts, cluster: &Cluster) -> bool {
    let declared = cluster.port(facts.call.port).map(Declared::of);
    facts.call.speaks == Speaks::Tcp || declared.is_some_and(Declared::is_bytes)
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
fn decide<'a>(policies: &[&'a Policy], request: &Request<'_>) -> Decision<'a> {
    let action = |policy: &Policy| policy.spec["action"].as_str().unwrap_or("ALLOW").to_owned();
    let of = |wanted: &'static str| policies.iter().copied().filter(move |policy| action(policy) == wanted);
    let mut unknown = of("CUSTOM").next();
    for policy in of("DENY") {
        match matches(policy, request) {
            Match::Yes => return Decision::Denied(policy),
            Match::Unknown => unknown = Some(policy),
            Match::No => {}
        }
    }
    let allowing: Vec<&Policy> = of("ALLOW").collect();
    match Match::any(allowing.iter().map(|policy| matches(policy, request))) {
        Match::No if !allowing.is_empty() => return Decision::NotAllowed(allowing),
        Match::Unknown => unknown = unknown.or(allowing.first().copied()),
        _ => {}
    }
    unknown.map_or(Decision::Allowed, Decision::Unknown)
}

/// What the pods' proxies know of a call.
struct Request<'a> {
    facts: &'a Facts,
    caller: &'a Identity,
    /// The pod's own port, if known: a policy's `ports`.
    port: Option<u16>,
    bytes: bool,
}

/// Whether any rule of a policy matches this call. A policy without rules matches nothing.
fn matches(policy: &Policy, request: &Request<'_>) -> Match {
    // Of a connection, Istio knows no HTTP attributes: a rule of ALLOW that has some never matches, one of DENY matches as
    // without them.
    let unheard = if policy.spec["action"] == "DENY" { Match::Yes } else { Match::No };
    let of_http = |otherwise: Match| if request.bytes { unheard } else { otherwise };
    let rules = policy.spec["rules"].as_array().map(Vec::as_slice).unwrap_or_default();
    Match::any(rules.iter().map(|rule| {
        let conditions = rule["when"].as_array().map(Vec::as_slice).unwrap_or_default();
        let when = conditions.iter().fold(Match::Yes, |holds, condition| {
            let is_http = condition["key"].as_str().is_some_and(|key| key.starts_with("request."));
            holds.and(if is_http { of_http(Match::Unknown) } else { Match::Unknown })
        });
        let from = any_of(&rule["from"], "source", |source| is_source(source, request.caller, of_http));
        let to = any_of(&rule["to"], "operation", |operation| is_operation(operation, request, of_http));
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

fn is_source(source: &Value, caller: &Identity, of_http: impl Fn(Match) -> Match) -> Match {
    let fields = source.as_object().into_iter().flatten();
    fields.fold(Match::Yes, |holds, (field, patterns)| {
        holds.and(match field.as_str() {
            "principals" => one(patterns, caller.principal.as_deref()),
            "notPrincipals" => none(patterns, caller.principal.as_deref()),
            "namespaces" => one(patterns, caller.namespace.as_deref()),
            "notNamespaces" => none(patterns, caller.namespace.as_deref()),
            "requestPrincipals" | "notRequestPrincipals" => of_http(Match::Unknown),
            // IP addresses: not known before the call is sent.
            _ => Match::Unknown,
        })
    })
}

fn is_operation(operation: &Value, request: &Request<'_>, of_http: impl Fn(Match) -> Match) -> Match {
    let call = &request.facts.call;
    // The explained HTTP call is a GET; gRPC calls are POSTs. A target without a gRPC method can be any.
    let method = Some(if call.speaks == Speaks::Grpc { "POST" } else { "GET" });
    let path = call.path.split('?').next().filter(|path| call.speaks != Speaks::Grpc || *path != "/");
    let port = request.port.map(|port| port.to_string());
    let fields = operation.as_object().into_iter().flatten();
    fields.fold(Match::Yes, |holds, (field, patterns)| {
        holds.and(match field.as_str() {
            "paths" if path.is_some() => of_http(one(patterns, path)),
            "notPaths" if path.is_some() => of_http(none(patterns, path)),
            "methods" => of_http(one(patterns, method)),
            "notMethods" => of_http(none(patterns, method)),
            "ports" if port.is_some() => one(patterns, port.as_deref()),
            "notPorts" if port.is_some() => none(patterns, port.as_deref()),
            // Hosts are not evaluated.
            "paths" | "notPaths" | "hosts" | "notHosts" => of_http(Match::Unknown),
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

    fn over(speaks: Speaks, spec: &Value) -> Hop {
        let mut facts = works();
        facts.call.speaks = speaks;
        facts.clusters[1].authorization_policies =
            vec![Policy { namespace: "shop".into(), name: "p".into(), spec: spec.clone() }];
        judge(&facts)
    }

    #[test]
    fn http_attributes_of_a_connection_allow_nothing_and_deny_everything() {
        let rule = |action: &str, rule: Value| json!({"action": action, "rules": [rule]});
        let to = |operation: Value| json!({"to": [{"operation": operation}]});
        for (spec, http, tcp) in [
            (rule("ALLOW", to(json!({"methods": ["GET"]}))), Verdict::Ok, Verdict::Wrong),
            (rule("DENY", to(json!({"methods": ["POST"]}))), Verdict::Ok, Verdict::Wrong),
            (rule("DENY", to(json!({"paths": ["/admin"]}))), Verdict::Ok, Verdict::Wrong),
            (rule("DENY", to(json!({"hosts": ["other"]}))), Verdict::Unknown, Verdict::Wrong),
            (rule("DENY", to(json!({"ports": ["9"], "paths": ["/admin"]}))), Verdict::Ok, Verdict::Ok),
            (rule("ALLOW", to(json!({"ports": ["8080"]}))), Verdict::Ok, Verdict::Ok),
            (rule("ALLOW", to(json!({"ports": ["9"]}))), Verdict::Wrong, Verdict::Wrong),
            (rule("DENY", to(json!({"notPorts": ["8080"]}))), Verdict::Ok, Verdict::Ok),
            (rule("ALLOW", json!({"when": [{"key": "request.headers[x]"}]})), Verdict::Unknown, Verdict::Wrong),
            (rule("DENY", json!({"when": [{"key": "source.ip"}]})), Verdict::Unknown, Verdict::Unknown),
            (
                rule("DENY", json!({"from": [{"source": {"requestPrincipals": ["*"]}}]})),
                Verdict::Unknown,
                Verdict::Wrong,
            ),
        ] {
            assert_eq!(over(Speaks::Http, &spec).verdict, http, "HTTP: {spec}");
            assert_eq!(over(Speaks::Tcp, &spec).verdict, tcp, "TCP: {spec}");
        }
        // HTTP on a port that is declared as TCP is a connection, too.
        let mut facts = works();
        facts.clusters[1].service.as_mut().unwrap().ports[0].protocol = Some("tcp".into());
        facts.clusters[1].authorization_policies = vec![Policy {
            namespace: "shop".into(),
            name: "p".into(),
            spec: rule("ALLOW", to(json!({"methods": ["GET"]}))),
        }];
        assert_eq!(judge(&facts).verdict, Verdict::Wrong);
    }

    #[test]
    fn denied_client_learns_it_in_its_protocol() {
        let all = json!({"action": "DENY", "rules": [{}]});
        assert!(over(Speaks::Grpc, &all).saw.ends_with("orders-1 would return PERMISSION_DENIED"));
        let hop = over(Speaks::Tcp, &all);
        assert!(
            hop.saw.contains("orders-1's proxy would close the connection after the client's first bytes"),
            "{hop:?}"
        );
    }

    #[test]
    fn grpc_is_posted_to_its_method() {
        let allow = |operation: Value| json!({"rules": [{"to": [{"operation": operation}]}]});
        assert_eq!(over(Speaks::Grpc, &allow(json!({"methods": ["POST"]}))).verdict, Verdict::Ok);
        assert_eq!(over(Speaks::Grpc, &allow(json!({"methods": ["GET"]}))).verdict, Verdict::Wrong);
        // Without a method in the target, the path is not known.
        assert_eq!(over(Speaks::Grpc, &allow(json!({"paths": ["/a.B/C"]}))).verdict, Verdict::Unknown);
        let mut facts = works();
        (facts.call.speaks, facts.call.path) = (Speaks::Grpc, "/a.B/C".into());
        let spec = allow(json!({"paths": ["/a.B/*"]}));
        facts.clusters[1].authorization_policies =
            vec![Policy { namespace: "shop".into(), name: "p".into(), spec }];
        assert_eq!(judge(&facts).verdict, Verdict::Ok);
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
