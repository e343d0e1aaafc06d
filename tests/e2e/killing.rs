//! Killing kindmesh at a certain event, and what an environment leaves behind.

#![expect(clippy::unwrap_used, reason = "clippy does not recognize the helpers of tests")]

use std::collections::BTreeSet;
use std::fmt;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::environment::{Kindmesh, docker, sorted_lines};

/// An event that recurs in every run: a step of a cluster starts or finishes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct StepEvent {
    event: String,
    pub step: String,
    cluster: String,
}

impl fmt::Display for StepEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.event, self.step, self.cluster)
    }
}

impl StepEvent {
    /// Whether a step starts.
    pub fn is_start(&self) -> bool {
        self.event == "stepStarted"
    }

    /// Whether the given step finishes.
    pub fn is_end_of(&self, step: &str) -> bool {
        self.event == "stepFinished" && self.step == step
    }

    /// Parses a line of `--output json`; `None` for other events.
    pub fn parse(line: &str) -> Option<Self> {
        let event: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        let parsed = Self { event: text("event"), step: text("step"), cluster: text("cluster") };
        ["stepStarted", "stepFinished"].contains(&parsed.event.as_str()).then_some(parsed)
    }
}

/// Returns the first start of each step.
pub fn first_starts(events: &[StepEvent]) -> Vec<&StepEvent> {
    let mut starts: Vec<&StepEvent> = Vec::new();
    for event in events.iter().filter(|event| event.is_start()) {
        if !starts.iter().any(|start| start.step == event.step) {
            starts.push(event);
        }
    }
    starts
}

/// A running kindmesh whose events are read as they arrive.
pub struct RunningCommand {
    child: Child,
    lines: Receiver<String>,
}

impl RunningCommand {
    pub fn start(kindmesh: &Kindmesh, arguments: &[&str]) -> Self {
        Self::of(kindmesh.command(arguments))
    }

    /// Starts a kindmesh command.
    pub fn of(mut command: Command) -> Self {
        command.args(["--output", "json"]).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines }
    }

    /// Kills it with SIGKILL at the first step event that `matches`, or after the timeout. Returns whether it was
    /// killed rather than exited by itself.
    pub fn kill_at(self, mut matches: impl FnMut(&StepEvent) -> bool, timeout: Duration) -> bool {
        self.kill_at_line(|line| StepEvent::parse(line).is_some_and(|event| matches(&event)), timeout)
    }

    /// The same at the first line that `matches`.
    pub fn kill_at_line(mut self, mut matches: impl FnMut(&str) -> bool, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let remaining = || deadline.saturating_duration_since(Instant::now());
        while let Ok(line) = self.lines.recv_timeout(remaining()) {
            if matches(&line) {
                break;
            }
        }
        let _ = self.child.kill();
        self.child.wait().unwrap().code().is_none()
    }

    /// Waits for its end, which must be a success, and returns its events in order.
    pub fn finish(mut self) -> Vec<StepEvent> {
        let events = self.lines.iter().filter_map(|line| StepEvent::parse(&line)).collect();
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        events
    }
}

/// Everything on the engine that an environment may leave behind.
#[derive(Debug, PartialEq, Eq)]
pub struct Leftovers(BTreeSet<String>);

impl Leftovers {
    /// Returns what exists of one environment, and all volumes without a container, whatever they belonged to.
    pub fn now(kindmesh: &Kindmesh) -> Self {
        let name = kindmesh.name();
        let nodes = ["cluster1", "cluster2"].map(|cluster| {
            docker(&["ps", "-aq", "--filter", &format!("label=io.x-k8s.kind.cluster={name}-{cluster}")])
        });
        let networks = docker(&["network", "ls", "-q", "--filter", &format!("label=kindmesh.environment={name}")]);
        let volumes = docker(&["volume", "ls", "-q", "--filter", "dangling=true"]);
        let mut leftovers: BTreeSet<_> =
            nodes.iter().chain([&networks, &volumes]).flat_map(|text| sorted_lines(text)).collect();
        if kindmesh.state().exists() {
            leftovers.insert(kindmesh.state().display().to_string());
        }
        Self(leftovers)
    }
}
