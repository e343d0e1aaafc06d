//! TLS: what the caller sends, and what the pods' proxies accept.

use serde_json::Value;

use super::facts::{Cluster, Heard, Linked, Pod, Transport};
use super::protocol::Speaks;
use super::{Facts, Hop};
use crate::cluster::mesh::ISTIO_NAMESPACE;

const HOP: &str = "tls";

pub(super) fn judge(facts: &Facts) -> Hop {
    let ready = facts.ready();
    if ready.is_empty() {
        return Hop::skipped(HOP, "no endpoints");
    }
    let Some(sends) = facts.sends() else { return Hop::unknown(HOP, "the caller's TLS mode is not known") };
    let mut takes: Vec<String> = Vec::new();
    let mut waits = "";
    for (cluster, pod) in &ready {
        let mode = mode(cluster, &facts.call.service_namespace, pod);
        let by = mode.by.as_deref().map(|by| format!(" from PeerAuthentication {by}")).unwrap_or_default();
        match (sends, mode.mode.as_str(), pod.meshed) {
            (Transport::Plain, "STRICT", true) => {
                return Hop::wrong(
                    HOP,
                    format!(
                        "{} in {} accepts only mutual TLS (STRICT{by}), but {}",
                        pod.name,
                        cluster.name,
                        why_plain(facts)
                    ),
                    fix_plain_text(facts, cluster, mode.by.as_deref()),
                );
            }
            (Transport::Tls, _, false) => {
                return Hop::wrong(
                    HOP,
                    format!(
                        "{} in {} has no proxy, but the caller's proxy is configured to send TLS{}",
                        pod.name,
                        cluster.name,
                        rule(facts)
                    ),
                    format!(
                        "{} label namespace {} istio-injection=enabled, then recreate its pods",
                        context(cluster),
                        facts.call.service_namespace
                    ),
                );
            }
            (Transport::Tls, "DISABLE", true) => {
                return Hop::wrong(
                    HOP,
                    format!(
                        "{} in {} does not accept TLS (DISABLE{by}), but the caller's proxy is configured to \
                            send it{}",
                        pod.name,
                        cluster.name,
                        rule(facts)
                    ),
                    format!("{} -n {} edit peerauthentication", context(cluster), facts.call.service_namespace),
                );
            }
            (Transport::Plain, "PERMISSIVE", true)
                if facts.call.speaks == Speaks::Tcp && matches!(facts.direct, Some(Heard::Bytes(_))) =>
            {
                return Hop::wrong(
                    HOP,
                    format!(
                        "the server speaks first, but {}'s proxy in {} accepts TLS and plain text (PERMISSIVE{by}) and \
                            waits for the client's first bytes to tell them apart, and {}: the connection hangs",
                        pod.name,
                        cluster.name,
                        why_plain(facts)
                    ),
                    fix_plain_text(facts, cluster, None),
                );
            }
            _ if matches!(cluster.linked, Linked::Gateway) && !facts.is_mutual(cluster, pod) => {
                return Hop::wrong(
                    HOP,
                    format!(
                        "{} in {} is on another network, whose gateway forwards only mutual TLS between proxies",
                        pod.name, cluster.name
                    ),
                    format!(
                        "make sure that both sides have a proxy, and that no PeerAuthentication or DestinationRule disables \
                            TLS: {} -n {} get peerauthentications",
                        context(cluster),
                        facts.call.service_namespace
                    ),
                );
            }
            (_, mode, true) => {
                if sends == Transport::Plain && mode == "PERMISSIVE" && facts.call.speaks == Speaks::Tcp {
                    waits = "; a server that speaks first would hang, since its proxy waits for the client's first bytes to \
                        tell TLS from plain text";
                }
                takes.push(format!("{mode}{by}"));
            }
            (_, _, false) => takes.push("plain text (no proxy)".into()),
        }
    }
    takes.sort();
    takes.dedup();
    let mutual = ready.iter().all(|(cluster, pod)| facts.is_mutual(cluster, pod));
    let sent = match (sends, mutual) {
        (_, true) => "mutual TLS",
        (Transport::Plain, _) => "plain text",
        _ => "mutual TLS to pods with proxies, plain text to others",
    };
    Hop::ok(HOP, format!("{sent}; the pods accept: {}{waits}", takes.join(", ")))
}

fn context(cluster: &Cluster) -> String {
    format!("kubectl --context {}", cluster.context)
}

fn is_meshed(facts: &Facts) -> bool {
    facts.caller.as_ref().is_some_and(|caller| caller.meshed)
}

