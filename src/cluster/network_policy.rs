//! Which connections NetworkPolicies admit. Pure.
//!
//! A pod that policies select has only the connections that one of them admits. The selectors of a peer match pods of the policy's own
//! cluster; those of other clusters have addresses that only an `ipBlock` admits.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde_json::Value;

/// The label with the name of a namespace, which every namespace has.
pub const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// A direction, seen from the pod that a policy selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Connections to the pod.
    Ingress,
    /// Connections from the pod.
    Egress,
}

impl Direction {
    /// Returns its name in a policy's `policyTypes`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ingress => "Ingress",
            Self::Egress => "Egress",
        }
    }

    /// Returns the field with its rules, and the field of a rule with its peers.
    pub fn fields(self) -> (&'static str, &'static str) {
        match self {
            Self::Ingress => ("ingress", "from"),
            Self::Egress => ("egress", "to"),
        }
    }
}

/// What is known of the labels of an object.
#[derive(Debug, Clone, Default)]
pub struct Labels {
    /// The known ones.
    pub known: BTreeMap<String, String>,
    /// Whether there may be others: a selector that asks for those may match.
    pub maybe_others: bool,
}

impl Labels {
    /// Returns labels of which all are known.
    pub fn all(known: BTreeMap<String, String>) -> Self {
        Self { known, maybe_others: false }
    }

    /// Returns labels of which none is known.
    pub fn unknown() -> Self {
        Self { known: BTreeMap::new(), maybe_others: true }
    }

    /// Returns the labels of a namespace, which has its name as a label.
    pub fn of_namespace(name: &str, maybe_others: bool) -> Self {
        Self { known: [(NAMESPACE_NAME.to_owned(), name.to_owned())].into(), maybe_others }
    }
}

/// The other end of a connection.
#[derive(Debug, Clone)]
pub enum Peer {
    /// Outside of the policy's cluster: its address, if known.
    Outside(Option<Ipv4Addr>),
    /// A pod of the policy's cluster.
    Pod {
        /// The labels of its namespace.
        namespace: Labels,
        /// Whether that is the policy's namespace.
        same_namespace: bool,
        /// Its labels.
        labels: Labels,
        /// Its address, if known.
        address: Option<Ipv4Addr>,
    },
}

/// The port of the receiving pod.
#[derive(Debug, Clone, Default)]
pub struct Port {
    /// `TCP` or `UDP`.
    pub protocol: &'static str,
    /// Its number; none if it can be any.
    pub number: Option<u16>,
    /// Its name, if the pod gives it one.
    pub name: Option<String>,
}

impl Port {
    /// Returns a TCP port.
    pub fn tcp(number: u16) -> Self {
        Self { protocol: "TCP", number: Some(number), name: None }
    }

    /// Returns a TCP port that can be any.
    pub fn any() -> Self {
        Self { protocol: "TCP", number: None, name: None }
    }
}

/// Returns the numbers of the policies that keep a pod from a connection, if they do: all that select it, none of which admits the
/// peer. `policies` are the specs of those in the pod's namespace. What is not known counts as admitted.
pub fn cut<'a>(
    policies: impl IntoIterator<Item = &'a Value>,
    pod: &BTreeMap<String, String>,
    direction: Direction,
    peer: &Peer,
    port: &Port,
) -> Vec<usize> {
    let labels = Labels::all(pod.clone());
    let about = |spec: &Value| restricts(spec, direction) && matches(&spec["podSelector"], &labels);
    let about: Vec<(usize, &Value)> = policies.into_iter().enumerate().filter(|(_, spec)| about(spec)).collect();
    let (rules, _) = direction.fields();
    let mut admitted = about.iter().flat_map(|(_, spec)| list(&spec[rules]));
    if admitted.any(|rule| admits(rule, direction, peer, port)) {
        return Vec::new();
    }
    about.into_iter().map(|(number, _)| number).collect()
}

