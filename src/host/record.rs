//! The record of a run: every event of an `up`, `start`, `resume` or `down`, one JSON line each as in `--output
//! json`, in `runs/TIME-COMMAND.jsonl` among the environment's files. The last five are kept.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use jiff::Timestamp;
use serde::Deserialize;

use crate::base::event::{Event, Sink};
use crate::host::state::Files;

/// How many runs are kept.
pub const KEPT: usize = 5;

/// Writes a run's events to a file.
///
/// It does not create the environment's directory: if nothing was created, there is nothing to record, and a
/// completed `down` deletes its own record too. So events are buffered until the directory exists.
pub struct Record {
    files: Files,
    command: &'static str,
    held_back: Vec<String>,
    file: Option<File>,
}

impl Record {
    /// Creates the record of a run of `command` on the environment with these files.
    pub fn new(files: Files, command: &'static str) -> Self {
        Self { files, command, held_back: Vec::new(), file: None }
    }

    /// Creates the file if the environment's directory exists.
    fn open(&self, time: Timestamp) -> std::io::Result<File> {
        let folder = self.files.runs();
        match DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let name = format!("{}-{}.jsonl", time.strftime("%Y-%m-%dT%H-%M-%S%.3fZ"), self.command);
        let file = OpenOptions::new().create_new(true).append(true).mode(0o600).open(folder.join(name))?;
        let runs = list(&self.files);
        for old in &runs[..runs.len().saturating_sub(KEPT)] {
            let _ = std::fs::remove_file(old);
        }
        Ok(file)
    }
}

impl Sink for Record {
    fn event(&mut self, time: Timestamp, event: &Event) {
        self.held_back.push(event.line(time));
        if self.file.is_none() {
            // A missing record is not an error: the disk may be full.
            self.file = self.open(time).ok();
        }
        if let Some(file) = &mut self.file {
            let lines = self.held_back.drain(..).fold(String::new(), |all, line| all + &line + "\n");
            let _ = file.write_all(lines.as_bytes());
        }
    }

    fn finish(&mut self) {}
}

/// An event of a recorded run.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// When it happened.
    pub time: Timestamp,
    /// The event.
    pub event: Event,
}

/// Returns the files of an environment's recorded runs, the oldest first.
pub fn list(files: &Files) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(files.runs()).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).filter(|path| is_record(path)).collect();
    paths.sort();
    paths
}

fn is_record(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "jsonl")
}

/// Returns the command of a recorded run, such as `up`.
pub fn command(path: &Path) -> Option<&str> {
    path.file_stem()?.to_str()?.rsplit_once('-').map(|(_, command)| command)
}

/// Reads a recorded run, in the order of the events. A run without a final event `ready` or `failed` was
/// interrupted or killed, is still running, or was a `down`, and its last line may be incomplete. Lines that
/// cannot be parsed, including other versions' events, are skipped.
///
/// # Errors
/// If the file cannot be read.
pub fn read(path: &Path) -> anyhow::Result<Vec<Recorded>> {
    #[derive(Deserialize)]
    struct Time {
        time: Timestamp,
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let line = |line: &str| {
        let time = serde_json::from_str::<Time>(line).ok()?.time;
        Some(Recorded { time, event: serde_json::from_str(line).ok()? })
    };
    Ok(text.lines().filter_map(line).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::diagnose::verify::{Status, Verdict};
    use crate::host::state::{Directories, write_private};
    use crate::report::testing::{at, failing_run, good_run, replay};

    fn files(folder: &Path) -> Files {
        Directories { state: folder.to_owned(), cache: folder.join("cache") }.environment("shop")
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        std::fs::create_dir(&files.root).unwrap();
        for run in [good_run(), failing_run()] {
            replay(&mut Record::new(files.clone(), "up"), &run);
            let paths = list(&files);
            let path = paths.last().unwrap();
            assert_eq!(command(path), Some("up"));
            assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
            let wanted: Vec<_> = run
                .into_iter()
                .filter_map(|(seconds, event)| Some(Recorded { time: at(seconds), event: event? }))
                .collect();
            assert_eq!(read(path).unwrap(), wanted);
            std::fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn run_round_trips_and_truncated_lines_are_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.jsonl");
        let verdict = Verdict {
            id: "mtls.strict".into(),
            claim: "a claim".into(),
            status: Status::Failed,
            seconds: 1.5,
            evidence: vec!["seen".into()],
            hint: None,
        };
        let event = Event::CheckFinished { verdict };
        let text = format!("{}\n{{\"time\":\"2026", event.line(at(1.0)));
        std::fs::write(&path, text).unwrap();
        assert_eq!(read(&path).unwrap(), [Recorded { time: at(1.0), event }]);
    }

    #[test]
    fn five_runs_are_kept_and_other_files_stay() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        write_private(&files.runs().join("notes.txt"), b"x").unwrap();
        for second in 0..8 {
            let note = Event::Note { message: second.to_string() };
            Record::new(files.clone(), "down").event(at(f64::from(second)), &note);
        }
        let kept = list(&files);
        assert_eq!(kept.len(), KEPT);
        let first = Event::Note { message: "3".into() };
        assert_eq!(read(&kept[0]).unwrap(), [Recorded { time: at(3.0), event: first }]);
        assert!(files.runs().join("notes.txt").exists());
        assert!(!files.exist(), "a record alone is not an environment");
    }

    #[test]
    fn record_creates_no_directory_and_keeps_earlier_events() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        let note = |text: &str| Event::Note { message: text.into() };
        let mut record = Record::new(files.clone(), "up");
        record.event(at(0.0), &note("before"));
        assert!(!files.root.exists());
        std::fs::create_dir(&files.root).unwrap();
        record.event(at(1.0), &note("after"));
        let events: Vec<_> = read(&list(&files)[0]).unwrap().into_iter().map(|recorded| recorded.event).collect();
        assert_eq!(events, [note("before"), note("after")]);
        // Like `down`: nothing reappears.
        assert!(files.remove().unwrap());
        record.event(at(2.0), &note("gone"));
        assert!(!files.root.exists());
    }
}
