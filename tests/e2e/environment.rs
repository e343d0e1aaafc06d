//! The kindmesh under test, with its own state directory, and the environment that the tests share.

#![expect(clippy::unwrap_used, reason = "clippy does not recognize the helpers of tests")]
#![expect(clippy::print_stdout, reason = "the seed of a failed test is needed to repeat it")]

use std::net::Ipv4Addr;
use std::panic;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::Value;

/// The environment that the tests share. `tests/run` deletes it at the end.
pub static E2E: Shared = Shared(OnceLock::new());

pub struct Shared(OnceLock<Kindmesh>);

/// Whether the shared environment needs `up`: it was not created yet, or a test has failed since, which may have left it
/// in any state, even with paused nodes.
static NEEDS_UP: AtomicBool = AtomicBool::new(true);

impl Shared {
    /// Returns the shared environment, ready, whatever state earlier tests left it in.
    pub fn up(&self) -> &Kindmesh {
        let kindmesh = self.0.get_or_init(|| {
            notice_failures();
            Kindmesh::named(&name())
        });
        if NEEDS_UP.swap(false, Ordering::SeqCst) {
            let up = kindmesh.run(&["up"]);
            assert_eq!(up.code, 0, "{}\n{}", up.stdout, up.stderr);
        }
        kindmesh
    }
}

/// Makes the next test run `up` after a test has failed.
fn notice_failures() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |failure| {
        NEEDS_UP.store(true, Ordering::SeqCst);
        print(failure);
    }));
}

/// The name of the shared environment: KINDMESH_TEST_NAME if several test runs share a host. Tests that inspect
/// the engine directly only work with the default name.
pub fn name() -> String {
    std::env::var("KINDMESH_TEST_NAME").unwrap_or_else(|_| "e2e".into())
}

/// The result of a command.
#[derive(Debug)]
pub struct Output {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// The kindmesh executable, used on one environment.
pub struct Kindmesh {
    name: String,
}

impl Kindmesh {
    pub fn named(name: &str) -> Self {
        Self { name: name.into() }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The state home of the tests, never the user's own.
    fn state_home() -> PathBuf {
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("e2e-state")
    }

    /// The state directory of the environment.
    pub fn state(&self) -> PathBuf {
        Self::state_home().join("kindmesh").join(&self.name)
    }

    /// The variables that make `kindmesh` in a shell use the tests' state and this environment.
    pub fn variables(&self) -> Vec<(String, String)> {
        vec![
            ("XDG_STATE_HOME".into(), Self::state_home().display().to_string()),
            ("KINDMESH_ENVIRONMENT".into(), self.name.clone()),
        ]
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        output_of(&mut self.command(arguments))
    }

    /// Returns a command to start, for tests that do more than wait for its end.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kindmesh"));
        command
            .args(arguments)
            .args(["--name", &self.name])
            .current_dir(env!("CARGO_TARGET_TMPDIR"))
            .env("XDG_STATE_HOME", Self::state_home());
        command
    }

    /// Runs a command with JSON output, which must succeed, and returns its lines.
    pub fn json_lines(&self, arguments: &[&str]) -> Vec<Value> {
        let mut with_format = arguments.to_vec();
        with_format.extend(["--output", "json"]);
        let output = self.run(&with_format);
        assert_eq!(output.code, 0, "{output:?}");
        output.stdout.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    /// Calls repeatedly, with no other command. Returns whether a cross-cluster call succeeded in time.
    pub fn wait_for_cross_cluster_call(&self, deadline: Instant) -> bool {
        let mut remaining = deadline.saturating_duration_since(Instant::now());
        while !remaining.is_zero() {
            if self.run(&["call", "--expect", "200", "--timeout", "3s"]).code == 0 {
                return true;
            }
            remaining = deadline.saturating_duration_since(Instant::now());
        }
        false
    }

    /// Waits until Istio's own tools find no fault, for at most a minute: `istioctl remote-clusters` and `proxy-status` of every
    /// cluster with an istiod.
    pub fn istio_is_in_sync(&self, primaries: &[&str], clusters: &[&str]) {
        let deadline = Instant::now() + std::time::Duration::from_secs(60);
        loop {
            let Err(why) = self.istio_in_sync(primaries, clusters) else { return };
            assert!(Instant::now() < deadline, "{why}");
        }
    }

    fn istio_in_sync(&self, primaries: &[&str], clusters: &[&str]) -> Result<(), String> {
        let mut with_proxies = std::collections::BTreeSet::new();
        for primary in primaries {
            let known = self.istioctl(primary, &["remote-clusters"])?;
            let synced = |cluster: &&&str| {
                let of = |line: &&str| line.split_whitespace().next() == Some(cluster);
                known.lines().any(|line| of(&line) && line.contains(" synced "))
            };
            if !clusters.iter().all(|cluster| synced(&cluster)) || known.lines().count() != clusters.len() + 1 {
                return Err(format!("{primary} has not synced every cluster:\n{known}"));
            }
            let proxies = self.istioctl(primary, &["proxy-status", "--verbosity", "1"])?;
            if ["STALE", "NOT SENT", "ERROR", "NOT_SENT"].iter().any(|word| proxies.contains(word)) {
                return Err(format!("{primary} has proxies that are not synced:\n{proxies}"));
            }
            let cluster_of = |line: &str| line.split_whitespace().nth(1).map(str::to_owned);
            with_proxies
                .extend(proxies.lines().skip(1).filter(|line| line.contains("SYNCED")).filter_map(cluster_of));
        }
        match with_proxies.iter().map(String::as_str).eq(sorted_lines(&clusters.join("\n"))) {
            true => Ok(()),
            false => Err(format!("proxies in {with_proxies:?} only")),
        }
    }

    fn istioctl(&self, cluster: &str, arguments: &[&str]) -> Result<String, String> {
        let mut istioctl = Command::new("istioctl");
        istioctl.arg("--kubeconfig").arg(self.state().join("kubeconfig"));
        let output =
            output_of(istioctl.args(["--context", &format!("kind-{}-{cluster}", self.name)]).args(arguments));
        if output.code == 0 { Ok(output.stdout) } else { Err(format!("{output:?}")) }
    }

    /// Runs kubectl on one of the environment's clusters.
    pub fn kubectl(&self, cluster: &str, arguments: &[&str]) -> Output {
        output_of(
            Command::new("kubectl")
                .arg("--kubeconfig")
                .arg(self.state().join("kubeconfig"))
                .args(["--context", &format!("kind-{}-{cluster}", self.name)])
                .args(arguments),
        )
    }
}

/// An environment of one test, from its own spec. It is deleted at the end, even if the test fails.
pub struct Temporary {
    pub kindmesh: Kindmesh,
    spec: PathBuf,
}

impl Temporary {
    /// Creates it; this spec is merged into the one that KINDMESH_FILE names.
    pub fn up(name: &str, spec: &str) -> Self {
        let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.yaml"));
        std::fs::write(&file, spec).unwrap();
        let this = Self { kindmesh: Kindmesh::named(name), spec: file };
        this.kindmesh.run(&["down"]);
        this.up_again();
        this
    }