fn why_plain(facts: &Facts) -> String {
    match (is_meshed(facts), facts.disabling()) {
        (false, _) => "the caller has no proxy and sends plain text".into(),
        (true, Some(rule)) => {
            format!("DestinationRule {rule} of {} makes the caller's proxy send plain text", facts.call.cluster)
        }
        (true, None) => "the caller's proxy sends plain text".into(),
    }
}

fn fix_plain_text(facts: &Facts, far: &Cluster, by: Option<&str>) -> String {
    let relax = by.map(|by| {
        let (name, namespace) = by.split_once(" in namespace ").unwrap_or((by, &facts.call.service_namespace));
        format!(
            "; or let the pods accept both (PERMISSIVE): {} -n {namespace} edit peerauthentication {name}",
            context(far)
        )
    });
    let relax = relax.unwrap_or_default();
    match (is_meshed(facts), facts.disabling()) {
        (false, _) => format!(
            "add the caller to the mesh: kubectl --context {} label namespace {} istio-injection=enabled, then \
                recreate its pods{relax}",
            facts.context(),
            facts.call.namespace
        ),
        (true, Some(rule)) => {
            let (name, namespace) =
                rule.split_once(" in namespace ").unwrap_or((&rule, &facts.call.service_namespace));
            format!(
                "set its tls.mode to ISTIO_MUTUAL, or delete it: kubectl --context {} -n {namespace} edit \
                    destinationrule {name}{relax}",
                facts.context()
            )
        }
        (true, None) => {
            format!(
                "find the DestinationRule: kubectl --context {} get destinationrules -A{relax}",
                facts.context()
            )
        }
    }
}

fn rule(facts: &Facts) -> String {
    facts.rule_with(|mode| mode != "DISABLE").map(|rule| format!(" by DestinationRule {rule}")).unwrap_or_default()
}

/// The mTLS mode of a pod's proxy, and the PeerAuthentication that sets it.
struct Mode {
    mode: String,
    by: Option<String>,
}

/// Returns the mode of the most specific PeerAuthentication that sets one: for the pod, its namespace, or the mesh.
fn mode(cluster: &Cluster, namespace: &str, pod: &Pod) -> Mode {
    let said = |policy: &&super::facts::Policy| {
        policy.spec.pointer("/mtls/mode").and_then(Value::as_str).is_some_and(|mode| mode != "UNSET")
    };
    let all = || cluster.peer_authentications.iter().filter(said);
    let own = || all().filter(|policy| policy.namespace == namespace);
    let found = own()
        .find(|policy| policy.selector().is_some() && policy.selects(pod))
        .or_else(|| own().find(|policy| policy.selector().is_none()))
        .or_else(|| all().find(|policy| policy.namespace == ISTIO_NAMESPACE && policy.selector().is_none()));
    match found {
        Some(policy) => Mode {
            mode: policy.spec.pointer("/mtls/mode").and_then(Value::as_str).unwrap_or_default().to_owned(),
            by: Some(format!("{} in namespace {}", policy.name, policy.namespace)),
        },
        None => Mode { mode: "PERMISSIVE".into(), by: None },
    }
}

impl Facts {
    /// Returns what the caller sends.
    pub(super) fn sends(&self) -> Option<Transport> {
        match &self.caller {
            Some(caller) if !caller.meshed => Some(Transport::Plain),
            _ => {
                let proxy = self.proxy.as_ref()?;
                self.pools().iter().find_map(|pool| proxy.clusters.get(pool).copied())
            }
        }
    }

    /// Whether calls to a pod use mutual TLS, so that it receives the caller's identity.
    pub(super) fn is_mutual(&self, cluster: &Cluster, pod: &Pod) -> bool {
        let takes = mode(cluster, &self.call.service_namespace, pod).mode != "DISABLE";
        pod.meshed && takes && matches!(self.sends(), Some(Transport::Automatic | Transport::Tls))
    }

    /// Returns the DestinationRule that makes the caller's proxy send plain text.
    fn disabling(&self) -> Option<String> {
        self.rule_with(|mode| mode == "DISABLE")
    }

