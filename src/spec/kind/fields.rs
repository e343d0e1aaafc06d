//! The fields of a kind configuration and their types: `v1alpha4` of kind v0.33, pkg/apis/config/v1alpha4/types.go.

use serde_json::Value;

use super::Problem;
use crate::spec::did_you_mean;

/// The type of a field.
enum Type {
    /// Checked elsewhere.
    Any,
    Text,
    /// One of these words.
    Word(&'static [&'static str]),
    Flag,
    /// A port of the host or a node; 0 and -1 let the engine choose one.
    Port,
    /// A map of any names.
    MapOf(&'static Type),
    ListOf(&'static Type),
    Fields(&'static [(&'static str, Type)]),
}

const TEXTS: Type = Type::ListOf(&Type::Text);
const JSON_PATCHES: Type = Type::ListOf(&Type::Fields(&[
    ("group", Type::Text),
    ("version", Type::Text),
    ("kind", Type::Text),
    ("patch", Type::Text),
]));

const NODE: Type = Type::Fields(&[
    ("role", Type::Any),
    ("image", Type::Any),
    ("labels", Type::MapOf(&Type::Text)),
    (
        "extraMounts",
        Type::ListOf(&Type::Fields(&[
            ("containerPath", Type::Text),
            ("hostPath", Type::Text),
            ("readOnly", Type::Flag),
            ("selinuxRelabel", Type::Flag),
            ("propagation", Type::Word(&["None", "HostToContainer", "Bidirectional"])),
        ])),
    ),
    (
        "extraPortMappings",
        Type::ListOf(&Type::Fields(&[
            ("containerPort", Type::Port),
            ("hostPort", Type::Port),
            ("listenAddress", Type::Text),
            ("protocol", Type::Word(&["TCP", "UDP", "SCTP"])),
        ])),
    ),
    ("kubeadmConfigPatches", TEXTS),
    ("kubeadmConfigPatchesJSON6902", JSON_PATCHES),
]);

const CLUSTER: Type = Type::Fields(&[
    ("kind", Type::Any),
    ("apiVersion", Type::Any),
    ("name", Type::Any),
    ("nodes", Type::ListOf(&NODE)),
    (
        "networking",
        Type::Fields(&[
            ("ipFamily", Type::Any),
            ("apiServerPort", Type::Port),
            ("apiServerAddress", Type::Text),
            ("podSubnet", Type::Any),
            ("serviceSubnet", Type::Any),
            ("disableDefaultCNI", Type::Any),
            ("kubeProxyMode", Type::Any),
            ("dnsSearch", TEXTS),
        ]),
    ),
    ("featureGates", Type::MapOf(&Type::Flag)),
    ("runtimeConfig", Type::MapOf(&Type::Text)),
    ("kubeadmConfigPatches", TEXTS),
    ("kubeadmConfigPatchesJSON6902", JSON_PATCHES),
    ("containerdConfigPatches", TEXTS),
    ("containerdConfigPatchesJSON6902", TEXTS),
]);

/// Adds the problems with the names and types of the fields of a kind configuration.
pub(super) fn problems(config: &Value, found: &mut Vec<Problem>) {
    check("", config, &CLUSTER, found);
}

