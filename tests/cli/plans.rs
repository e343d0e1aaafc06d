//! What `plan` prints, and which files it reads.

use serde_json::Value;

use crate::sandbox::{Sandbox, all, golden, stdout};

#[test]
fn a_plan_without_an_engine() {
    let sandbox = Sandbox::new();
    let commands = ["plan --offline", "plan --offline --output json", "plan --offline --output yaml"];
    golden("plan", &all(&sandbox, &commands));
    let json: Value = serde_json::from_str(&stdout(sandbox.command().args(commands[1].split(' ')))).unwrap();
    let yaml: Value = serde_yaml::from_str(&stdout(sandbox.command().args(commands[2].split(' ')))).unwrap();
    assert_eq!(json, yaml);
}

#[test]
fn a_plan_names_the_istiod_of_each_cluster() {
    let spec = "clusters: [{name: one}, {name: two, region: r2, zone: z2, mesh: {controlPlane: remote}}]\n";
    let sandbox = Sandbox::with(&[("kindmesh.yaml", spec)]);
    let plan = stdout(sandbox.command().args(["plan", "--offline"]));
    let column = |cluster: &str| {
        let row = plan.lines().find(|line| line.starts_with(&format!("{cluster} ")));
        row.and_then(|row| row.split("  ").last()).map(|cell| cell.trim().to_owned())
    };
    assert_eq!(column("one").as_deref(), Some("own"));
    assert!(column("two").is_some_and(|cell| cell.starts_with("one, 172.")), "{plan}");
}

#[test]
fn a_plan_is_the_same_every_time() {
    let sandbox = Sandbox::new();
    for format in ["human", "json", "yaml"] {
        let plan = || stdout(sandbox.command().args(["plan", "--offline", "--output", format]));
        assert_eq!(plan(), plan(), "{format}");
    }
}

#[test]
fn plan_of_an_existing_environment_uses_its_stored_spec() {
    let sandbox = Sandbox::with_environment();
    let plan = stdout(sandbox.command().args(["plan", "--offline", "--name", "shop"]));
    assert!(plan.contains("kind-shop-east"), "{plan}");
}

#[test]
fn plan_requires_the_named_executable() {
    let sandbox = Sandbox::new();
    golden("no_executable", &[sandbox.run_with(&[("KINDMESH_EXE", "/nonexistent/kindmesh")], "plan --offline")]);
}

#[test]
fn later_files_win() {
    let file = |name: &str, more: &str| format!("name: {name}\n{more}");
    let sandbox = Sandbox::with(&[
        ("kindmesh.yaml", &file("default", "mesh: {version: 1.30.4, hub: default.example/istio}\n")),
        ("first.yaml", &file("first", "clusters: [{name: east}, {name: west}]\n")),
        ("second.yaml", &file("second", "mesh: {hub: second.example/istio}\n")),
        ("third.yaml", &file("third", "samples: {namespace: third}\n")),
        ("fourth.yaml", &file("fourth", "samples: {producer: {replicas: 4}}\n")),
    ]);
    let name = |variable: &str, flags: &str| {
        let mut command = sandbox.command();
        command.env("KINDMESH_FILE", variable).args(["plan", "--offline", "--output", "json"]);
        let plan: Value = serde_json::from_str(&stdout(command.args(flags.split_whitespace()))).unwrap();
        plan["environment"].as_str().unwrap().to_owned()
    };
    assert_eq!(name("", ""), "default");
    assert_eq!(name("first.yaml", ""), "first");
    assert_eq!(name("first.yaml:second.yaml", ""), "second");
    assert_eq!(name("first.yaml:second.yaml", "-f third.yaml"), "third");
    assert_eq!(name("first.yaml:second.yaml", "-f third.yaml --file fourth.yaml"), "fourth");
    assert_eq!(name("second.yaml", "-f first.yaml"), "first");
    assert_eq!(name("first.yaml", "--name flag -f third.yaml"), "flag");
    let variable = [("KINDMESH_FILE", "first.yaml:second.yaml")];
    golden("merged", &[sandbox.run_with(&variable, "plan --offline -f third.yaml -f fourth.yaml")]);
}
