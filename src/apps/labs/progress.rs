//! The progress: kept in the environment's directory, and deleted with it.

use std::collections::BTreeMap;

use anyhow::Context;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::exercise::Exercise;
use crate::host::state::{self, Files};

/// The progress.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// The current exercise: its directory's name. None before the first and after `reset`.
    pub current: Option<String>,
    /// The state of each exercise that was started, by its directory's name.
    pub exercises: BTreeMap<String, Attempt>,
}

/// The state of an exercise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// When it was last started.
    pub started: Timestamp,
    /// The total number of checks.
    pub checks: u32,
    /// The total number of hints.
    pub hints: usize,
    /// When all of its checks first held.
    pub passed: Option<Timestamp>,
    /// Whether its solution was shown before that.
    pub shown: bool,
}

const FILE: &str = "progress.json";

impl Progress {
    /// Reads an environment's progress; empty if nothing was started.
    ///
    /// # Errors
    /// If it exists and cannot be read.
    pub fn read(files: &Files) -> anyhow::Result<Self> {
        let path = files.labs().join(FILE);
        match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// Writes it.
    ///
    /// # Errors
    /// The file system's errors.
    pub fn write(&self, files: &Files) -> anyhow::Result<()> {
        let path = files.labs().join(FILE);
        state::write_private(&path, serde_json::to_string_pretty(self)?.as_bytes()).map(drop)
    }

    /// Returns the current exercise.
    pub fn current(&self) -> Option<&'static Exercise> {
        self.current.as_deref().and_then(Exercise::with_id)
    }

    /// Returns the state of an exercise.
    pub fn of(&self, exercise: &Exercise) -> Option<&Attempt> {
        self.exercises.get(&exercise.id)
    }

    /// Starts an exercise.
    pub(super) fn begin(&mut self, exercise: &Exercise) {
        self.current = Some(exercise.id.clone());
        self.attempt(exercise).started = Timestamp::now();
    }

    pub(super) fn attempt(&mut self, exercise: &Exercise) -> &mut Attempt {
        self.exercises.entry(exercise.id.clone()).or_insert_with(|| Attempt {
            started: Timestamp::now(),
            checks: 0,
            hints: 0,
            passed: None,
            shown: false,
        })
    }

    /// Counts a check.
    pub(super) fn checked(&mut self, exercise: &Exercise, passed: bool) {
        let attempt = self.attempt(exercise);
        attempt.checks += 1;
        if passed && attempt.passed.is_none() {
            attempt.passed = Some(Timestamp::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::state::Directories;

    #[test]
    fn progress_round_trips_and_first_success_counts() {
        let folder = tempfile::tempdir().unwrap();
        let folders = Directories { state: folder.path().to_owned(), cache: folder.path().join("cache") };
        let files = folders.environment("seat1");
        assert_eq!(Progress::read(&files).unwrap(), Progress::default());
        let exercise = Exercise::of(2).unwrap();
        let mut progress = Progress::default();
        progress.begin(exercise);
        progress.checked(exercise, false);
        progress.checked(exercise, true);
        let passed = progress.of(exercise).unwrap().passed;
        progress.checked(exercise, true);
        assert!(passed.is_some() && progress.of(exercise).unwrap().passed == passed);
        progress.write(&files).unwrap();
        let read = Progress::read(&files).unwrap();
        assert_eq!((read.current().unwrap().number, read.of(exercise).unwrap().checks), (2, 3));
        std::fs::write(files.labs().join(FILE), "{").unwrap();
        assert!(Progress::read(&files).is_err());
    }
}
