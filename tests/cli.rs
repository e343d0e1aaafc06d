//! The command as a person runs it: what it says, where it says it, and its exit status. No engine is touched.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use assert_cmd::Command;
use kindmesh::spec;
use serde_json::Value;
use tempfile::TempDir;

const KINDMESH: &str = env!("CARGO_BIN_EXE_kindmesh");
/// What stands in for an engine: nothing.
const NO_ENGINE: &str = "unix:///nonexistent.sock";
/// A hang is a failure, too.
const ENDS_WITHIN: Duration = Duration::from_secs(120);

/// A user's own kubeconfig: with fields that only some have, and a cluster of the environment from before.
const OWN: &str = "
apiVersion: v1
kind: Config
current-context: work
preferences: {colors: true}
clusters:
- {name: work, cluster: {server: \"https://work.example\", proxy-url: \"http://proxy.example\", tls-server-name: api}}
- {name: kind-shop-east, cluster: {server: \"https://127.0.0.1:9\"}}
users:
- name: work
  user:
    exec:
      apiVersion: client.authentication.k8s.io/v1
      command: aws
      args: [eks, get-token]
      env: [{name: AWS_PROFILE, value: work}]
      installHint: install aws
      interactiveMode: IfAvailable
      provideClusterInfo: true
contexts:
- {name: work, context: {cluster: work, user: work, namespace: team}}
";

/// A home, a working directory and nothing else.
struct Desk {
    _folder: TempDir,
    root: PathBuf,
}

impl Desk {
    fn new() -> Self {
        Self::with(&[])
    }

    /// With files in the working directory.
    fn with(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for name in ["home", "work"] {
            std::fs::create_dir(root.join(name)).unwrap();
        }
        // What a sample image would be made from: always the same, so that its digest is.
        std::fs::write(root.join("executable"), "kindmesh").unwrap();
        let desk = Self { _folder: folder, root };
        for (name, text) in files {
            desk.write(&format!("work/{name}"), text);
        }
        desk
    }

    /// With an environment that was made here, of two clusters whose API servers are gone.
    fn with_environment() -> Self {
        let desk = Self::new();
        let loaded = spec::from_text("name: shop\nclusters: [{name: east}, {name: west}]\n", "x").unwrap();
        desk.write("state/kindmesh/shop/kindmesh.yaml", &spec::to_yaml(&loaded.spec).unwrap());
        desk.write("state/kindmesh/shop/kubeconfig", &kubeconfig(&["kind-shop-east", "kind-shop-west"]));
        for cluster in ["east", "west"] {
            let name = format!("kind-shop-{cluster}");
            desk.write(&format!("state/kindmesh/shop/clusters/{cluster}/kubeconfig"), &kubeconfig(&[&name]));
        }
        desk
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.root.join(path)).unwrap()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(KINDMESH);
        command
            .env_clear()
            .current_dir(self.root.join("work"))
            .timeout(ENDS_WITHIN)
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.root.join("home"))
            .env("XDG_STATE_HOME", self.root.join("state"))
            .env("XDG_CACHE_HOME", self.root.join("cache"))
            .env("XDG_CONFIG_HOME", self.root.join("config"))
            .env("DOCKER_HOST", NO_ENGINE)
            .env("KINDMESH_EXE", self.root.join("executable"))
            .env("LANG", "C.UTF-8")
            .env("TERM", "xterm")
            .env("COLUMNS", "100");
        command
    }

    /// Runs `kindmesh` with arguments and shows all that comes of it.
    fn run(&self, arguments: &str) -> String {
        self.run_with(&[], arguments)
    }

    /// As [`Desk::run`], with environment variables; an empty value unsets one.
    fn run_with(&self, variables: &[(&str, &str)], arguments: &str) -> String {
        let mut command = self.command();
        let mut shown = String::from("$ ");
        for (name, value) in variables {
            match *value {
                "" => command.env_remove(name),
                value => command.env(name, value),
            };
            shown += &format!("{name}={value} ");
        }
        let output = command.args(arguments.split_whitespace()).output().unwrap();
        shown += format!("kindmesh {arguments}").trim_end();
        let status = output.status.code().map_or("none: it was ended".to_owned(), |code| code.to_string());
        shown += &format!("\nexit status: {status}\n");
        for (name, bytes) in [("stdout", output.stdout), ("stderr", output.stderr)] {
            let text = String::from_utf8(bytes).unwrap();
            assert!(!text.contains('\x1b'), "colours without a terminal: {text:?}");
            if !text.is_empty() {
                assert!(text.ends_with('\n'), "the last line of {name} does not end: {text:?}");
                shown += &format!("--- {name}\n{text}");
            }
        }
        self.redacted(&shown)
    }

    /// Without what differs between machines, versions and moments.
    fn redacted(&self, text: &str) -> String {
        let version = env!("CARGO_PKG_VERSION");
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let os = if cfg!(target_os = "macos") { "darwin" } else { std::env::consts::OS };
        let text = text
            .replace(self.root.to_str().unwrap(), "[desk]")
            .replace(&format!("kindmesh {version}"), "kindmesh [version]")
            .replace(&format!("kindmesh.version: {version}"), "kindmesh.version: [version]")
            .replace(&format!("\"kindmesh.version\": \"{version}\""), "\"kindmesh.version\": \"[version]\"")
            .replace(&format!("{os}/{architecture}"), "[platform]")
            .replace("sudo systemctl start docker", "[start docker]")
            .replace("open -a Docker", "[start docker]");
        text.split_inclusive('\n').map(|line| without_error_number(&without_time(line))).collect()
    }
}

/// An event without its time, which must be one.
fn without_time(line: &str) -> String {
    let Some((time, rest)) = line.strip_prefix("{\"time\":\"").and_then(|rest| rest.split_once('"')) else {
        return line.to_owned();
    };
    time.parse::<jiff::Timestamp>().unwrap_or_else(|error| panic!("{time}: {error}"));
    format!("{{\"time\":\"[time]\"{rest}")
}

/// A message of the operating system without its number, which differs between systems.
fn without_error_number(line: &str) -> String {
    match line.split_once(" (os error ") {
        Some((before, after)) => {
            format!("{before}{}", after.trim_start_matches(|c: char| c.is_ascii_digit()).replacen(')', "", 1))
        }
        None => line.to_owned(),
    }
}

/// A kubeconfig as kind writes it, for API servers that nobody runs: port 1 is refused.
fn kubeconfig(names: &[&str]) -> String {
    let all = |item: &dyn Fn(&str) -> String| names.iter().map(|name| item(name)).collect::<String>();
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: {}\nclusters:\n{}users:\n{}contexts:\n{}",
        names[0],
        all(&|name| format!("- {{name: {name}, cluster: {{server: \"https://127.0.0.1:1\"}}}}\n")),
        all(&|name| format!("- {{name: {name}, user: {{token: secret-of-{name}}}}}\n")),
        all(&|name| format!("- {{name: {name}, context: {{cluster: {name}, user: {name}}}}}\n")),
    )
}

fn golden(name: &str, texts: &[String]) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/cli");
    insta::with_settings!({snapshot_path => path, prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!(name, texts.join("\n"));
    });
}

