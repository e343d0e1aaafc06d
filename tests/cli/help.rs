//! Help, completions and the schema.

use std::collections::BTreeSet;

use kindmesh::internals::spec;
use serde_json::Value;

use crate::sandbox::{Sandbox, all, golden, stdout};

#[test]
fn help_and_version() {
    let commands = [
        "--help",
        "--version",
        "",
        "up --help",
        "apply -h",
        "unapply -h",
        "logs --help",
        "bundle --help",
        "verify -h",
    ];
    golden("help", &all(&Sandbox::new(), &commands));
}

#[test]
fn serve_is_hidden_from_help() {
    let help = stdout(Sandbox::new().command().arg("--help"));
    let lists = |command: &str| help.lines().any(|line| line.trim_start().starts_with(command));
    assert!(lists("schema ") && !lists("serve "), "{help}");
}

#[test]
fn the_schema_has_every_field_of_the_spec() {
    let schema: Value = serde_json::from_str(&stdout(Sandbox::new().command().arg("schema"))).unwrap();
    assert_eq!(schema, spec::schema());
    let default = serde_json::to_value(spec::Spec::default()).unwrap();
    let fields = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let mut expected = fields(&default);
    // Left out where it is not set, so that the stored spec of an environment of kind clusters stays as it is.
    expected.insert("trust".into());
    assert_eq!(fields(&schema["properties"]), expected);
}

#[test]
fn completions_for_common_shells() {
    for shell in ["bash", "zsh", "fish"] {
        let script = stdout(Sandbox::new().command().args(["completions", shell]));
        for word in ["kindmesh", "kubeconfig", "offline"] {
            assert!(script.contains(word), "{shell} without {word}");
        }
    }
}
