//! Runs kindmesh on the real engine, with a fake kind: a script that creates a container like a node, and then behaves
//! as the test specifies.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{Engine, KINDMESH, TIMEOUT};

/// The directories and variables of kindmesh runs.
pub struct Home {
    _folder: TempDir,
    pub root: PathBuf,
    pub name: &'static str,
    host: String,
}

/// What the fake kind does after it has created a node and the file `made-CLUSTER`.
pub enum Kind {
    /// It waits forever, like kind for a control plane that does not become ready.
    Waits,
    /// It waits, and so does a docker client that it started, until the file `release` exists.
    WaitsWithClient,
    /// It fails when the engine's socket is removed.
    EndsWithEngine,
}

impl Home {
    /// Creates a home for an environment of two clusters, `a` and `b`, without samples.
    pub fn new(engine: &Engine, name: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("bin")).unwrap();
        let spec = format!("name: {name}\nclusters: [{{name: a}}, {{name: b}}]\nsamples: {{enabled: false}}\n");
        std::fs::write(root.join("kindmesh.yaml"), spec).unwrap();
        Self { _folder: folder, root, name, host: engine.endpoint.host.clone() }
    }

    /// Adds a fake kind that creates nodes from this image.
    pub fn with_kind(self, image: &str, kind: Kind) -> Self {
        let socket = self.root.join("docker.sock");
        let then = match kind {
            Kind::Waits => "while :; do read -r line <\"$home/pipe\" || exit 1; done".to_owned(),
            Kind::WaitsWithClient => {
                let client = "while [ ! -e \"$1/release\" ]; do sleep 0.1; done";
                let label = "io.x-k8s.kind.cluster=$name";
                format!(
                    "sh -c '{client}' sh \"$home\" \"{label}\" & while :; do read -r line <\"$home/pipe\"; done"
                )
            }
            Kind::EndsWithEngine => format!(
                "while [ -S {} ]; do sleep 0.1; done; echo 'ERROR: failed to create cluster: no engine' >&2; exit 1",
                socket.display()
            ),
        };
        let script = format!(
            "#!/bin/sh\n\
             [ \"$1\" = version ] && {{ echo 'kind v0.33.0 go1.26.8 linux/amd64'; exit; }}\n\
             home={}\n\
             while [ $# -gt 0 ]; do [ \"$1\" = --name ] && name=$2; shift; done\n\
             docker run --detach --name \"$name-control-plane\" --network \"$KIND_EXPERIMENTAL_DOCKER_NETWORK\" \\\n\
               --label \"io.x-k8s.kind.cluster=$name\" --label io.x-k8s.kind.role=control-plane \\\n\
               --entrypoint sleep {image} infinity >/dev/null || exit 1\n\
             touch \"$home/made-$name\"\n{then}\n",
            self.root.display(),
        );
        let path = self.root.join("bin/kind");
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let made = Command::new("mkfifo").arg(self.root.join("pipe")).status().unwrap();
        assert!(made.success());
        self
    }

    /// Sets another engine address, such as that of a proxy.
    pub fn at(mut self, host: String) -> Self {
        self.host = host;
        self
    }

    /// Returns a kindmesh command in this home.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.around(Command::new(KINDMESH), arguments)
    }

    /// Returns a kindmesh command with another umask.
    pub fn with_umask(&self, umask: &str, arguments: &[&str]) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("umask {umask}; exec \"$0\" \"$@\""), KINDMESH]);
        self.around(shell, arguments)
    }

    fn around(&self, mut command: Command, arguments: &[&str]) -> Command {
        let path = std::env::var("PATH").unwrap();
        command.args(arguments).current_dir(&self.root).env_clear();
        // The test lab selects its images with a spec.
        if let Some(files) = std::env::var_os("KINDMESH_FILE") {
            command.env("KINDMESH_FILE", files);
        }
        command
            .args(["--name", self.name])
            .env("PATH", format!("{}:{path}", self.root.join("bin").display()))
            .env("HOME", self.root.join("home"))
            .env("XDG_STATE_HOME", self.root.join("state"))
            .env("XDG_CACHE_HOME", self.root.join("cache"))
            .env("DOCKER_HOST", &self.host)
            .env("KINDMESH_EXE", KINDMESH);
        command
    }

    /// Starts kindmesh and waits until kind has created the nodes of both clusters.
    pub fn until_made(&self, mut command: Command) -> Running {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut running = Running(Some(child));
        let made = |cluster| self.root.join(format!("made-{}-{cluster}", self.name)).exists();
        running.until("nodes", || made("a") && made("b"));
        running
    }

    /// Returns the environment's directory.
    pub fn state(&self) -> PathBuf {
        self.root.join("state/kindmesh").join(self.name)
    }
}

/// A running kindmesh, killed at the end of the test.
pub struct Running(Option<std::process::Child>);

impl Running {
    /// Waits until a condition holds, while kindmesh runs.
    pub fn until(&mut self, what: &str, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + TIMEOUT;
        while !holds() {
            let ended = self.0.as_mut().unwrap().try_wait().unwrap();
            assert!(
                ended.is_none(),
                "kindmesh exited before there were {what}: {}",
                shown(&self.0.take().unwrap().wait_with_output().unwrap())
            );
            assert!(Instant::now() < deadline, "no {what} within {} s", TIMEOUT.as_secs());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.0.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
    }

    /// Waits until it exits.
    pub fn ended(mut self) -> Output {
        let deadline = Instant::now() + TIMEOUT;
        while self.0.as_mut().unwrap().try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "kindmesh did not exit within {} s", TIMEOUT.as_secs());
            std::thread::sleep(Duration::from_millis(20));
        }
        self.0.take().unwrap().wait_with_output().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Returns the exit status and output of a command.
pub fn shown(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let shown =
        format!("exit status {:?}\n{}{}", output.status.code(), text(&output.stdout), text(&output.stderr));
    assert!(!shown.contains("panicked"), "{shown}");
    shown
}

/// Returns all files and directories in a directory: path, whether it is a directory, and mode.
pub fn modes(folder: &Path) -> Vec<(PathBuf, bool, u32)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let metadata = entry.metadata().unwrap();
        found.push((entry.path(), metadata.is_dir(), metadata.permissions().mode() & 0o777));
        if metadata.is_dir() {
            found.extend(modes(&entry.path()));
        }
    }
    found
}
