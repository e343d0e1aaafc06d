//! Test fixtures of the sinks: a printer that keeps its output, a clock, and two recorded runs.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};

use super::printer::Surroundings;
use super::{ColorChoice, Printer, Verbosity};
use crate::base::event::{Event, Sink};

/// A writer whose text can be read back.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A printer and its output.
pub struct Captured {
    pub printer: Printer,
    stdout: Memory,
    stderr: Memory,
}

impl Captured {
    pub fn new(verbosity: Verbosity) -> Self {
        Self::with(verbosity, ColorChoice::Never, true)
    }

    pub fn with(verbosity: Verbosity, color: ColorChoice, unicode: bool) -> Self {
        let (stdout, stderr) = (Memory::default(), Memory::default());
        let surroundings = Surroundings { unicode, ..Surroundings::default() };
        let printer = Printer::on(verbosity, color, surroundings, stdout.clone(), stderr.clone());
        Self { printer, stdout, stderr }
    }

    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    pub fn stderr(&self) -> String {
        self.stderr.text()
    }
}

/// Returns the time this many seconds after the start of the recorded runs.
pub fn at(seconds: f64) -> Timestamp {
    let start: Timestamp = "2026-07-01T08:00:00Z".parse().unwrap();
    start + SignedDuration::from_secs_f64(seconds)
}

/// Passes a recorded run to a sink; `None` is a tick.
pub fn replay(sink: &mut dyn Sink, run: &[(f64, Option<Event>)]) {
    for (seconds, event) in run {
        match event {
            Some(event) => sink.event(at(*seconds), event),
            None => sink.tick(at(*seconds)),
        }
    }
    sink.finish();
}

pub fn started(step: &str, cluster: Option<&str>) -> Option<Event> {
    Some(Event::StepStarted { step: step.into(), cluster: cluster.map(str::to_owned) })
}

pub fn finished(step: &str, cluster: Option<&str>, seconds: f64, changed: bool) -> Option<Event> {
    Some(Event::StepFinished { step: step.into(), cluster: cluster.map(str::to_owned), seconds, changed })
}

pub fn waiting(step: &str, cluster: Option<&str>, what: &str, last: &str) -> Option<Event> {
    Some(Event::Waiting {
        step: step.into(),
        cluster: cluster.map(str::to_owned),
        r#for: what.into(),
        last: last.into(),
    })
}

/// A successful run.
pub fn good_run() -> Vec<(f64, Option<Event>)> {
    let (one, two) = (Some("cluster1"), Some("cluster2"));
    vec![
        (0.0, started("network", None)),
        (0.2, finished("network", None, 0.213, false)),
        (0.2, started("cluster", one)),
        (0.2, started("cluster", two)),
        (1.0, waiting("cluster", one, "nodes are ready", "0 of 1")),
        (6.0, waiting("cluster", one, "nodes are ready", "0 of 1: NetworkPluginNotReady")),
        (6.5, waiting("cluster", two, "nodes are ready", "0 of 1")),
        (7.0, waiting("cluster", one, "nodes are ready", "0 of 1: taints")),
        (8.0, None),
        (12.0, None),
        (14.4, finished("cluster", one, 14.2, true)),
        (15.0, finished("cluster", two, 14.8, true)),
        (15.0, Some(Event::Note { message: "samples unchanged".into() })),
        (
            29.8,
            Some(Event::Ready {
                seconds: 29.8,
                environment: "kindmesh".into(),
                kubeconfig: "/home/ada/.local/state/kindmesh/kindmesh/kubeconfig".into(),
            }),
        ),
    ]
}

/// A run in which a step fails while another one is running.
pub fn failing_run() -> Vec<(f64, Option<Event>)> {
    let (one, two) = (Some("cluster1"), Some("cluster2"));
    vec![
        (0.0, started("istiod", one)),
        (0.0, started("istiod", two)),
        (1.0, waiting("istiod", two, "istiod is available", "0 of 1 pods: ImagePullBackOff")),
        (10.0, None),
        (
            92.5,
            Some(Event::Failed {
                step: "istiod".into(),
                cluster: Some("cluster2".into()),
                error: "istiod is available: not after 90 s".into(),
                evidence: vec!["last seen: 0 of 1 pods: ImagePullBackOff".into()],
                hint: Some("kindmesh doctor".into()),
                cause: None,
            }),
        ),
    ]
}