    /// Returns the DestinationRule for the host whose TLS mode matches.
    fn rule_with(&self, is: impl Fn(&str) -> bool) -> Option<String> {
        let host = self.host();
        let found = self.destination_rules.iter().find(|rule| {
            let names = rule.spec["host"].as_str().unwrap_or_default();
            let names = match names.contains('.') {
                true => names.to_owned(),
                false => format!("{names}.{}.svc.cluster.local", rule.namespace),
            };
            let mode = rule.spec.pointer("/trafficPolicy/tls/mode").and_then(Value::as_str);
            let fits = names == host
                || host.strip_suffix(".svc.cluster.local").is_some_and(|short| short == names)
                || names.strip_prefix('*').is_some_and(|end| host.ends_with(end));
            fits && mode.is_some_and(&is)
        })?;
        Some(format!("{} in namespace {}", found.name, found.namespace))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::facts::Policy;
    use super::super::testing::{POOL, works};
    use super::*;
    use serde_json::json;

    fn policy(namespace: &str, name: &str, spec: Value) -> Policy {
        Policy { namespace: namespace.into(), name: name.into(), spec }
    }

    fn strict(facts: &mut Facts) {
        facts.clusters[1].peer_authentications =
            vec![policy("shop", "strict", json!({"mtls": {"mode": "STRICT"}}))];
    }

    #[test]
    fn plain_text_to_strict_pods_fails_and_names_the_policy() {
        let mut facts = works();
        strict(&mut facts);
        assert_eq!(judge(&facts).verdict, Verdict::Ok);
        let pool = facts.proxy.as_mut().unwrap();
        pool.clusters.insert(POOL.into(), Transport::Plain);
        let disable = json!({"host": "orders", "trafficPolicy": {"tls": {"mode": "DISABLE"}}});
        facts.destination_rules = vec![policy("shop", "plain", disable)];
        let hop = judge(&facts);
        assert!(hop.saw.contains("STRICT from PeerAuthentication strict in namespace shop"), "{hop:?}");
        assert!(hop.saw.contains("DestinationRule plain in namespace shop of cluster1"), "{hop:?}");
        let cure = hop.cure.unwrap();
        assert!(cure.contains("kubectl --context kind-e-cluster1 -n shop edit destinationrule plain"), "{cure}");
        assert!(
            cure.contains("kubectl --context kind-e-cluster2 -n shop edit peerauthentication strict"),
            "{cure}"
        );
        // Also for a caller outside the mesh.
        facts.destination_rules.clear();
        facts.caller.as_mut().unwrap().meshed = false;
        assert!(judge(&facts).saw.ends_with("the caller has no proxy and sends plain text"));
    }

    #[test]
    fn server_first_plain_text_to_a_permissive_pod_hangs() {
        let mut facts = works();
        facts.call.speaks = Speaks::Tcp;
        facts.direct = Some(Heard::Bytes("220 ready".into()));
        assert_eq!(judge(&facts).verdict, Verdict::Ok);
        facts.proxy.as_mut().unwrap().clusters.insert(POOL.into(), Transport::Plain);
        let disable = json!({"host": "orders", "trafficPolicy": {"tls": {"mode": "DISABLE"}}});
        facts.destination_rules = vec![policy("shop", "plain", disable)];
        let hop = judge(&facts);
        assert!(hop.verdict == Verdict::Wrong && hop.saw.ends_with("the connection hangs"), "{hop:?}");
        assert!(hop.saw.contains("DestinationRule plain in namespace shop of cluster1"), "{hop:?}");
        let cure = hop.cure.unwrap();
        assert!(cure.ends_with("-n shop edit destinationrule plain"), "{cure}");
        // Not if the client speaks first, nor if the pod accepts only plain text.
        facts.direct = Some(Heard::Nothing);
        let hop = judge(&facts);
        assert!(
            hop.verdict == Verdict::Ok && hop.saw.contains("a server that speaks first would hang"),
            "{hop:?}"
        );
        facts.direct = Some(Heard::Bytes("220 ready".into()));
        facts.clusters[1].peer_authentications = vec![policy("shop", "off", json!({"mtls": {"mode": "DISABLE"}}))];
        assert_eq!(judge(&facts).verdict, Verdict::Ok);
    }

    #[test]
    fn most_specific_policy_counts() {
        let mut facts = works();
        facts.caller.as_mut().unwrap().meshed = false;
        let mesh = policy(ISTIO_NAMESPACE, "default", json!({"mtls": {"mode": "STRICT"}}));
        let pods = json!({"selector": {"matchLabels": {"app": "orders"}}, "mtls": {"mode": "PERMISSIVE"}});
        let other = json!({"selector": {"matchLabels": {"app": "other"}}, "mtls": {"mode": "STRICT"}});
        facts.clusters[1].peer_authentications = vec![policy("shop", "other", other), mesh];
        assert_eq!(judge(&facts).verdict, Verdict::Wrong);
        facts.clusters[1].peer_authentications.push(policy("shop", "orders", pods));
        assert_eq!(judge(&facts).verdict, Verdict::Ok);
    }

    #[test]
    fn explicit_tls_to_pods_without_a_proxy_fails() {
        let mut facts = works();
        facts.clusters[1].pods[0].meshed = false;
        assert_eq!(judge(&facts).verdict, Verdict::Ok);
        facts.proxy.as_mut().unwrap().clusters.insert(POOL.into(), Transport::Tls);
        assert!(judge(&facts).saw.contains("orders-1 in cluster2 has no proxy"));
    }
}
