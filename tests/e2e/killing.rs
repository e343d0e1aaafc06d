//! Killing kindmesh at a certain event, and what an environment leaves behind.

#![expect(clippy::unwrap_used, reason = "clippy does not recognize the helpers of tests")]

use std::collections::BTreeSet;
use std::fmt;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::environment::{Kindmesh, docker, lines_of};

/// An event that recurs in every run: a step of a cluster starts or finishes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    event: String,
    pub step: String,
    cluster: String,
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.event, self.step, self.cluster)
    }
}

impl Moment {
    /// Whether a step starts.
    pub fn is_start(&self) -> bool {
        self.event == "stepStarted"
    }

    /// Whether the given step finishes.
    pub fn is_end_of(&self, step: &str) -> bool {
        self.event == "stepFinished" && self.step == step
    }

    /// Parses a line of `--output json`; `None` for other events.
    fn of(line: &str) -> Option<Self> {
        let event: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        let moment = Self { event: text("event"), step: text("step"), cluster: text("cluster") };
        ["stepStarted", "stepFinished"].contains(&moment.event.as_str()).then_some(moment)
    }
}

/// A running kindmesh whose events are read as they arrive.
pub struct Working {
    child: Child,
    lines: Receiver<String>,
}

impl Working {
    pub fn start(kindmesh: &Kindmesh, arguments: &[&str]) -> Self {
        let mut command = kindmesh.command(arguments);
        command.args(["--output", "json"]).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines }
    }

    /// Kills it with SIGKILL at the first moment that is `wanted`, or after the timeout. Returns whether it was
    /// killed rather than exited by itself.
    pub fn kill_at(mut self, mut wanted: impl FnMut(&Moment) -> bool, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let left = || deadline.saturating_duration_since(Instant::now());
        while let Ok(line) = self.lines.recv_timeout(left()) {
            if Moment::of(&line).is_some_and(|moment| wanted(&moment)) {
                break;
            }
        }
        let _ = self.child.kill();
        self.child.wait().unwrap().code().is_none()
    }

    /// Waits for its end, which must be a success, and returns its moments in order.
    pub fn finish(mut self) -> Vec<Moment> {
        let moments = self.lines.iter().filter_map(|line| Moment::of(&line)).collect();
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        moments
    }
}

/// Everything on the engine that an environment may leave behind.
#[derive(Debug, PartialEq, Eq)]
pub struct Left(BTreeSet<String>);

impl Left {
    /// Returns what exists of one environment, and all volumes without a container, whatever they belonged to.
    pub fn now(kindmesh: &Kindmesh) -> Self {
        let name = kindmesh.name();
        let kinds = ["cluster1", "cluster2"].map(|cluster| {
            docker(&["ps", "-aq", "--filter", &format!("label=io.x-k8s.kind.cluster={name}-{cluster}")])
        });
        let networks = docker(&["network", "ls", "-q", "--filter", &format!("label=kindmesh.environment={name}")]);
        let volumes = docker(&["volume", "ls", "-q", "--filter", "dangling=true"]);
        let mut left: BTreeSet<_> =
            kinds.iter().chain([&networks, &volumes]).flat_map(|text| lines_of(text)).collect();
        if kindmesh.state().exists() {
            left.insert(kindmesh.state().display().to_string());
        }
        Self(left)
    }
}