/// Whether a policy restricts connections of a direction. Without `policyTypes` it restricts egress only if it has rules for it.
fn restricts(spec: &Value, direction: Direction) -> bool {
    let types = list(&spec["policyTypes"]);
    match types.is_empty() {
        true => direction == Direction::Ingress || !list(&spec["egress"]).is_empty(),
        false => types.iter().any(|kind| kind == direction.name()),
    }
}

/// Whether a rule admits a connection.
fn admits(rule: &Value, direction: Direction, peer: &Peer, port: &Port) -> bool {
    let (_, peers) = direction.fields();
    let (peers, ports) = (list(&rule[peers]), list(&rule["ports"]));
    (peers.is_empty() || peers.iter().any(|admitted| is_peer(admitted, peer)))
        && (ports.is_empty() || ports.iter().any(|admitted| is_port(admitted, port)))
}

fn is_peer(admitted: &Value, peer: &Peer) -> bool {
    let block = &admitted["ipBlock"];
    let (Peer::Outside(address) | Peer::Pod { address, .. }) = peer;
    if block.is_object() {
        return address.is_none_or(|address| is_in(block, address));
    }
    let Peer::Pod { namespace, same_namespace, labels, .. } = peer else { return false };
    let of_namespace = match &admitted["namespaceSelector"] {
        selector if selector.is_object() => matches(selector, namespace),
        _ => *same_namespace,
    };
    of_namespace && matches(&admitted["podSelector"], labels)
}

fn is_in(block: &Value, address: Ipv4Addr) -> bool {
    let contains = |net: &Value| {
        net.as_str().and_then(|net| net.parse::<Ipv4Net>().ok()).is_some_and(|net| net.contains(&address))
    };
    contains(&block["cidr"]) && !list(&block["except"]).iter().any(contains)
}

fn is_port(admitted: &Value, port: &Port) -> bool {
    if admitted["protocol"].as_str().unwrap_or("TCP") != port.protocol {
        return false;
    }
    let (Some(number), wanted) = (port.number, &admitted["port"]) else { return true };
    match (wanted.as_u64(), wanted.as_str()) {
        (Some(first), _) => (first..=admitted["endPort"].as_u64().unwrap_or(first)).contains(&u64::from(number)),
        (None, Some(name)) => port.name.as_deref().is_none_or(|known| known == name),
        (None, None) => true,
    }
}

