//! `kindmesh open` or `kindmesh ui`, for as long as a test needs it.

#![expect(clippy::unwrap_used, reason = "clippy tells tests from helpers by the attribute alone")]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

use crate::environment::Kindmesh;

/// A page, served until this value ends.
pub struct Open {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
    /// Where.
    pub url: String,
}

impl Open {
    /// The caller's page.
    pub fn start(kindmesh: &Kindmesh) -> Self {
        Self::serve(kindmesh, "open")
    }

    /// What a command serves.
    pub fn serve(kindmesh: &Kindmesh, command: &str) -> Self {
        let arguments = [command, "--no-browser", "--port", "0", "--output", "json"];
        let mut child = kindmesh.command(&arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let line = stdout.by_ref().lines().next().expect("it ended").unwrap();
        let said: Value = serde_json::from_str(&line).unwrap();
        let url = said["url"].as_str().unwrap().to_owned();
        Self { child, stdout: Some(stdout), url }
    }

    /// Its exit status after Ctrl-C, by when it must have ended.
    pub fn interrupted(mut self, within: Duration) -> Option<i32> {
        let pid = self.process().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        let (sender, ended) = mpsc::channel();
        let mut stdout = self.stdout.take().unwrap();
        std::thread::spawn(move || sender.send(stdout.read_to_string(&mut String::new()).is_ok()));
        assert!(ended.recv_timeout(within).is_ok(), "it is still there after {within:?}");
        self.child.wait().unwrap().code()
    }

    /// The id of its process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