fn all(desk: &Desk, commands: &[&str]) -> Vec<String> {
    commands.iter().map(|arguments| desk.run(arguments)).collect()
}

fn stdout(command: &mut Command) -> String {
    String::from_utf8(command.assert().success().stderr("").get_output().stdout.clone()).unwrap()
}

#[test]
fn help_and_version() {
    golden("help", &all(&Desk::new(), &["--help", "--version", "", "up --help", "apply -h", "unapply -h"]));
}

#[test]
fn what_the_sample_image_runs_is_not_in_the_help() {
    let help = stdout(Desk::new().command().arg("--help"));
    let lists = |command: &str| help.lines().any(|line| line.trim_start().starts_with(command));
    assert!(lists("schema ") && !lists("serve "), "{help}");
}

#[test]
fn wrong_arguments() {
    let commands = [
        "frobnicate",
        "stauts",
        "up --timeuot 90s",
        "up --timeout soon",
        "up --timeout 0s",
        "status --name Foo_Bar",
        "call --status 99",
        "call --count 0",
        "list -q -v",
        "down --all --name shop",
        "kubeconfig --raw --merge",
        "list --output xml",
        "list --output yaml",
        "completions tcsh",
        "render",
        "apply",
        "apply stirct",
        "apply strict --list",
        "apply --list --to east",
        "unapply",
        "unapply strict --all",
        "unapply --list",
    ];
    golden("wrong_arguments", &all(&Desk::new(), &commands));
}

