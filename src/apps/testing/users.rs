//! Which test processes use an environment. Each holds a shared lock on a file as long as it runs: the system
//! releases it, however the process ends. A process that gets the exclusive lock knows that there is no other.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use tokio::time::Instant;

use crate::base::event::Step;
use crate::base::wait::{self, Poll};
use crate::host::state::Directories;

/// The files by which test processes coordinate, beside the environment: they outlive it.
#[derive(Debug, Clone)]
pub(super) struct Users {
    folder: PathBuf,
    name: String,
}

/// A lock on one of the files, released when it is dropped.
#[derive(Debug)]
pub struct Held {
    _file: File,
}

impl Users {
    pub fn of(folders: &Directories, name: &str) -> Self {
        Self { folder: folders.cache.join("testing"), name: name.to_owned() }
    }

    /// A file beside the locks: the watcher's output.
    pub fn log(&self) -> PathBuf {
        self.path("log")
    }

    fn path(&self, end: &str) -> PathBuf {
        self.folder.join(format!("{}.{end}", self.name))
    }

    fn file(&self, end: &str) -> anyhow::Result<File> {
        let path = self.path(end);
        let what = || format!("locking {}", path.display());
        std::fs::create_dir_all(&self.folder).with_context(what)?;
        let opened = File::options().create(true).truncate(false).read(true).write(true).open(&path);
        opened.with_context(what)
    }

    /// Registers this process as a user of the environment. Waits while it is being deleted.
    pub async fn join(&self, step: &Step, deadline: Instant) -> anyhow::Result<Held> {
        let what = "the unused environment to be deleted";
        let held = self.lock("users", false, what, step, deadline).await?;
        // The process that waits for the last user notices a new one.
        let _ = held._file.set_modified(SystemTime::now());
        Ok(held)
    }

    /// Uses the environment together with other tests, or alone.
    pub async fn take_part(&self, alone: bool, step: &Step, deadline: Instant) -> anyhow::Result<Held> {
        let what = if alone { "all other tests to end" } else { "the test that runs alone to end" };
        self.lock("alone", alone, what, step, deadline).await
    }

    /// Whether no other test uses it; then none can start until this is dropped.
    pub fn try_alone(&self) -> anyhow::Result<Option<Held>> {
        try_lock(self.file("alone")?, true)
    }

    /// The watcher's lock: one process holds it.
    pub fn try_watch(&self) -> anyhow::Result<Option<Held>> {
        try_lock(self.file("watcher")?, true)
    }

    /// Waits until the environment was unused for some time; no process can use it until this is dropped.
    pub async fn unused(&self, grace: Duration, step: &Step, deadline: Instant) -> anyhow::Result<Held> {
        let mut busy = SystemTime::now();
        wait::until(step, "all tests to end", deadline, async || {
            let file = self.file("users")?;
            let joined =
                file.metadata().and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            let Some(held) = try_lock(file, true)? else {
                busy = SystemTime::now();
                return Ok(Poll::NotYet("tests use it".into()));
            };
            let since = busy.max(joined).elapsed().unwrap_or_default();
            Ok(match since >= grace {
                true => Poll::Ready(held),
                false => Poll::NotYet("unused".into()),
            })
        })
        .await
    }

    async fn lock(
        &self,
        end: &str,
        alone: bool,
        what: &str,
        step: &Step,
        deadline: Instant,
    ) -> anyhow::Result<Held> {
        wait::until(step, what, deadline, async || {
            Ok(match try_lock(self.file(end)?, alone)? {
                Some(held) => Poll::Ready(held),
                None => Poll::NotYet(format!("{} is locked", self.path(end).display())),
            })
        })
        .await
    }
}

fn try_lock(file: File, alone: bool) -> anyhow::Result<Option<Held>> {
    match if alone { file.try_lock() } else { file.try_lock_shared() } {
        Ok(()) => Ok(Some(Held { _file: file })),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error).context("locking a file"),
    }
}

/// Where an environment records that tests created it, and so may delete it.
pub(super) fn made_by_tests(root: &Path) -> PathBuf {
    root.join("made-by-tests")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::event::Events;

    fn users(folder: &Path) -> Users {
        Users::of(&Directories { state: folder.join("state"), cache: folder.to_owned() }, "e")
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(300)
    }

    #[tokio::test]
    async fn environment_is_unused_some_time_after_the_last_process() {
        let folder = tempfile::tempdir().unwrap();
        let (users, step) = (users(folder.path()), Events::silent().step("lock", None));
        let [first, second] = [users.join(&step, soon()).await.unwrap(), users.join(&step, soon()).await.unwrap()];
        drop(first);
        assert!(users.unused(Duration::ZERO, &step, soon()).await.is_err());
        drop(second);
        assert!(users.unused(Duration::from_secs(60), &step, soon()).await.is_err());
        let alone = users.unused(Duration::ZERO, &step, soon()).await.unwrap();
        assert!(users.join(&step, soon()).await.is_err(), "joined while it was being deleted");
        drop(alone);
        users.join(&step, soon()).await.unwrap();
    }

    #[tokio::test]
    async fn exclusive_lock_is_exclusive() {
        let folder = tempfile::tempdir().unwrap();
        let (users, step) = (users(folder.path()), Events::silent().step("lock", None));
        let beside = users.take_part(false, &step, soon()).await.unwrap();
        let _beside = users.take_part(false, &step, soon()).await.unwrap();
        assert!(users.take_part(true, &step, soon()).await.is_err() && users.try_alone().unwrap().is_none());
        drop((beside, _beside));
        let _alone = users.take_part(true, &step, soon()).await.unwrap();
        assert!(users.take_part(false, &step, soon()).await.is_err());
        assert!(users.try_watch().unwrap().is_some());
    }
}
