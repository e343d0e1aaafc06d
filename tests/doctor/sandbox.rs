//! A home directory, programs and environment variables for running `kindmesh`, and its report.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

pub const KINDMESH: &str = env!("CARGO_BIN_EXE_kindmesh");
/// The timeout of the checks, for a busy host.
const PATIENT: &str = "30s";
/// How much longer than its timeout a run may take on such a host.
const SPARE: Duration = Duration::from_secs(3);

/// The arguments of `kindmesh`.
pub const ARGUMENTS: [&str; 5] = ["doctor", "--output", "json", "--timeout", PATIENT];

pub struct Sandbox {
    _folder: TempDir,
    pub root: PathBuf,
}

/// The report of a run.
pub struct Said {
    pub code: i32,
    pub findings: Vec<Value>,
    pub unknown: Vec<String>,
}

impl Said {
    /// Returns the IDs of the findings, with their severity.
    pub fn ids(&self) -> Vec<String> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let ids = self.findings.iter().map(|found| format!("{} {}", text(&found["severity"]), text(&found["id"])));
        ids.collect()
    }

    /// Returns the finding with that ID.
    pub fn finding(&self, id: &str) -> &Value {
        let found = self.findings.iter().find(|found| found["id"] == id);
        found.unwrap_or_else(|| panic!("no {id} in {:#?}", self.findings))
    }

    /// Asserts that these are all findings, and that the exit status matches.
    pub fn is(&self, ids: &[&str]) -> &Self {
        assert_eq!(self.ids(), ids, "{:#?}", self.findings);
        let blocks = ids.iter().any(|id| id.starts_with("blocks "));
        assert_eq!(self.code, if blocks { 4 } else { 0 });
        self
    }
}

impl Sandbox {
    /// Creates a sandbox with fake docker, kind and istioctl executables.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let sandbox = Self { _folder: folder, root };
        for name in ["home", "work", "bin"] {
            std::fs::create_dir(sandbox.root.join(name)).unwrap();
        }
        sandbox.program("docker", "true");
        sandbox.program("kind", "echo kind v0.33.0 go1.26.8 linux/amd64");
        sandbox.program("istioctl", r#"echo '{"clientVersion": {"version": "1.31.1"}}'"#);
        sandbox
    }

    pub fn program(&self, name: &str, script: &str) -> PathBuf {
        let path = self.root.join("bin").join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        path
    }

    pub fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Returns a command with this sandbox's variables and no others.
    pub fn run(&self, program: &Path, docker_host: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .current_dir(self.root.join("work"))
            .env("PATH", format!("{}:/usr/bin:/bin:/usr/sbin:/sbin", self.root.join("bin").display()))
            .env("HOME", self.root.join("home"))
            .env("XDG_STATE_HOME", self.root.join("state"))
            .env("XDG_CACHE_HOME", self.root.join("cache"))
            .env("DOCKER_HOST", docker_host)
            .env("COLUMNS", "100");
        command
    }

    pub fn kindmesh(&self, docker_host: &str) -> Command {
        self.run(KINDMESH.as_ref(), docker_host)
    }

    /// Runs `kindmesh doctor` with these variables; an empty value unsets one.
    pub fn doctor(&self, docker_host: &str, variables: &[(&str, &str)]) -> Said {
        said(self.command(docker_host, variables).args(ARGUMENTS))
    }

    /// The same with a timeout in seconds, for tests in which something does not respond.
    pub fn doctor_within(&self, seconds: u64, docker_host: &str, variables: &[(&str, &str)]) -> Said {
        let mut command = self.command(docker_host, variables);
        let started = Instant::now();
        let said = said(command.args(["doctor", "--output", "json", "--timeout", &format!("{seconds}s")]));
        let took = started.elapsed();
        assert!(took < Duration::from_secs(seconds) + SPARE, "it took {took:?}");
        said
    }

    fn command(&self, docker_host: &str, variables: &[(&str, &str)]) -> Command {
        let mut command = self.kindmesh(docker_host);
        for (name, value) in variables {
            match *value {
                "" => command.env_remove(name),
                value => command.env(name, value),
            };
        }
        command
    }
}

/// Runs a command that ends with `kindmesh` and [`ARGUMENTS`].
pub fn said(command: &mut Command) -> Said {
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let report: Value = serde_json::from_str(&text)
        .unwrap_or_else(|_| panic!("{command:?}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(report["schemaVersion"], 1);
    let unknown = report["unknown"].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned());
    Said {
        code: output.status.code().unwrap(),
        unknown: unknown.collect(),
        findings: report["findings"].as_array().unwrap().clone(),
    }
}
