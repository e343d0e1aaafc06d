//! NetworkPolicies: whether those of the caller let it connect, and whether those of the pods admit the caller.

use serde_json::{Value, json};

use super::facts::{Caller, Cluster, Linked, Pod, Policy, listed};
use super::{Facts, Hop};
use crate::base::names::GATEWAY_PORT;
use crate::cluster::mesh::ISTIO_NAMESPACE;
use crate::cluster::network_policy::{Direction, Labels, NAMESPACE_NAME, Peer, Port, cut};

const HOP: &str = "networkPolicy";
/// The port of istiod for proxies.
const ISTIOD_PORT: u16 = 15012;
const DNS_PORT: u16 = 53;
/// The label of an east-west gateway's pods.
const GATEWAY_LABEL: (&str, &str) = ("istio", "eastwestgateway");

/// What keeps connections away, and the fix.
struct Problem {
    saw: String,
    cure: String,
}

pub(super) fn judge(facts: &Facts) -> Hop {
    let Some(caller) = &facts.caller else { return Hop::skipped(HOP, "no caller") };
    let targets = targets(facts, caller);
    let problems: Vec<Problem> = egress(facts, caller, &targets)
        .into_iter()
        .chain(targets.iter().filter_map(|(cluster, pods)| ingress(facts, caller, cluster, pods)))
        .collect();
    if !problems.is_empty() {
        let saw: Vec<&str> = problems.iter().map(|problem| problem.saw.as_str()).collect();
        let cure: Vec<&str> = problems.iter().map(|problem| problem.cure.as_str()).collect();
        let saw = format!(
            "{}. A network plugin that enforces NetworkPolicies drops them (kindnet does)",
            saw.join("; ")
        );
        return Hop::wrong(HOP, saw, cure.join("; "));
    }
    let call = &facts.call;
    if facts.network_policies.is_none() {
        return unread(&call.namespace, &call.cluster);
    }
    if let Some((cluster, _)) = targets.iter().find(|(cluster, _)| cluster.network_policies.is_none()) {
        return unread(&call.service_namespace, &cluster.name);
    }
    let of_pods = targets.iter().filter_map(|(cluster, _)| cluster.network_policies.as_ref());
    match of_pods.chain(&facts.network_policies).all(Vec::is_empty) {
        true => Hop::ok(HOP, "there are none for the caller and these pods"),
        false => Hop::ok(HOP, "none of them keeps the caller from these pods"),
    }
}

fn unread(namespace: &str, cluster: &str) -> Hop {
    Hop::unknown(HOP, format!("the NetworkPolicies in namespace {namespace} of {cluster} could not be read"))
}

/// Returns the ready pods that the call can reach, by cluster.
fn targets<'a>(facts: &'a Facts, caller: &Caller) -> Vec<(&'a Cluster, Vec<&'a Pod>)> {
    let reached = |cluster: &&Cluster| facts.is_here(cluster) || (caller.meshed && facts.sees(cluster));
    let ready = |cluster: &'a Cluster| cluster.pods.iter().filter(|pod| pod.ready).collect();
    facts.serving().into_iter().filter(reached).map(|cluster| (cluster, ready(cluster))).collect()
}

