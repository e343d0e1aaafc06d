//! No engine, one that cannot be used, no home.

use crate::desk::{Desk, all, golden};

#[test]
fn without_an_environment_the_way_to_one_is_said() {
    let commands = [
        "call",
        "env",
        "kubeconfig",
        "kubeconfig --merge",
        "apply --list",
        "unapply --all --name shop",
        "call --name shop",
        "env --output json",
        "call --output json",
    ];
    golden("no_environment", &all(&Desk::new(), &commands));
}

#[test]
fn without_an_engine_the_cure_is_said_and_nothing_made() {
    let desk = Desk::new();
    let commands = [
        "up",
        "up --output json",
        "up --quiet",
        "up --verbose",
        "down",
        "down --output json",
        "down --all",
        "list",
        "list --output json",
        "status",
        "status --output json",
        "plan",
        "render out",
    ];
    golden("no_engine", &all(&desk, &commands));
    for folder in ["state", "cache", "config", "work/out", "home/.kube"] {
        assert!(!desk.root.join(folder).exists(), "{folder}");
    }
}

#[test]
fn an_engine_that_cannot_be_used_is_named() {
    let desk = Desk::new();
    desk.write("other/config.json", "{\"currentContext\": \"colima\"}");
    let configuration = desk.root.join("other").display().to_string();
    golden(
        "wrong_engines",
        &[
            desk.run_with(&[("DOCKER_HOST", ""), ("DOCKER_CONTEXT", "gone")], "list"),
            desk.run_with(&[("DOCKER_HOST", ""), ("DOCKER_CONFIG", &configuration)], "list"),
            desk.run_with(&[("DOCKER_HOST", "ssh://me@far.example")], "list"),
            desk.run_with(&[("DOCKER_HOST", "/var/run/docker.sock")], "list"),
            desk.run_with(&[("DOCKER_HOST", "tcp://127.0.0.1:1")], "list"),
        ],
    );
}

#[test]
fn without_a_home_there_is_no_place_for_files() {
    let unset = [("HOME", ""), ("XDG_STATE_HOME", ""), ("XDG_CACHE_HOME", "")];
    golden("no_home", &[Desk::new().run_with(&unset, "env")]);
}
