//! The steps under way, as the events tell.

use jiff::Timestamp;

/// A step under way.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub name: String,
    pub cluster: Option<String>,
    pub started: Timestamp,
    /// What it waits for and what was seen last.
    pub waiting: Option<Waiting>,
    /// The waiting that a log told last, and when; at first none, when it began.
    pub told: (Timestamp, Option<Waiting>),
}

/// What a step waits for and what was seen last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Waiting {
    pub what: String,
    pub last: String,
}

/// A step that changed nothing and took less than this many seconds is counted, not printed: a third of the steps of
/// a first `up` and most of a second one are of this kind.
const WORTH_A_LINE: f64 = 0.1;

/// The steps under way, in the order in which they began, and how many ended that are not worth a line.
#[derive(Debug, Default)]
pub(super) struct Running {
    steps: Vec<Step>,
    unchanged: usize,
}

impl Running {
    /// Begins a step.
    pub fn start(&mut self, time: Timestamp, name: &str, cluster: Option<&str>) {
        self.steps.push(Step {
            name: name.to_owned(),
            cluster: cluster.map(str::to_owned),
            started: time,
            waiting: None,
            told: (time, None),
        });
    }

    /// Notes what a step waits for.
    pub fn wait(&mut self, name: &str, cluster: Option<&str>, waiting: Waiting) {
        if let Some(index) = self.position(name, cluster) {
            self.steps[index].waiting = Some(waiting);
        }
    }

    /// Ends a step.
    pub fn end(&mut self, name: &str, cluster: Option<&str>) -> Option<Step> {
        self.position(name, cluster).map(|index| self.steps.remove(index))
    }

    /// Whether a step that ended well is worth a line; one that is not is counted.
    pub fn is_worth_a_line(&mut self, seconds: f64, changed: bool) -> bool {
        let worth = changed || seconds >= WORTH_A_LINE;
        self.unchanged += usize::from(!worth);
        worth
    }

    /// How many steps were not worth a line since this was last asked.
    pub fn take_unchanged(&mut self) -> usize {
        std::mem::take(&mut self.unchanged)
    }

    /// Forgets all steps.
    pub fn clear(&mut self) {
        self.steps.clear();
    }

    /// How many steps are under way.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// The steps in the order in which they began.
    pub fn iter(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter()
    }

    /// As [`Running::iter`], to note what was told.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Step> {
        self.steps.iter_mut()
    }

    fn position(&self, name: &str, cluster: Option<&str>) -> Option<usize> {
        self.steps.iter().position(|step| step.name == name && step.cluster.as_deref() == cluster)
    }
}

impl Step {
    /// Seconds since it began; the clock of a laptop may have been set back meanwhile.
    pub fn seconds(&self, now: Timestamp) -> f64 {
        now.duration_since(self.started).as_secs_f64().max(0.0)
    }
}