/// Judges what the caller may connect to: the pods, or the gateway before them; the DNS server; and istiod.
fn egress(facts: &Facts, caller: &Caller, targets: &[(&Cluster, Vec<&Pod>)]) -> Option<Problem> {
    let policies = facts.network_policies.as_deref()?;
    let here = facts.here()?;
    let cut = |peer: &Peer, port: &Port| cut(specs(policies), &caller.labels, Direction::Egress, peer, port);
    let mut to = Vec::new();
    let mut rules = Vec::new();
    let mut by = Vec::new();
    let mut check = |peers: &[(Peer, Port)], what: String, rule: Option<Value>| {
        if let Some(found) = peers.iter().map(|(peer, port)| cut(peer, port)).find(|found| !found.is_empty()) {
            by = found;
            to.push(what);
            rules.push(rule);
        }
    };
    for (cluster, pods) in targets {
        let peers: Vec<(Peer, Port)> = match cluster.linked {
            Linked::Gateway => gateways(cluster).into_iter().map(|peer| (peer, Port::tcp(GATEWAY_PORT))).collect(),
            _ => pods.iter().map(|pod| (pod_peer(facts, cluster, pod), target(facts, cluster, pod))).collect(),
        };
        check(&peers, destination(cluster), egress_rule(facts, cluster, pods));
    }
    let system = |namespace: Labels| Peer::Pod {
        namespace,
        same_namespace: facts.call.namespace == ISTIO_NAMESPACE,
        labels: Labels::unknown(),
        address: None,
    };
    if caller.meshed && facts.control_plane == here.name {
        let istiod = system(Labels::of_namespace(ISTIO_NAMESPACE, true));
        let rule = json!({"to": [in_namespace(ISTIO_NAMESPACE)], "ports": [{"port": ISTIOD_PORT}]});
        check(&[(istiod, Port::tcp(ISTIOD_PORT))], format!("istiod (port {ISTIOD_PORT})"), Some(rule));
    }
    let dns = Port { protocol: "UDP", ..Port::tcp(DNS_PORT) };
    let ports = json!([{"protocol": "UDP", "port": DNS_PORT}, {"protocol": "TCP", "port": DNS_PORT}]);
    let rule = json!({"to": [in_namespace("kube-system")], "ports": ports});
    check(&[(system(Labels::unknown()), dns)], format!("the DNS server (port {DNS_PORT})"), Some(rule));
    if to.is_empty() {
        return None;
    }
    let abroad = targets.iter().any(|(cluster, _)| !facts.is_here(cluster) && to.contains(&destination(cluster)));
    let namespace = &facts.call.namespace;
    let saw = format!(
        "NetworkPolicy {} in namespace {namespace} of {} admits no connections (egress) of {} to {}{}",
        names(policies, &by),
        here.name,
        caller.pod,
        listed(&to),
        if abroad { ABROAD } else { "" }
    );
    let selector = match caller.app() {
        "" => json!({}),
        app => json!({"matchLabels": {"app": app}}),
    };
    let name = format!("{}-to-{}", if caller.app().is_empty() { "egress" } else { caller.app() }, facts.call.name);
    let kubectl = format!("kubectl --context {} -n {namespace}", here.context);
    let rules = rules.into_iter().collect::<Option<Vec<Value>>>();
    let edit = format!("add what it needs: {kubectl} edit networkpolicy {}", first(policies, &by));
    let cure = rules.map_or(edit, |rules| apply(&kubectl, &name, &selector, Direction::Egress, rules));
    Some(Problem { saw, cure })
}

/// Returns what the caller connects to for the pods of a cluster.
fn destination(cluster: &Cluster) -> String {
    match cluster.linked {
        Linked::Gateway => format!("the east-west gateway of {} (port {GATEWAY_PORT})", cluster.name),
        _ => format!("the pods in {}", cluster.name),
    }
}

