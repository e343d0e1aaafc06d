//! The running steps, according to the events.

use jiff::Timestamp;

/// A running step.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub name: String,
    pub cluster: Option<String>,
    pub started: Timestamp,
    /// What it waits for, and the last status.
    pub waiting: Option<Waiting>,
    /// The last status that was printed in a log, and when; at first, none and the start of the step.
    pub told: (Timestamp, Option<Waiting>),
}

/// What a step waits for, and the last status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Waiting {
    pub what: String,
    pub last: String,
}

/// A step that changed nothing and took less than this many seconds is counted, not printed: a third of the steps
/// of a first `up` and most of a second one are such steps.
const WORTH_A_LINE: f64 = 0.1;

/// The running steps, in the order in which they began, and the number of ended steps that are not worth a line.
#[derive(Debug, Default)]
pub(super) struct Running {
    steps: Vec<Step>,
    unchanged: usize,
}

impl Running {
    /// Adds a step.
    pub fn start(&mut self, time: Timestamp, name: &str, cluster: Option<&str>) {
        self.steps.push(Step {
            name: name.to_owned(),
            cluster: cluster.map(str::to_owned),
            started: time,
            waiting: None,
            told: (time, None),
        });
    }

    /// Records what a step waits for.
    pub fn wait(&mut self, name: &str, cluster: Option<&str>, waiting: Waiting) {
        if let Some(index) = self.position(name, cluster) {
            self.steps[index].waiting = Some(waiting);
        }
    }

    /// Removes a step.
    pub fn end(&mut self, name: &str, cluster: Option<&str>) -> Option<Step> {
        self.position(name, cluster).map(|index| self.steps.remove(index))
    }

    /// Whether a successful step is worth a line; otherwise it is counted.
    pub fn is_worth_a_line(&mut self, seconds: f64, changed: bool) -> bool {
        let worth = changed || seconds >= WORTH_A_LINE;
        self.unchanged += usize::from(!worth);
        worth
    }

    /// Returns how many steps were not worth a line since the last call.
    pub fn take_unchanged(&mut self) -> usize {
        std::mem::take(&mut self.unchanged)
    }

    /// Removes all steps.
    pub fn clear(&mut self) {
        self.steps.clear();
    }

    /// Returns the number of running steps.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Returns the steps in the order in which they began.
    pub fn iter(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter()
    }

    /// Like [`Running::iter`], to record what was printed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Step> {
        self.steps.iter_mut()
    }

    fn position(&self, name: &str, cluster: Option<&str>) -> Option<usize> {
        self.steps.iter().position(|step| step.name == name && step.cluster.as_deref() == cluster)
    }
}

impl Step {
    /// Returns the seconds since the step began. The clock may have been set back in the meantime.
    pub fn seconds(&self, now: Timestamp) -> f64 {
        now.duration_since(self.started).as_secs_f64().max(0.0)
    }
}
