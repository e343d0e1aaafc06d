//! No engine, an unusable engine, no home directory.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::sandbox::{KINDMESH, Sandbox, all, golden};

#[test]
fn without_an_environment_the_next_command_is_printed() {
    let commands = [
        "call",
        "env",
        "kubeconfig",
        "kubeconfig --merge",
        "apply --list",
        "unapply --all --name shop",
        "call --name shop",
        "logs",
        "bundle",
        "resume --name shop",
        "start",
        "env --output json",
        "call --output json",
    ];
    golden("no_environment", &all(&Sandbox::new(), &commands));
}

#[test]
fn without_an_engine_the_fix_is_printed_and_nothing_created() {
    let sandbox = Sandbox::new();
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
        "pause",
        "stop --output json",
        "status",
        "status --output json",
        "plan",
        "render out",
    ];
    golden("no_engine", &all(&sandbox, &commands));
    for folder in ["state", "cache", "config", "work/out", "home/.kube"] {
        assert!(!sandbox.root.join(folder).exists(), "{folder}");
    }
}

#[test]
fn unusable_engine_is_named() {
    let sandbox = Sandbox::new();
    sandbox.write("other/config.json", "{\"currentContext\": \"colima\"}");
    let configuration = sandbox.root.join("other").display().to_string();
    golden(
        "wrong_engines",
        &[
            sandbox.run_with(&[("DOCKER_HOST", ""), ("DOCKER_CONTEXT", "gone")], "list"),
            sandbox.run_with(&[("DOCKER_HOST", ""), ("DOCKER_CONFIG", &configuration)], "list"),
            sandbox.run_with(&[("DOCKER_HOST", "ssh://me@far.example")], "list"),
            sandbox.run_with(&[("DOCKER_HOST", "/var/run/docker.sock")], "list"),
            sandbox.run_with(&[("DOCKER_HOST", "tcp://127.0.0.1:1")], "list"),
        ],
    );
}

#[test]
fn without_home_there_are_no_directories() {
    let unset = [("HOME", ""), ("XDG_STATE_HOME", ""), ("XDG_CACHE_HOME", "")];
    golden("no_home", &[Sandbox::new().run_with(&unset, "env")]);
}

#[test]
fn commands_without_files_work_without_home() {
    let sandbox = Sandbox::new();
    for command in ["schema", "completions bash", "--version"] {
        let mut without = sandbox.command();
        without.env_remove("HOME").env_remove("XDG_STATE_HOME").env_remove("XDG_CACHE_HOME");
        without.args(command.split(' ')).assert().success();
    }
}

#[test]
fn any_locale_will_do() {
    let sandbox = Sandbox::new();
    for locale in ["C", "POSIX", "tr_TR.UTF-8", "ja_JP.eucJP", "xx_YY.nonsense", "\u{1F980}", ""] {
        let mut command = sandbox.command();
        command.env("LC_ALL", locale).env("LANG", locale).env("LANGUAGE", locale);
        command.args(["plan", "--offline"]).assert().success();
    }
}

#[test]
fn non_utf8_variables_do_not_panic() {
    let sandbox = Sandbox::new();
    let broken = OsStr::from_bytes(b"\xff\xfe");
    for name in ["BROKEN", "DOCKER_CONFIG", "DOCKER_CONTEXT", "TERM", "LANG", "NO_COLOR", "HOME", "KINDMESH_EXE"] {
        let output = sandbox.command().env(name, broken).arg("list").output().unwrap();
        assert_eq!(output.status.code(), Some(4), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
    for (name, arguments) in [("KINDMESH_ENVIRONMENT", "plan"), ("KINDMESH_FILE", "plan")] {
        let output = sandbox.command().env(name, broken).args([arguments, "--offline"]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
    for arguments in [&[OsStr::new("up"), OsStr::new("--name"), broken][..], &[broken]] {
        let output = sandbox.command().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn deleted_working_directory_is_reported() {
    let sandbox = Sandbox::new();
    let script = "mkdir gone && cd gone && rmdir ../gone && \"$KINDMESH\" plan --offline";
    let output = sandbox.command_of("sh").env("KINDMESH", KINDMESH).args(["-c", script]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the working directory cannot be used") && said.contains("hint: "), "{said}");
}