#[test]
fn a_plan_without_an_engine() {
    let desk = Desk::new();
    let commands = ["plan --offline", "plan --offline --output json", "plan --offline --output yaml"];
    golden("plan", &all(&desk, &commands));
    let json: Value = serde_json::from_str(&stdout(desk.command().args(commands[1].split(' ')))).unwrap();
    let yaml: Value = serde_yaml::from_str(&stdout(desk.command().args(commands[2].split(' ')))).unwrap();
    assert_eq!(json, yaml);
}

#[test]
fn a_plan_is_the_same_every_time() {
    let desk = Desk::new();
    for format in ["human", "json", "yaml"] {
        let plan = || stdout(desk.command().args(["plan", "--offline", "--output", format]));
        assert_eq!(plan(), plan(), "{format}");
    }
}

#[test]
fn a_plan_of_an_environment_that_was_made_is_of_its_stored_spec() {
    let desk = Desk::with_environment();
    let plan = stdout(desk.command().args(["plan", "--offline", "--name", "shop"]));
    assert!(plan.contains("kind-shop-east"), "{plan}");
}

#[test]
fn a_plan_needs_the_executable_that_is_named() {
    let desk = Desk::new();
    golden("no_executable", &[desk.run_with(&[("KINDMESH_EXE", "/nonexistent/kindmesh")], "plan --offline")]);
}

#[test]
fn a_wrong_spec_is_told_with_its_place() {
    let desk = Desk::with(&[
        ("unknown.yaml", "name: shop\nsamples:\n  produecr:\n    replicas: 3\n"),
        ("syntax.yaml", "name: shop\nclusters: [{name: east}\n"),
        ("one.yaml", "clusters: [{name: east}]\n"),
        ("ipv6.yaml", "network:\n  subnet: fd00:1::/64\n"),
        ("public.yaml", "network: {subnet: 8.8.8.0/24}\n"),
        ("many.yaml", "topology: multi-network\nmesh: {version: 1.12.0, hub: \"\"}\n"),
    ]);
    let commands = [
        "plan --offline -f unknown.yaml",
        "plan --offline -f syntax.yaml",
        "plan --offline -f one.yaml",
        "plan --offline -f ipv6.yaml",
        "plan --offline -f public.yaml",
        "plan --offline -f many.yaml",
        "plan --offline -f missing.yaml",
        "plan --offline -f one.yaml --output json",
        "up -f unknown.yaml",
        "up -f unknown.yaml --output json",
        "status -f syntax.yaml",
    ];
    let mut texts = all(&desk, &commands);
    texts.push(desk.run_with(&[("KINDMESH_FILE", "one.yaml:gone.yaml")], "plan --offline"));
    golden("wrong_specs", &texts);
}