    /// Runs `up` with its spec, and returns the events.
    pub fn up_again(&self) -> Vec<Value> {
        self.kindmesh.json_lines(&["up", "-f", self.spec.to_str().unwrap()])
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        self.kindmesh.run(&["down"]);
    }
}

/// The address of a node on the Docker network.
pub fn node_address(node: &str) -> Ipv4Addr {
    let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    docker(&["inspect", "--format", format, node]).parse().unwrap()
}

/// Stops two nodes, and starts them so that each gets the address of the other.
pub fn restart_with_swapped_addresses(nodes: [&str; 2]) {
    let before = nodes.map(node_address);
    docker(&["stop", "-t", "1", nodes[0], nodes[1]]);
    // The node that starts first gets the first address.
    let first = if before[0] < before[1] { [nodes[1], nodes[0]] } else { nodes };
    for node in first {
        docker(&["start", node]);
    }
    assert_eq!(nodes.map(node_address), [before[1], before[0]], "the addresses are not swapped");
}

/// A kind cluster created by hand, as a user may have one. It is deleted at the end, even if the test fails.
pub struct UserCluster {
    kubeconfig: tempfile::NamedTempFile,
}

impl UserCluster {
    const NAME: &str = "e2e-by-hand";

    /// Creates it with the kind configuration from `plan`, under a different name.
    pub fn create(kindmesh: &Kindmesh) -> Self {
        let plan = kindmesh.run(&["plan", "--output", "json"]);
        let plan: Value = serde_json::from_str(&plan.stdout).unwrap();
        let mut config = plan["clusters"][0]["kindConfig"].clone();
        config["name"] = Self::NAME.into();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), config.to_string()).unwrap();
        let this = Self { kubeconfig: tempfile::NamedTempFile::new().unwrap() };
        let created = this.kind(&["create", "cluster", "--config", file.path().to_str().unwrap()]);
        assert_eq!(created.code, 0, "{created:?}");
        this
    }

    fn kind(&self, arguments: &[&str]) -> Output {
        output_of(Command::new("kind").args(arguments).arg("--kubeconfig").arg(self.kubeconfig.path()))
    }

    pub fn kubectl(&self, arguments: &[&str]) -> Output {
        output_of(Command::new("kubectl").arg("--kubeconfig").arg(self.kubeconfig.path()).args(arguments))
    }
}

impl Drop for UserCluster {
    fn drop(&mut self) {
        self.kind(&["delete", "cluster", "--name", Self::NAME]);
    }
}

/// Runs the docker client, which must succeed, and returns its output.
pub fn docker(arguments: &[&str]) -> String {
    let output = output_of(Command::new("docker").args(arguments));
    assert_eq!(output.code, 0, "{output:?}");
    output.stdout.trim().to_owned()
}

/// The lines of a text, sorted.
pub fn sorted_lines(text: &str) -> Vec<String> {
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Runs a command and returns its result, whatever its exit status.
pub fn output_of(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("failed to run {command:?}: {error}"));
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Output { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Chooses one of many cases: a different one in each run, the same one for the same KINDMESH_TEST_SEED.
pub fn seed() -> u64 {
    let from_variable = std::env::var("KINDMESH_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = from_variable.unwrap_or_else(|| u64::from(std::process::id()));
    println!("KINDMESH_TEST_SEED={seed}");
    seed
}