/// Whether a label selector matches. One without conditions matches everything.
fn matches(selector: &Value, labels: &Labels) -> bool {
    let holds = |key: &str, fits: &dyn Fn(Option<&str>) -> bool| match labels.known.get(key) {
        None if labels.maybe_others => true,
        value => fits(value.map(String::as_str)),
    };
    let mut wanted = selector["matchLabels"].as_object().into_iter().flatten();
    let equal = wanted.all(|(key, wanted)| holds(key, &|value| value.is_some_and(|value| wanted == value)));
    equal
        && list(&selector["matchExpressions"]).iter().all(|condition| {
            let within = |value: &str| list(&condition["values"]).iter().any(|one| one == value);
            let fits = |value: Option<&str>| match condition["operator"].as_str() {
                Some("In") => value.is_some_and(within),
                Some("NotIn") => !value.is_some_and(within),
                Some("Exists") => value.is_some(),
                Some("DoesNotExist") => value.is_none(),
                _ => true,
            };
            holds(condition["key"].as_str().unwrap_or_default(), &fits)
        })
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn is_cut(specs: &[Value], direction: Direction, peer: &Peer, port: &Port) -> bool {
        !cut(specs, &labels(&[("app", "orders")]), direction, peer, port).is_empty()
    }

    fn neighbour(namespace: &str, same_namespace: bool) -> Peer {
        Peer::Pod {
            namespace: Labels::of_namespace(namespace, true),
            same_namespace,
            labels: Labels::all(labels(&[("app", "web")])),
            address: Some([10, 1, 0, 9].into()),
        }
    }

    #[test]
    fn only_an_ip_block_admits_pods_of_other_clusters() {
        let abroad = Peer::Outside(Some([10, 2, 0, 9].into()));
        for (from, cuts) in [
            (json!([{"podSelector": {}}]), true),
            (json!([{"namespaceSelector": {}}]), true),
            (json!([{"namespaceSelector": {}}, {"ipBlock": {"cidr": "10.2.0.0/16"}}]), false),
            (json!([{"ipBlock": {"cidr": "10.3.0.0/16"}}]), true),
            (json!([{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.2.0.0/16"]}}]), true),
            (json!([]), false),
        ] {
            let policy = json!({"podSelector": {"matchLabels": {"app": "orders"}}, "ingress": [{"from": from}]});
            let found = is_cut(std::slice::from_ref(&policy), Direction::Ingress, &abroad, &Port::tcp(8080));
            assert_eq!(found, cuts, "{policy}");
            // It restricts no egress, and no other pods.
            assert!(!is_cut(std::slice::from_ref(&policy), Direction::Egress, &abroad, &Port::tcp(8080)));
            let others = cut([&policy], &labels(&[("app", "x")]), Direction::Ingress, &abroad, &Port::any());
            assert!(others.is_empty());
        }
    }

    #[test]
    fn policies_add_up() {
        let none = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]});
        let all = json!({"podSelector": {}, "ingress": [{}]});
        let abroad = Peer::Outside(None);
        assert_eq!(cut([&none], &labels(&[]), Direction::Ingress, &abroad, &Port::any()), [0]);
        assert!(!is_cut(&[none.clone(), all.clone()], Direction::Ingress, &abroad, &Port::any()));
        assert!(is_cut(&[none, all], Direction::Egress, &abroad, &Port::any()));
        assert!(!is_cut(&[], Direction::Egress, &abroad, &Port::any()));
    }

    #[test]
    fn selectors_match_pods_of_the_own_cluster() {
        for (from, peer, cuts) in [
            (json!({"podSelector": {}}), neighbour("shop", true), false),
            (json!({"podSelector": {}}), neighbour("web", false), true),
            (json!({"podSelector": {"matchLabels": {"app": "db"}}}), neighbour("shop", true), true),
            (
                json!({"namespaceSelector": {"matchLabels": {NAMESPACE_NAME: "web"}}}),
                neighbour("web", false),
                false,
            ),
            (json!({"namespaceSelector": {"matchLabels": {NAMESPACE_NAME: "web"}}}), neighbour("x", false), true),
            // A label of the namespace that is not known.
            (json!({"namespaceSelector": {"matchLabels": {"team": "a"}}}), neighbour("x", false), false),
            (
                json!({"podSelector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}}),
                neighbour("shop", true),
                true,
            ),
            (
                json!({"podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}}),
                neighbour("shop", true),
                false,
            ),
        ] {
            let policy = json!({"podSelector": {}, "ingress": [{"from": [from]}]});
            assert_eq!(
                is_cut(std::slice::from_ref(&policy), Direction::Ingress, &peer, &Port::tcp(80)),
                cuts,
                "{policy}"
            );
        }
    }

    #[test]
    fn ports_restrict_a_rule() {
        let port = |number, name: Option<&str>| Port { name: name.map(str::to_owned), ..Port::tcp(number) };
        for (admitted, wanted, cuts) in [
            (json!({"port": 8080}), port(8080, None), false),
            (json!({"port": 8080}), port(8081, None), true),
            (json!({"port": 8000, "endPort": 8100}), port(8081, None), false),
            (json!({"port": "http"}), port(8080, Some("http")), false),
            (json!({"port": "http"}), port(8080, Some("tcp")), true),
            (json!({"port": "http"}), port(8080, None), false),
            (json!({"protocol": "UDP"}), port(8080, None), true),
            (json!({"protocol": "TCP"}), port(8080, None), false),
        ] {
            let policy = json!({"podSelector": {}, "ingress": [{"ports": [admitted]}]});
            let found = is_cut(std::slice::from_ref(&policy), Direction::Ingress, &Peer::Outside(None), &wanted);
            assert_eq!(found, cuts, "{policy}");
        }
    }
}