/// Judges what the pods of a cluster accept: the caller's connections, or those of the gateway that forwards them.
fn ingress(facts: &Facts, caller: &Caller, cluster: &Cluster, pods: &[&Pod]) -> Option<Problem> {
    let policies = cluster.network_policies.as_deref()?;
    let same_namespace = facts.call.namespace == facts.call.service_namespace;
    let (peer, from, who) = match &cluster.linked {
        _ if facts.is_here(cluster) => (
            Peer::Pod {
                namespace: Labels::of_namespace(&facts.call.namespace, true),
                same_namespace,
                labels: Labels::all(caller.labels.clone()),
                address: caller.address,
            },
            Some(vec![in_namespace(&facts.call.namespace)]),
            format!("{} of the same cluster", caller.pod),
        ),
        Linked::Gateway => (
            Peer::Pod {
                namespace: Labels::of_namespace(ISTIO_NAMESPACE, true),
                same_namespace: facts.call.service_namespace == ISTIO_NAMESPACE,
                labels: Labels {
                    known: [(GATEWAY_LABEL.0.to_owned(), GATEWAY_LABEL.1.to_owned())].into(),
                    maybe_others: true,
                },
                address: None,
            },
            Some(vec![in_namespace(ISTIO_NAMESPACE)]),
            format!("the east-west gateway of {}", cluster.name),
        ),
        linked => {
            // The nodes of clusters that exist may replace the address.
            let address = caller.address.filter(|_| *linked != Linked::NotInspected);
            let from = facts.here().and_then(|here| blocks(here, &[caller.address]));
            (Peer::Outside(address), from, format!("the pods of {}", facts.call.cluster))
        }
    };
    let (pod, by, port) = pods.iter().find_map(|pod| {
        let port = target(facts, cluster, pod);
        let by = cut(specs(policies), &pod.labels, Direction::Ingress, &peer, &port);
        (!by.is_empty()).then_some((pod, by, port))
    })?;
    let because = if matches!(peer, Peer::Outside(_)) { ABROAD } else { "" };
    let saw = format!(
        "NetworkPolicy {} in namespace {} of {} admits no connections (ingress) to {} from {who}{because}",
        names(policies, &by),
        facts.call.service_namespace,
        cluster.name,
        pod.name
    );
    let (kubectl, named) = (facts.kubectl(cluster), &facts.call.name);
    let edit = format!("admit them: {kubectl} edit networkpolicy {}", first(policies, &by));
    let selector = cluster.service.as_ref().map(|service| json!({"matchLabels": service.selector}))?;
    let name = format!("{named}-from-{}", facts.call.cluster);
    let cure = from.map_or(edit, |from| {
        apply(&kubectl, &name, &selector, Direction::Ingress, vec![rule(Direction::Ingress, from, port.number)])
    });
    Some(Problem { saw, cure })
}

/// Why selectors do not help.
const ABROAD: &str = ": selectors match only pods of their own cluster, others need an ipBlock";

/// Returns the rule that lets the caller connect to the pods of a cluster, or to its gateway; none if their addresses are not known.
fn egress_rule(facts: &Facts, cluster: &Cluster, pods: &[&Pod]) -> Option<Value> {
    let number = pods.first().and_then(|pod| target(facts, cluster, pod).number);
    let (to, port) = match cluster.linked {
        _ if facts.is_here(cluster) => (vec![in_namespace(&facts.call.service_namespace)], number),
        Linked::Gateway => {
            let addresses = cluster.gateway.iter().flat_map(|gateway| &gateway.addresses);
            let addresses: Vec<_> = addresses.map(|address| address.parse().ok()).collect();
            (single(&addresses)?, Some(GATEWAY_PORT))
        }
        _ => (blocks(cluster, &pods.iter().map(|pod| pod.address).collect::<Vec<_>>())?, number),
    };
    Some(rule(Direction::Egress, to, port))
}

fn rule(direction: Direction, peers: Vec<Value>, port: Option<u16>) -> Value {
    let mut rule = json!({direction.fields().1: peers});
    if let Some(port) = port {
        rule["ports"] = json!([{"port": port}]);
    }
    rule
}

/// Returns the command that adds a policy. What any policy admits is admitted.
fn apply(kubectl: &str, name: &str, selector: &Value, direction: Direction, rules: Vec<Value>) -> String {
    let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name},
        "spec": {"podSelector": selector, "policyTypes": [direction.name()], direction.fields().0: rules}});
    format!("add a NetworkPolicy that admits them: {kubectl} apply -f - <<<'{policy}'")
}

fn in_namespace(name: &str) -> Value {
    json!({"namespaceSelector": {"matchLabels": {NAMESPACE_NAME: name}}})
}

/// Returns the peers that are the pods of a cluster: by its subnets, else by their addresses.
fn blocks(cluster: &Cluster, addresses: &[Option<std::net::Ipv4Addr>]) -> Option<Vec<Value>> {
    match cluster.pod_subnets.is_empty() {
        true => single(addresses),
        false => Some(cluster.pod_subnets.iter().map(|subnet| json!({"ipBlock": {"cidr": subnet}})).collect()),
    }
}

