//! Commands on an existing environment.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use assert_cmd::Command;
use kindmesh::internals::spec;
use serde_json::Value;

use crate::sandbox::{KINDMESH, Sandbox, all, golden, stdout};

#[test]
fn existing_environment() {
    let commands = [
        "env --name shop",
        "env --name shop --output json",
        "kubeconfig --name shop",
        "kubeconfig --name shop --raw",
        "call --name shop --from west",
        "call --name shop --from north",
        "apply timeout retry --name shop",
        "apply timeout --to north --name shop",
        "unapply strict --from north --name shop",
        "apply strict --name shop",
    ];
    golden("environment", &all(&Sandbox::with_environment(), &commands));
}

#[test]
fn call_from_a_stopped_cluster_is_an_error() {
    let sandbox = Sandbox::with_environment();
    for arguments in [&["call", "--name", "shop"][..], &["call", "--name", "shop", "--output", "json"]] {
        let failed = sandbox.command().args(arguments).assert().code(1).stdout("");
        let said = String::from_utf8(failed.get_output().stderr.clone()).unwrap();
        assert!(said.starts_with("error: ") && said.contains("refused"), "{said}");
    }
}

/// `up` and `down` hold an exclusive lock, another `apply` a shared one.
#[test]
fn shared_lock_waits_only_for_an_exclusive_holder() {
    let sandbox = Sandbox::with_environment();
    let lock = File::create(sandbox.root.join("state/kindmesh/shop/lock")).unwrap();
    let me = std::process::id();
    std::fs::write(sandbox.root.join("state/kindmesh/shop/lock"), format!("{me}\n")).unwrap();
    for command in [&["apply", "retry"][..], &["unapply", "--all"], &["deploy", "--delete", "."], &["verify"]] {
        let begin = || {
            let mut process = std::process::Command::new(KINDMESH);
            process.args(command).args(["--name", "shop", "--verbose"]);
            process.env_clear().envs(sandbox.variables()).current_dir(sandbox.root.join("work"));
            process.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        };
        lock.lock().unwrap();
        let mut process = begin();
        let mut said = BufReader::new(process.stderr.take().unwrap());
        let (mut line, mut before) = (String::new(), String::new());
        let waits = format!("process {me} uses this environment");
        while !line.contains(&waits) {
            before.push_str(&std::mem::take(&mut line));
            assert_ne!(said.read_line(&mut line).unwrap(), 0, "{command:?} does not wait: {before}");
        }
        assert!(process.try_wait().unwrap().is_none());
        lock.unlock().unwrap();
        // Then it continues, and fails because the clusters do not exist.
        said.read_to_string(&mut line).unwrap();
        assert_eq!(process.wait().unwrap().code(), Some(1), "{line}");

        lock.lock_shared().unwrap();
        let mut process = begin();
        let mut said = String::new();
        process.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(process.wait().unwrap().code(), Some(1), "{said}");
        assert!(!said.contains("uses this environment"), "{command:?} waits: {said}");
        lock.unlock().unwrap();
    }
}

#[test]
fn environment_with_modified_files() {
    let sandbox = Sandbox::with_environment();
    let stored = sandbox.read("state/kindmesh/shop/kindmesh.yaml");
    std::fs::remove_file(sandbox.root.join("state/kindmesh/shop/kubeconfig")).unwrap();
    std::fs::remove_file(sandbox.root.join("state/kindmesh/shop/clusters/east/kubeconfig")).unwrap();
    let mut texts = all(&sandbox, &["kubeconfig --name shop", "call --name shop"]);
    sandbox.write("state/kindmesh/shop/kindmesh.yaml", &format!("{stored}fromTheFuture: 1\n"));
    texts.extend(all(&sandbox, &["env --name shop", "plan --offline --name shop"]));
    let off = spec::from_text("name: shop\nsamples: {enabled: false}\n", "x").unwrap();
    sandbox.write("state/kindmesh/shop/kindmesh.yaml", &spec::to_yaml(&off.spec).unwrap());
    texts.extend(all(&sandbox, &["call --name shop", "apply strict --name shop"]));
    golden("damaged_environment", &texts);
}

#[test]
fn shell_evaluates_the_variables() {
    let sandbox = Sandbox::with_environment();
    let odd = sandbox.root.join("it's \"$HOME\" here");
    std::fs::rename(sandbox.root.join("state"), &odd).unwrap();
    let variables = stdout(sandbox.command().env("XDG_STATE_HOME", &odd).args(["env", "--name", "shop"]));
    let script = format!("{variables}\nprintf '%s\\n' \"$KUBECONFIG\" \"$CTX_CLUSTER1\" \"$CTX_CLUSTER2\"");
    let said = stdout(Command::new("/bin/sh").args(["-c", &script]));
    let path = odd.join("kindmesh/shop/kubeconfig");
    assert_eq!(said, format!("{}\nkind-shop-east\nkind-shop-west\n", path.display()));
}

#[test]
fn shell_variables_select_the_environment() {
    let sandbox = Sandbox::with_environment();
    let name = |flags: &[&str]| {
        let mut command = sandbox.command();
        let json: Value = serde_json::from_str(&stdout(
            command
                .env("KINDMESH_ENVIRONMENT", "shop")
                .args(["plan", "--offline", "--output", "json"])
                .args(flags),
        ))
        .unwrap();
        json["environment"].as_str().unwrap().to_owned()
    };
    assert_eq!(name(&[]), "shop");
    assert_eq!(name(&["--name", "flag"]), "flag");
    sandbox.write("work/kindmesh.yaml", "name: file\n");
    assert_eq!(name(&[]), "file");
    let wrong = sandbox.command().env("KINDMESH_ENVIRONMENT", "No_Name").arg("env").output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn call_to_a_stopped_cluster_names_it_and_the_next_command() {
    let text = Sandbox::with_environment().run("call --name shop");
    assert!(text.contains("east") && text.contains("hint: "), "{text}");
}
