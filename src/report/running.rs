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

/// The steps under way, in the order in which they began.
#[derive(Debug, Default)]
pub(super) struct Running(Vec<Step>);

impl Running {
    /// Begins a step.
    pub fn start(&mut self, time: Timestamp, name: &str, cluster: Option<&str>) {
        self.0.push(Step {
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
            self.0[index].waiting = Some(waiting);
        }
    }

    /// Ends a step.
    pub fn end(&mut self, name: &str, cluster: Option<&str>) -> Option<Step> {
        self.position(name, cluster).map(|index| self.0.remove(index))
    }

    /// Forgets all steps.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// How many steps are under way.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The steps in the order in which they began.
    pub fn iter(&self) -> impl Iterator<Item = &Step> {
        self.0.iter()
    }

    /// As [`Running::iter`], to note what was told.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Step> {
        self.0.iter_mut()
    }

    fn position(&self, name: &str, cluster: Option<&str>) -> Option<usize> {
        self.0.iter().position(|step| step.name == name && step.cluster.as_deref() == cluster)
    }
}

impl Step {
    /// Seconds since it began; the clock of a laptop may have been set back meanwhile.
    pub fn seconds(&self, now: Timestamp) -> f64 {
        now.duration_since(self.started).as_secs_f64().max(0.0)
    }
}
