//! Runs `kindmesh` with its own home and working directory.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use assert_cmd::Command;
use kindmesh::internals::spec;
use tempfile::TempDir;

pub const KINDMESH: &str = env!("CARGO_BIN_EXE_kindmesh");
/// The address of an engine that does not exist.
const NO_ENGINE: &str = "unix:///nonexistent.sock";
/// A command that takes longer hangs, which is a failure.
pub const EXIT_TIMEOUT: Duration = Duration::from_secs(120);

/// A user's kubeconfig, with rarely used fields and an unknown one.
pub const OWN: &str = "
apiVersion: v1
kind: Config
current-context: work
preferences: {colors: true}
fromTheFuture: {of: [kubectl]}
clusters:
- {name: work, cluster: {server: \"https://work.example\", proxy-url: \"http://proxy.example\", tls-server-name: api}}
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

/// A home directory and a working directory, and nothing else.
pub struct Sandbox {
    _folder: TempDir,
    pub root: PathBuf,
}

impl Sandbox {
    pub fn new() -> Self {
        Self::with(&[])
    }

    /// Creates a sandbox with files in the working directory.
    pub fn with(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for name in ["home", "work"] {
            std::fs::create_dir(root.join(name)).unwrap();
        }
        // The content of a sample image: fixed, so that its digest does not change.
        std::fs::write(root.join("executable"), "kindmesh").unwrap();
        let sandbox = Self { _folder: folder, root };
        for (name, text) in files {
            sandbox.write(&format!("work/{name}"), text);
        }
        sandbox
    }

    /// Creates a sandbox with an environment of two clusters whose API servers do not respond.
    pub fn with_environment() -> Self {
        let sandbox = Self::new();
        let loaded = spec::from_text("name: shop\nclusters: [{name: east}, {name: west}]\n", "x").unwrap();
        sandbox.write("state/kindmesh/shop/kindmesh.yaml", &spec::to_yaml(&loaded.spec).unwrap());
        sandbox.write("state/kindmesh/shop/kubeconfig", &kubeconfig(&["kind-shop-east", "kind-shop-west"]));
        for cluster in ["east", "west"] {
            let name = format!("kind-shop-{cluster}");
            sandbox.write(&format!("state/kindmesh/shop/clusters/{cluster}/kubeconfig"), &kubeconfig(&[&name]));
        }
        sandbox
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.root.join(path)).unwrap()
    }

    pub fn command(&self) -> Command {
        self.command_of(KINDMESH)
    }

    /// Returns another program in the same surroundings.
    pub fn command_of(&self, program: &str) -> Command {
        let mut command = Command::from_std(self.process_of(program));
        command.timeout(EXIT_TIMEOUT);
        command
    }

    /// Like [`Sandbox::command_of`], for a test that sets the streams.
    pub fn process_of(&self, program: &str) -> std::process::Command {
        let mut command = std::process::Command::new(program);
        command.env_clear().current_dir(self.root.join("work")).envs(self.variables());
        command
    }

    /// Returns all environment variables of a command in the sandbox.
    pub fn variables(&self) -> Vec<(&'static str, OsString)> {
        let folder = |name: &str| self.root.join(name).into_os_string();
        vec![
            ("PATH", "/usr/bin:/bin".into()),
            ("HOME", folder("home")),
            ("XDG_STATE_HOME", folder("state")),
            ("XDG_CACHE_HOME", folder("cache")),
            ("XDG_CONFIG_HOME", folder("config")),
            ("DOCKER_HOST", NO_ENGINE.into()),
            ("KINDMESH_EXE", folder("executable")),
            ("LANG", "C.UTF-8".into()),
            ("TERM", "xterm".into()),
            ("COLUMNS", "100".into()),
        ]
    }

    /// Runs `kindmesh` with arguments, and returns its exit status and output.
    pub fn run(&self, arguments: &str) -> String {
        self.run_with(&[], arguments)
    }

    /// Like [`Sandbox::run`], with environment variables; an empty value unsets one.
    pub fn run_with(&self, variables: &[(&str, &str)], arguments: &str) -> String {
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
        let status = output.status.code().map_or("none: killed".to_owned(), |code| code.to_string());
        shown += &format!("\nexit status: {status}\n");
        for (name, bytes) in [("stdout", output.stdout), ("stderr", output.stderr)] {
            let text = String::from_utf8(bytes).unwrap();
            assert!(!text.contains('\x1b'), "colors without a terminal: {text:?}");
            if !text.is_empty() {
                assert!(text.ends_with('\n'), "the last line of {name} has no newline: {text:?}");
                shown += &format!("--- {name}\n{text}");
            }
        }
        self.redacted(&shown)
    }

    /// Replaces everything that differs between hosts, versions and runs.
    fn redacted(&self, text: &str) -> String {
        let version = env!("CARGO_PKG_VERSION");
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let os = if cfg!(target_os = "macos") { "darwin" } else { std::env::consts::OS };
        let text = text
            .replace(self.root.to_str().unwrap(), "[sandbox]")
            .replace(&format!("kindmesh {version}"), "kindmesh [version]")
            .replace(&format!("kindmesh.version: {version}"), "kindmesh.version: [version]")
            .replace(&format!("\"kindmesh.version\": \"{version}\""), "\"kindmesh.version\": \"[version]\"")
            .replace(&format!("{os}/{architecture}"), "[platform]")
            .replace("sudo systemctl start docker", "[start docker]")
            .replace("open -a Docker", "[start docker]");
        text.split_inclusive('\n').map(|line| without_error_number(&without_time(line))).collect()
    }
}

/// Replaces the time of an event, which must be valid.
fn without_time(line: &str) -> String {
    let Some((time, rest)) = line.strip_prefix("{\"time\":\"").and_then(|rest| rest.split_once('"')) else {
        return line.to_owned();
    };
    time.parse::<jiff::Timestamp>().unwrap_or_else(|error| panic!("{time}: {error}"));
    format!("{{\"time\":\"[time]\"{rest}")
}

/// Removes the error number from a message of the operating system: it differs between systems.
fn without_error_number(line: &str) -> String {
    match line.split_once(" (os error ") {
        Some((before, after)) => {
            format!("{before}{}", after.trim_start_matches(|c: char| c.is_ascii_digit()).replacen(')', "", 1))
        }
        None => line.to_owned(),
    }
}

/// Returns a kubeconfig as kind writes it, for API servers that do not exist: port 1 refuses connections.
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

pub fn golden(name: &str, texts: &[String]) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/cli");
    insta::with_settings!({snapshot_path => path, prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!(name, texts.join("\n"));
    });
}

pub fn all(sandbox: &Sandbox, commands: &[&str]) -> Vec<String> {
    commands.iter().map(|arguments| sandbox.run(arguments)).collect()
}

pub fn stdout(command: &mut Command) -> String {
    String::from_utf8(command.assert().success().stderr("").get_output().stdout.clone()).unwrap()
}
