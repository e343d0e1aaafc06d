//! `kindmesh open` or `kindmesh ui`, for as long as a test needs it.

#![expect(clippy::unwrap_used, reason = "clippy tells tests from helpers by the attribute alone")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::environment::Kindmesh;

/// A page, served until this value ends.
pub struct Open {
    child: Child,
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
        let line = BufReader::new(child.stdout.take().unwrap()).lines().next().expect("it ended").unwrap();
        let said: Value = serde_json::from_str(&line).unwrap();
        let url = said["url"].as_str().unwrap().to_owned();
        Self { child, url }
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
