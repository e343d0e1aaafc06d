//! `kindmesh open` or `kindmesh ui`, running for as long as a test needs it.

#![expect(clippy::unwrap_used, reason = "clippy does not recognize the helpers of tests")]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

use crate::environment::Kindmesh;

/// A page, served until this value is dropped.
pub struct PageServer {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
    /// The address of the page.
    pub url: String,
}

impl PageServer {
    /// Serves the caller page.
    pub fn start(kindmesh: &Kindmesh) -> Self {
        Self::serve(kindmesh, "open")
    }

    /// Runs a command that serves a page.
    pub fn serve(kindmesh: &Kindmesh, command: &str) -> Self {
        let arguments = [command, "--no-browser", "--port", "0", "--output", "json"];
        let mut child = kindmesh.command(&arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let line = stdout.by_ref().lines().next().expect("the command exited").unwrap();
        let event: Value = serde_json::from_str(&line).unwrap();
        let url = event["url"].as_str().unwrap().to_owned();
        Self { child, stdout: Some(stdout), url }
    }

    /// Interrupts it, and returns its exit status; it must exit in time.
    pub fn interrupt(mut self, timeout: Duration) -> Option<i32> {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        let (sender, end_of_output) = mpsc::channel();
        let mut stdout = self.stdout.take().unwrap();
        std::thread::spawn(move || sender.send(stdout.read_to_string(&mut String::new()).is_ok()));
        assert!(end_of_output.recv_timeout(timeout).is_ok(), "still running after {timeout:?}");
        self.child.wait().unwrap().code()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for PageServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