/// Returns addresses as peers; none if there are none, or some are not known.
fn single(addresses: &[Option<std::net::Ipv4Addr>]) -> Option<Vec<Value>> {
    let known: Option<Vec<Value>> = addresses
        .iter()
        .map(|address| address.map(|address| json!({"ipBlock": {"cidr": format!("{address}/32")}})))
        .collect();
    known.filter(|known| !known.is_empty())
}

/// Returns a pod as the caller's policies see it.
fn pod_peer(facts: &Facts, cluster: &Cluster, pod: &Pod) -> Peer {
    match facts.is_here(cluster) {
        true => Peer::Pod {
            namespace: Labels::of_namespace(&facts.call.service_namespace, true),
            same_namespace: facts.call.namespace == facts.call.service_namespace,
            labels: Labels::all(pod.labels.clone()),
            address: pod.address,
        },
        false => Peer::Outside(pod.address),
    }
}

fn gateways(cluster: &Cluster) -> Vec<Peer> {
    let addresses = cluster.gateway.iter().flat_map(|gateway| &gateway.addresses);
    addresses.map(|address| Peer::Outside(address.parse().ok())).collect()
}

/// Returns the port of a pod that connections for the Service's port arrive at.
fn target(facts: &Facts, cluster: &Cluster, pod: &Pod) -> Port {
    let number = cluster.port(facts.call.port).and_then(|port| pod.port(&port.target));
    let named = pod.ports.iter().find(|(_, port)| Some(*port) == number);
    Port { number, name: named.map(|(name, _)| name.clone()), ..Port::any() }
}

fn specs(policies: &[Policy]) -> impl Iterator<Item = &Value> {
    policies.iter().map(|policy| &policy.spec)
}

fn first<'a>(policies: &'a [Policy], numbers: &[usize]) -> &'a str {
    numbers.first().and_then(|number| policies.get(*number)).map_or("", |policy| policy.name.as_str())
}