#[test]
fn later_files_win() {
    let file = |name: &str, more: &str| format!("name: {name}\n{more}");
    let desk = Desk::with(&[
        ("kindmesh.yaml", &file("default", "mesh: {version: 1.30.4, hub: default.example/istio}\n")),
        ("first.yaml", &file("first", "clusters: [{name: east}, {name: west}]\n")),
        ("second.yaml", &file("second", "mesh: {hub: second.example/istio}\n")),
        ("third.yaml", &file("third", "samples: {namespace: third}\n")),
        ("fourth.yaml", &file("fourth", "samples: {producer: {replicas: 4}}\n")),
    ]);
    let name = |variable: &str, flags: &str| {
        let mut command = desk.command();
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
    golden("merged", &[desk.run_with(&variable, "plan --offline -f third.yaml -f fourth.yaml")]);
}

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
        "resume --name shop",
        "start",
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
        "pause",
        "stop --output json",
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

#[test]
fn the_schema_has_every_field_of_the_spec() {
    let schema: Value = serde_json::from_str(&stdout(Desk::new().command().arg("schema"))).unwrap();
    assert_eq!(schema, spec::schema());
    let default = serde_json::to_value(spec::Spec::default()).unwrap();
    let fields = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(fields(&schema["properties"]), fields(&default));
}

#[test]
fn completions_for_common_shells() {
    for shell in ["bash", "zsh", "fish"] {
        let script = stdout(Desk::new().command().args(["completions", shell]));
        for word in ["kindmesh", "kubeconfig", "offline"] {
            assert!(script.contains(word), "{shell} without {word}");
        }
    }
}

#[test]
fn an_environment_that_was_made() {
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
    golden("environment", &all(&Desk::with_environment(), &commands));
}

#[test]
fn a_call_whose_cluster_is_gone_is_an_error_and_no_answer() {
    let desk = Desk::with_environment();
    for arguments in [&["call", "--name", "shop"][..], &["call", "--name", "shop", "--output", "json"]] {
        let failed = desk.command().args(arguments).assert().code(1).stdout("");
        let said = String::from_utf8(failed.get_output().stderr.clone()).unwrap();
        assert!(said.starts_with("error: ") && said.contains("refused"), "{said}");
    }
}

#[test]
fn an_environment_whose_files_are_not_as_left() {
    let desk = Desk::with_environment();
    let stored = desk.read("state/kindmesh/shop/kindmesh.yaml");
    std::fs::remove_file(desk.root.join("state/kindmesh/shop/kubeconfig")).unwrap();
    std::fs::remove_file(desk.root.join("state/kindmesh/shop/clusters/east/kubeconfig")).unwrap();
    let mut texts = all(&desk, &["kubeconfig --name shop", "call --name shop"]);
    desk.write("state/kindmesh/shop/kindmesh.yaml", &format!("{stored}fromTheFuture: 1\n"));
    texts.extend(all(&desk, &["env --name shop", "plan --offline --name shop"]));
    let off = spec::from_text("name: shop\nsamples: {enabled: false}\n", "x").unwrap();
    desk.write("state/kindmesh/shop/kindmesh.yaml", &spec::to_yaml(&off.spec).unwrap());
    texts.extend(all(&desk, &["call --name shop", "apply strict --name shop"]));
    golden("damaged_environment", &texts);
}

#[test]
fn a_shell_takes_the_variables_as_they_are() {
    let desk = Desk::with_environment();
    let odd = desk.root.join("it's \"$HOME\" here");
    std::fs::rename(desk.root.join("state"), &odd).unwrap();
    let variables = stdout(desk.command().env("XDG_STATE_HOME", &odd).args(["env", "--name", "shop"]));
    let script = format!("{variables}\nprintf '%s\\n' \"$KUBECONFIG\" \"$CTX_CLUSTER1\" \"$CTX_CLUSTER2\"");
    let said = stdout(Command::new("/bin/sh").args(["-c", &script]));
    let path = odd.join("kindmesh/shop/kubeconfig");
    assert_eq!(said, format!("{}\nkind-shop-east\nkind-shop-west\n", path.display()));
}

#[test]
fn a_shell_with_the_variables_of_an_environment_works_on_it() {
    let desk = Desk::with_environment();
    let name = |flags: &[&str]| {
        let mut command = desk.command();
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
    desk.write("work/kindmesh.yaml", "name: file\n");
    assert_eq!(name(&[]), "file");
    let wrong = desk.command().env("KINDMESH_ENVIRONMENT", "No_Name").arg("env").output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn merging_keeps_the_users_own() {
    let desk = Desk::with_environment();
    // As a value: within maps the order of a kubeconfig's fields means nothing.
    let merged = |path: &str| serde_yaml::from_str::<Value>(&desk.read(path)).unwrap();
    let shown =
        |title: &str| format!("# {title}\n{}", serde_yaml::to_string(&merged("home/.kube/config")).unwrap());
    let mut texts = vec![desk.run("kubeconfig --name shop --merge"), shown("the user had none")];
    let alone = merged("home/.kube/config");
    desk.write("home/.kube/config", "");
    desk.run("kubeconfig --name shop --merge");
    assert_eq!(merged("home/.kube/config"), alone, "into an empty file");

    desk.write("home/.kube/config", OWN);
    texts.push(desk.run("kubeconfig --name shop --merge --quiet"));
    texts.push(shown("the user had one"));
    golden("merge", &texts);
    let both = merged("home/.kube/config");
    desk.run("kubeconfig --name shop --merge");
    assert_eq!(merged("home/.kube/config"), both, "merged again");

    let first = desk.root.join("mine").display().to_string();
    let listed = format!("{first}:/nonexistent/second");
    let said = stdout(desk.command().env("KUBECONFIG", listed).args(["kubeconfig", "--merge", "--name", "shop"]));
    assert_eq!(said.trim_end(), first);
    assert_eq!(merged("mine"), alone);
    assert_eq!(merged("home/.kube/config"), both, "another file was to be changed");
}

#[test]
fn merging_waits_for_nobody() {
    let desk = Desk::with_environment();
    desk.write("home/.kube/config.lock", "");
    golden("merge_locked", &[desk.run("kubeconfig --name shop --merge")]);
    assert!(!desk.root.join("home/.kube/config").exists());
}

#[test]
fn colours_only_where_they_are_asked_for() {
    let desk = Desk::new();
    let coloured = |arguments: &[&str], variable: &str| {
        let output = desk.command().env(variable, "1").args(arguments).output().unwrap();
        String::from_utf8(output.stderr).unwrap().contains('\x1b')
    };
    assert!(coloured(&["list", "--color", "always"], "X"));
    assert!(coloured(&["list"], "CLICOLOR_FORCE"));
    assert!(!coloured(&["list"], "X"));
    assert!(!coloured(&["list", "--color", "never"], "CLICOLOR_FORCE"));
}

#[test]
fn a_call_whose_cluster_is_gone_names_it_and_the_next_command() {
    let text = Desk::with_environment().run("call --name shop");
    assert!(text.contains("east") && text.contains("hint: "), "{text}");
}

#[test]
fn no_time_is_too_long() {
    for time in ["18446744073709551615s", "999999999999999999h"] {
        let output = Desk::new().command().args(["up", "--timeout", time]).output().unwrap();
        assert_ne!(output.status.code(), Some(101), "{time}");
    }
}

#[test]
fn completions_into_a_closed_pipe_are_no_panic() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status =
        std::process::Command::new(KINDMESH).args(["completions", "bash"]).stdout(writer).status().unwrap();
    assert_ne!(status.code(), Some(101));
}

#[test]
fn merging_writes_through_a_symbolic_link() {
    let desk = Desk::with_environment();
    desk.write("dotfiles/config", OWN);
    std::fs::create_dir(desk.root.join("home/.kube")).unwrap();
    let link = desk.root.join("home/.kube/config");
    std::os::unix::fs::symlink(desk.root.join("dotfiles/config"), &link).unwrap();
    desk.run("kubeconfig --name shop --merge");
    assert!(link.is_symlink());
    assert!(desk.read("dotfiles/config").contains("kind-shop-west"));
}

#[test]
fn a_wrong_spec_is_told_before_an_engine_is_asked() {
    let desk = Desk::with(&[("one.yaml", "clusters: [{name: east}]\n")]);
    for arguments in ["up -f one.yaml", "plan -f one.yaml", "render out -f one.yaml", "down -f missing.yaml"] {
        let text = desk.run(arguments);
        assert!(text.contains("exit status: 2"), "{text}");
    }
}
