//! The record of an outage: nodes that a command killed and starts again. If that command is killed, the record tells the next
//! one what to start.

use std::fmt;
use std::fs::{File, TryLockError};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::state::{Files, private_folder};
use crate::base::error::Error;

/// Nodes that were killed on purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outage {
    /// `kill-cluster` or `kill-zone`.
    pub fault: String,
    /// The cluster or the zone.
    pub subject: String,
    /// The clusters with these nodes.
    pub clusters: Vec<String>,
    /// The nodes.
    pub nodes: Vec<String>,
    /// When they are to be started again.
    pub ends: Timestamp,
}

/// An outage whose command still runs.
#[derive(Debug)]
pub struct Held {
    /// The outage.
    pub outage: Outage,
    path: PathBuf,
    // The kernel's lock on it tells others that this process lives.
    _file: File,
}

/// A recorded outage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Recorded {
    /// The outage.
    #[serde(flatten)]
    pub outage: Outage,
    /// Whether its command was killed, so that nothing ends it yet.
    pub orphaned: bool,
}

impl Outage {
    /// Returns the path of its record.
    fn path(&self, files: &Files) -> PathBuf {
        files.outages().join(format!("{}-{}", self.fault, self.subject))
    }

    /// Records it, before anything is killed.
    ///
    /// # Errors
    /// If a command has killed the same already, or the file system reports an error.
    pub fn record(self, files: &Files) -> anyhow::Result<Held> {
        let folder = files.outages();
        private_folder(&folder)?;
        let path = self.path(files);
        if let Ok(file) = File::open(&path)
            && matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
        {
            return Err(Error::usage(format!("{} is already killed", self.subject))
                .hint("wait for the command that did it, or press Ctrl-C there")
                .into());
        }
        let what = || format!("writing {}", path.display());
        // The lock stays with the file when it is renamed, so it is never seen without its lock.
        let new = folder.join(format!(".{}", std::process::id()));
        let mut file =
            File::options().create(true).write(true).truncate(true).mode(0o600).open(&new).with_context(what)?;
        file.lock().with_context(what)?;
        file.write_all(&serde_json::to_vec(&self)?).with_context(what)?;
        std::fs::rename(&new, &path).with_context(what)?;
        Ok(Held { outage: self, path, _file: file })
    }
}

impl Recorded {
    /// Whether nodes of a cluster are among those killed.
    pub fn is_in(&self, cluster: &str) -> bool {
        self.outage.clusters.iter().any(|name| name == cluster)
    }

    /// Returns what it is, and when it ends.
    pub fn described(&self) -> String {
        format!("{self}, {}", self.ending())
    }

    /// Returns when it ends, relative to now.
    pub fn ending(&self) -> String {
        let left = self.outage.ends.duration_since(Timestamp::now()).as_secs();
        match (self.orphaned, left) {
            (true, _) => "its command was killed: the next kindmesh command starts the nodes".into(),
            (false, left) if left <= 0 => "its nodes are being started".into(),
            (false, left) => format!("ends in {left} s"),
        }
    }
}

/// `cluster2 killed by kindmesh fault kill-cluster`.
impl fmt::Display for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} killed by kindmesh fault {}", self.outage.subject, self.outage.fault)
    }
}

impl Held {
    /// Deletes the record: the nodes run again.
    ///
    /// # Errors
    /// The file system's.
    pub fn end(self) -> anyhow::Result<()> {
        remove(&self.path)
    }
}

/// Returns the recorded outages of an environment.
pub fn all(files: &Files) -> Vec<Recorded> {
    let entries = std::fs::read_dir(files.outages()).into_iter().flatten().flatten();
    let mut found: Vec<Recorded> = entries.filter_map(|entry| read(&entry.path())).collect();
    found.sort_by(|a, b| a.outage.subject.cmp(&b.outage.subject));
    found
}

fn read(path: &Path) -> Option<Recorded> {
    if path.file_name()?.to_str()?.starts_with('.') {
        return None;
    }
    let outage = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    let orphaned = File::open(path).is_ok_and(|file| file.try_lock_shared().is_ok());
    Some(Recorded { outage, orphaned })
}

/// Fails while a command keeps nodes down.
///
/// # Errors
/// An environment error that names the command.
pub fn none_held(files: &Files) -> Result<(), Error> {
    match all(files).into_iter().find(|found| !found.orphaned) {
        None => Ok(()),
        Some(held) => Err(Error::environment(held.described())
            .hint(format!("wait for its end, or press Ctrl-C in kindmesh fault {}", held.outage.fault))),
    }
}

/// Deletes the records of outages whose commands were killed: their nodes run again.
///
/// # Errors
/// The file system's.
pub fn forget_orphans(files: &Files) -> anyhow::Result<()> {
    for orphan in all(files).into_iter().filter(|recorded| recorded.orphaned) {
        remove(&orphan.outage.path(files))?;
    }
    Ok(())
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outage(subject: &str) -> Outage {
        Outage {
            fault: "kill-cluster".into(),
            subject: subject.into(),
            clusters: vec![subject.into()],
            nodes: vec![format!("e-{subject}-control-plane")],
            ends: Timestamp::from_second(1_795_773_600).unwrap(),
        }
    }

    #[test]
    fn outage_of_a_dead_command_is_an_orphan() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files { root: directory.path().to_owned() };
        assert_eq!(all(&files), []);
        let held = outage("b").record(&files).unwrap();
        // A process that ends without a word drops its lock, but not the record.
        drop(outage("a").record(&files).unwrap());
        let orphaned: Vec<_> =
            all(&files).into_iter().map(|found| (found.outage.subject, found.orphaned)).collect();
        assert_eq!(orphaned, [("a".to_owned(), true), ("b".to_owned(), false)]);
        assert!(outage("b").record(&files).is_err());
        forget_orphans(&files).unwrap();
        assert_eq!(all(&files), [Recorded { outage: outage("b"), orphaned: false }]);
        held.end().unwrap();
        assert_eq!(all(&files), []);
    }
}
