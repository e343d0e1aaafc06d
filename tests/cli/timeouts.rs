//! Commands that wait end at their timeout, and report which step was running.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use crate::engine::Engine;
use crate::sandbox::{KINDMESH, Sandbox};

/// Returns the output of a command that must end with exit status 1 soon after its timeout.
fn late(sandbox: &Sandbox, engine: &Engine, arguments: &str) -> String {
    let began = Instant::now();
    let mut command = sandbox.command();
    command.env("DOCKER_HOST", &engine.host).env("KINDMESH_EXE", KINDMESH);
    for (variable, tool) in [("KINDMESH_KIND", "kind"), ("KINDMESH_ISTIOCTL", "istioctl")] {
        command.env(variable, sandbox.root.join(tool));
    }
    let output = command.args(arguments.split_whitespace()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments}: {said}");
    assert!(began.elapsed() < Duration::from_secs(60), "{arguments} took {:?}: {said}", began.elapsed());
    said
}

#[test]
fn lab_commands_respect_their_timeouts() {
    let sandbox = Sandbox::with_environment();
    let engine = Engine::serve(&sandbox.root);
    sandbox.write("state/kindmesh/shop/labs/progress.json", "{}");
    // Another command holds the lock, and does not end.
    sandbox.write("state/kindmesh/shop/lock", "4711");
    let lock = std::fs::File::open(sandbox.root.join("state/kindmesh/shop/lock")).unwrap();
    lock.lock().unwrap();
    for (arguments, message) in [
        ("lab start 1 --name shop --timeout 10s", "error: exercise 1 is not set up after 10 s"),
        ("lab reset --name shop --timeout 10s", "error: the environment is not reset after 10 s"),
    ] {
        let said = late(&sandbox, &engine, arguments);
        assert!(said.contains(message), "{said}");
        assert!(
            said.contains("still running: lock (waiting for the other kindmesh command to finish: process 4711"),
            "{said}"
        );
        assert!(said.contains("--timeout allows more time"), "{said}");
    }
}

#[test]
fn warm_and_offline_respect_their_timeouts() {
    let sandbox = Sandbox::new();
    let engine = Engine::serve(&sandbox.root);
    for (tool, says) in [
        ("kind", "kind v0.33.0 go1.26.8 linux/amd64"),
        ("istioctl", r#"{"clientVersion": {"version": "1.31.1"}}"#),
    ] {
        // Its output is not a manifest, but all that this test needs.
        sandbox.write(tool, &format!("#!/bin/sh\necho '{says}'\n"));
        std::fs::set_permissions(sandbox.root.join(tool), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    for (arguments, message) in [
        ("cache warm --timeout 20s", "error: not finished after 20 s".to_owned()),
        ("offline save a.tar --timeout 20s", "error: a.tar is not complete after 20 s".to_owned()),
    ] {
        let said = late(&sandbox, &engine, arguments);
        assert!(said.contains(&message), "{said}");
        assert!(said.contains("still running: pull (waiting for the image: "), "{said}");
        assert!(said.contains("34 of 128 MB"), "{said}");
    }
    assert!(!sandbox.root.join("work/a.tar").exists());
}
