//! `clusters[].kind`: what it may contain, and how it is merged into the cluster's kind configuration.

use serde_json::Value;

use super::{Values, Version, owned};

mod fields;
mod patches;
pub(super) mod ports;

/// A problem: the path of the field, what is wrong with it, and the fix.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) path: String,
    pub(super) what: String,
    pub(super) fix: String,
}

/// Merges a cluster's overrides into its planned kind configuration.
///
/// Maps are merged. Nodes are merged by position, so that `nodes: [{extraMounts: […]}]` adds to the control plane
/// and keeps its image and labels. Every other list of kind's configuration is a list of additions (patches,
/// mounts, port mappings) and is appended to: replacing it would lose the planned patches.
pub fn merge_kind(config: &mut Value, overrides: &Values) {
    let overrides = overrides.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    add(config, Value::Object(overrides), false);
}

fn add(base: &mut Value, over: Value, by_position: bool) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                let nodes = key == "nodes";
                add(base.entry(key).or_insert(Value::Null), value, nodes);
            }
        }
        (Value::Array(base), Value::Array(over)) if by_position => {
            for (index, item) in over.into_iter().enumerate() {
                match base.get_mut(index) {
                    Some(node) => add(node, item, false),
                    None => base.push(item),
                }
            }
        }
        (Value::Array(base), Value::Array(over)) => base.extend(over),
        (base, over) => *base = over,
    }
}

/// Fields of a kind configuration that the plan sets, and what sets them.
const OWNED: [(&str, &str); 8] = [
    ("kind", "the kind configuration is always a Cluster"),
    ("apiVersion", "kindmesh always uses kind.x-k8s.io/v1alpha4"),
    ("name", "it consists of the environment's name and the cluster's name"),
    // The plan knows them: routes between clusters depend on them.
    ("networking.podSubnet", "set the cluster's podSubnet instead"),
    ("networking.serviceSubnet", "set the cluster's serviceSubnet instead"),
    ("networking.ipFamily", "only IPv4 is supported"),
    // The routes between clusters follow the pod subnets that kindnet assigns to nodes.
    ("networking.disableDefaultCNI", "the links between clusters require kind's default CNI"),
    // The rule that rejects what kube-proxy does not serve yet is an iptables rule.
    ("networking.kubeProxyMode", "the links between clusters require kube-proxy's iptables mode"),
];

/// Returns the problems of a cluster's overrides. `kubernetes` is the version of its nodes, if known.
pub(super) fn problems(overrides: &Values, workers: u8, kubernetes: Option<Version>) -> Vec<Problem> {
    let mut planned = owned::problems(overrides, &OWNED);
    if let Some(nodes) = overrides.get("nodes").and_then(Value::as_array) {
        node_problems(nodes, workers, &mut planned);
    }
    let problem = |(path, what)| Problem { path, what, fix: "remove it".into() };
    let mut found: Vec<Problem> = planned.into_iter().map(problem).collect();
    let config = Value::Object(overrides.clone().into_iter().collect());
    let mut others = Vec::new();
    fields::problems(&config, &mut others);
    patches::problems(&config, kubernetes, &mut others);
    // One problem of a field is enough, such as that it may not be set at all.
    others.retain(|other| !found.iter().any(|known| known.path == other.path));
    found.extend(others);
    found
}

fn node_problems(nodes: &[Value], workers: u8, found: &mut Vec<(String, String)>) {
    if nodes.len() > 1 + usize::from(workers) {
        let why = format!("has {} nodes, expected at most {}: set workers", nodes.len(), 1 + u32::from(workers));
        found.push(("nodes".into(), why));
    }
    for (index, node) in nodes.iter().enumerate() {
        let path = format!("nodes[{index}]");
        let Some(node) = node.as_object() else { continue };
        let role = if index == 0 { "control-plane" } else { "worker" };
        if node.get("role").is_some_and(|given| given != role) {
            found.push((format!("{path}.role"), format!("must be {role}: the first node is the control plane")));
        }
        if node.contains_key("image") {
            let why = "may not be set: use kubernetes.nodeImage, for all clusters or for this one";
            found.push((format!("{path}.image"), why.into()));
        }
        for place in ["region", "zone"] {
            let label = format!("topology.kubernetes.io/{place}");
            if node.get("labels").is_some_and(|labels| labels.get(&label).is_some()) {
                let why = format!("may not be set: use the cluster's {place}");
                found.push((format!("{path}.labels.{label}"), why));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn overrides_add_to_the_planned_configuration() {
        let mut config = json!({
            "name": "a",
            "networking": {"podSubnet": "10.100.0.0/16"},
            "kubeadmConfigPatches": ["planned"],
            "nodes": [{"role": "control-plane", "image": "i", "labels": {"z": "1"}}, {"role": "worker", "image": "i"}],
        });
        let over: Values = serde_json::from_value(json!({
            "networking": {"apiServerPort": 6443},
            "featureGates": {"X": true},
            "kubeadmConfigPatches": ["mine"],
            "nodes": [{"extraMounts": [{"hostPath": "/a"}], "labels": {"w": "2"}}],
        }))
        .unwrap();
        merge_kind(&mut config, &over);
        assert_eq!(
            config,
            json!({
                "name": "a",
                "networking": {"podSubnet": "10.100.0.0/16", "apiServerPort": 6443},
                "featureGates": {"X": true},
                "kubeadmConfigPatches": ["planned", "mine"],
                "nodes": [
                    {"role": "control-plane", "image": "i", "labels": {"z": "1", "w": "2"}, "extraMounts": [{"hostPath": "/a"}]},
                    {"role": "worker", "image": "i"},
                ],
            })
        );
    }
}