fn names(policies: &[Policy], numbers: &[usize]) -> String {
    let names: Vec<&str> =
        numbers.iter().filter_map(|number| policies.get(*number)).map(|policy| policy.name.as_str()).collect();
    listed(&names)
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::facts::Gateway;
    use super::super::testing::works;
    use super::*;

    fn policy(name: &str, spec: Value) -> Policy {
        Policy { namespace: "shop".into(), name: name.into(), spec }
    }

    fn deny(direction: &str) -> Policy {
        policy("default-deny", json!({"podSelector": {}, "policyTypes": [direction]}))
    }

    #[test]
    fn default_deny_of_the_pods_names_the_policy_and_its_fix() {
        let mut facts = works();
        facts.clusters[1].network_policies = Some(vec![
            deny("Ingress"),
            policy("own", json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]})),
        ]);
        let hop = judge(&facts);
        assert_eq!(
            hop.saw,
            "NetworkPolicy default-deny and own in namespace shop of cluster2 admits no connections (ingress) to orders-1 from \
                the pods of cluster1: selectors match only pods of their own cluster, others need an ipBlock. A network plugin that enforces NetworkPolicies drops them (kindnet does)"
        );
        let cure = hop.cure.unwrap();
        let spec = r#""spec":{"ingress":[{"from":[{"ipBlock":{"cidr":"10.1.0.0/16"}}],"ports":[{"port":8080}]}],"podSelector":{"matchLabels":{"app":"orders"}},"policyTypes":["Ingress"]}"#;
        assert!(
            cure.starts_with(
                "add a NetworkPolicy that admits them: kubectl --context kind-e-cluster2 -n shop apply -f - <<<'"
            ) && cure.contains(spec),
            "{cure}"
        );
        // The policy of the fix admits the call.
        let manifest = cure.split_once("<<<'").unwrap().1.trim_end_matches('\'');
        let manifest: Value = serde_json::from_str(manifest).unwrap();
        facts.clusters[1].network_policies.as_mut().unwrap().push(policy("fix", manifest["spec"].clone()));
        assert_eq!(judge(&facts).verdict, Verdict::Ok);
    }

    #[test]
    fn egress_of_the_caller_needs_the_pods_istiod_and_dns() {
        let mut facts = works();
        facts.network_policies = Some(vec![deny("Egress")]);
        let hop = judge(&facts);
        assert!(
            hop.saw.starts_with(
                "NetworkPolicy default-deny in namespace shop of cluster1 admits no connections (egress) of checkout-1 to the pods \
                    in cluster2, istiod (port 15012) and the DNS server (port 53): selectors match only"
            ),
            "{hop:?}"
        );
        let cure = hop.cure.unwrap();
        let manifest: Value =
            serde_json::from_str(cure.split_once("<<<'").unwrap().1.trim_end_matches('\'')).unwrap();
        assert_eq!(manifest["spec"]["egress"][0]["to"][0]["ipBlock"]["cidr"], "10.2.0.0/16");
        facts.network_policies.as_mut().unwrap().push(policy("fix", manifest["spec"].clone()));
        assert_eq!(judge(&facts).verdict, Verdict::Ok);
        // All of the own cluster is not enough.
        let own =
            json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"namespaceSelector": {}}]}]});
        facts.network_policies = Some(vec![policy("own", own)]);
        let saw = judge(&facts).saw;
        assert!(saw.contains("(egress) of checkout-1 to the pods in cluster2: selectors"), "{saw}");
    }

    #[test]
    fn gateway_stands_between_networks() {
        let mut facts = works();
        facts.clusters[1].linked = Linked::Gateway;
        facts.clusters[1].gateway = Some(Gateway { addresses: vec!["172.30.0.136".into()], lacks: None });
        facts.clusters[1].network_policies = Some(vec![deny("Ingress")]);
        let hop = judge(&facts);
        assert!(hop.saw.contains("from the east-west gateway of cluster2."), "{hop:?}");
        assert!(hop.cure.unwrap().contains(r#"{"kubernetes.io/metadata.name":"istio-system"}"#));
        let any = json!({"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": {}}]}]});
        facts.clusters[1].network_policies = Some(vec![policy("any", any)]);
        assert_eq!(judge(&facts).verdict, Verdict::Ok);
        facts.network_policies = Some(vec![deny("Egress")]);
        let hop = judge(&facts);
        assert!(hop.saw.contains("of checkout-1 to the east-west gateway of cluster2 (port 15443)"), "{hop:?}");
        assert!(hop.cure.unwrap().contains(r#"[{"port":15443}],"to":[{"ipBlock":{"cidr":"172.30.0.136/32"}}]"#));
    }

    #[test]
    fn policies_that_do_not_concern_the_call_are_passed() {
        let mut facts = works();
        assert_eq!(judge(&facts).saw, "there are none for the caller and these pods");
        let other = json!({"podSelector": {"matchLabels": {"app": "db"}}});
        facts.clusters[1].network_policies = Some(vec![policy("db", other)]);
        assert_eq!(judge(&facts).saw, "none of them keeps the caller from these pods");
        facts.clusters[1].network_policies = None;
        let hop = judge(&facts);
        assert_eq!(hop.verdict, Verdict::Unknown, "{hop:?}");
        // Without a proxy, the caller reaches pods of its own cluster only.
        facts.clusters[1].network_policies = Some(vec![deny("Ingress")]);
        facts.caller.as_mut().unwrap().meshed = false;
        assert_eq!(judge(&facts).verdict, Verdict::Ok);
    }

    #[test]
    fn selectors_admit_callers_of_the_own_cluster() {
        let mut facts = works();
        facts.clusters[0].pods = std::mem::take(&mut facts.clusters[1].pods);
        let from = |app: &str| {
            policy(
                "web",
                json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": app}}}]}]}),
            )
        };
        facts.clusters[0].network_policies = Some(vec![from("checkout")]);
        assert_eq!(judge(&facts).verdict, Verdict::Ok);
        facts.clusters[0].network_policies = Some(vec![from("web")]);
        assert!(judge(&facts).saw.contains("from checkout-1 of the same cluster."));
    }
}