fn check(path: &str, value: &Value, of: &Type, found: &mut Vec<Problem>) {
    let mut wrong = |what: String, fix: String| found.push(Problem { path: path.to_owned(), what, fix });
    match (of, value) {
        (Type::Any, _) | (Type::Text, Value::String(_)) | (Type::Flag, Value::Bool(_)) => {}
        (Type::Port, Value::Number(port)) if port.as_i64().is_some_and(|port| (-1..=65535).contains(&port)) => {}
        (Type::Word(words), Value::String(word)) if words.contains(&word.as_str()) => {}
        (Type::MapOf(of), Value::Object(fields)) => {
            fields.iter().for_each(|(name, value)| check(&within(path, name), value, of, found));
        }
        (Type::ListOf(of), Value::Array(items)) => {
            let item = |(index, item): (usize, &Value)| check(&format!("{path}[{index}]"), item, of, found);
            items.iter().enumerate().for_each(item);
        }
        (Type::Fields(known), Value::Object(fields)) => {
            for (name, value) in fields {
                let path = within(path, name);
                match known.iter().find(|(field, _)| field == name) {
                    Some((_, of)) => check(&path, value, of, found),
                    None => {
                        let names: Vec<&str> = known.iter().map(|(field, _)| *field).collect();
                        let what = format!("is no field of kind's v1alpha4{}", did_you_mean(name, &names));
                        found.push(Problem { path, what, fix: format!("valid here: {}", names.join(", ")) });
                    }
                }
            }
        }
        (Type::Text, _) => wrong("must be text".into(), "write the value in quotes".into()),
        (Type::Flag, _) => wrong("must be true or false".into(), "write true or false, without quotes".into()),
        (Type::Port, _) => wrong("must be a port".into(), "write a number such as 8080".into()),
        (Type::Word(words), _) => {
            wrong(format!("must be one of {}", words.join(", ")), format!("use one of {}", words.join(", ")));
        }
        (Type::ListOf(_), _) => wrong("must be a list".into(), "write one line - ITEM per item".into()),
        (Type::MapOf(_) | Type::Fields(_), _) => {
            wrong("must be a map".into(), "write field: value lines".into());
        }
    }
}

fn within(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(config: Value) -> Vec<String> {
        let mut found = Vec::new();
        problems(&config, &mut found);
        found.into_iter().map(|problem| format!("{} {}", problem.path, problem.what)).collect()
    }

    #[test]
    fn valid_configuration_has_no_problems() {
        let config = json!({
            "nodes": [{"role": "control-plane", "labels": {"a": "b"}, "kubeadmConfigPatches": ["kind: InitConfiguration"],
                "extraMounts": [{"hostPath": "/a", "containerPath": "/b", "readOnly": true, "propagation": "None"}],
                "extraPortMappings": [{"containerPort": 80, "hostPort": -1, "listenAddress": "127.0.0.1", "protocol": "TCP"}]}],
            "networking": {"apiServerPort": 6443, "apiServerAddress": "127.0.0.1", "dnsSearch": ["x"]},
            "featureGates": {"X": true}, "runtimeConfig": {"api/alpha": "false"},
            "kubeadmConfigPatchesJSON6902": [{"group": "kubeadm.k8s.io", "version": "v1beta4", "kind": "ClusterConfiguration",
                "patch": "[]"}],
            "containerdConfigPatches": ["a = 1"], "containerdConfigPatchesJSON6902": ["[]"],
        });
        assert_eq!(told(config), [""; 0]);
    }

    #[test]
    fn unknown_fields_and_wrong_types_have_a_path() {
        for (config, said) in [
            (json!({"nodez": []}), "nodez is no field of kind's v1alpha4, did you mean \"nodes\"?"),
            (json!({"kubeadmConfigPatches": "x"}), "kubeadmConfigPatches must be a list"),
            (
                json!({"nodes": [{"extraMount": []}]}),
                "nodes[0].extraMount is no field of kind's v1alpha4, did you mean \"extraMounts\"?",
            ),
            (json!({"nodes": [{"labels": {"a": 1}}]}), "nodes[0].labels.a must be text"),
            (
                json!({"nodes": [{"extraPortMappings": [{"hostPort": "80"}]}]}),
                "nodes[0].extraPortMappings[0].hostPort must be a port",
            ),
            (
                json!({"nodes": [{"extraPortMappings": [{"protocol": "tcp"}]}]}),
                "nodes[0].extraPortMappings[0].protocol must be one of TCP, UDP, SCTP",
            ),
            (json!({"featureGates": {"X": "yes"}}), "featureGates.X must be true or false"),
            (json!({"networking": {"apiServerPort": 70000}}), "networking.apiServerPort must be a port"),
            (json!({"runtimeConfig": null}), "runtimeConfig must be a map"),
        ] {
            assert_eq!(told(config), [said]);
        }
    }
}
