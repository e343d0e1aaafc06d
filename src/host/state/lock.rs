//! Who works on an environment: one process at a time.

use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use super::private::failed;
use super::{Files, private_folder};
use crate::base::event::Step;
use crate::base::wait::{self, Poll};

/// The right to change an environment: held by one process at a time, given back by the system when it dies.
#[derive(Debug)]
pub struct Lock {
    _file: std::fs::File,
}

/// How long a second command waits for the first.
const LOCK_WITHIN: Duration = Duration::from_secs(600);

impl Lock {
    /// Takes the right, waiting for the process that has it and saying which that is.
    ///
    /// # Errors
    /// When it is not given back in time, or the file system refuses.
    pub async fn acquire(files: &Files, step: &Step) -> anyhow::Result<Self> {
        let path = files.lock();
        let deadline = tokio::time::Instant::now() + LOCK_WITHIN;
        wait::until(step, "the other kindmesh to end", deadline, async || Self::look(&path)).await
    }

    /// Whether a process has it, without taking or making anything.
    pub fn is_held(files: &Files) -> bool {
        let Ok(file) = std::fs::File::open(files.lock()) else { return false };
        matches!(file.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock))
    }

    fn look(path: &Path) -> anyhow::Result<Poll<Self>> {
        let what = || format!("locking {}", path.display());
        let removed = || Ok(Poll::NotYet("the environment is being removed".into()));
        if let Some(folder) = path.parent() {
            // The one before may have put the whole folder aside.
            private_folder(folder)?;
        }
        let mut options = std::fs::File::options();
        let opened = options.create(true).truncate(false).read(true).write(true).mode(0o600).open(path);
        let mut file = match opened {
            // It did so just now.
            Err(error) if error.kind() == ErrorKind::NotFound => return removed(),
            opened => opened.map_err(|error| failed("locking", path, &error))?,
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                let holder = match holder.trim() {
                    "" => "another process".into(),
                    pid => format!("process {pid}"),
                };
                return Ok(Poll::NotYet(format!("{holder} works on this environment")));
            }
            Err(std::fs::TryLockError::Error(error)) => return Err(error).with_context(what),
        }
        // `down` puts the folder aside with the lock in it: then the file that is locked is no longer the one there.
        let ours = file.metadata().with_context(what)?.ino();
        if std::fs::metadata(path).map(|there| there.ino()).ok() != Some(ours) {
            return removed();
        }
        // Only for the words of whoever waits: on a full disk they say less.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| write!(file, "{}", std::process::id()));
        Ok(Poll::Ready(Self { _file: file }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::event::Events;
    use crate::host::state::Folders;

    fn files(folder: &Path) -> Files {
        Folders { state: folder.to_owned(), cache: folder.join("cache") }.environment("e")
    }

    #[tokio::test]
    async fn one_at_a_time_and_the_second_hears_who() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        let step = Events::silent().step("lock", None);
        let first = Lock::acquire(&files, &step).await.unwrap();
        let Poll::NotYet(because) = Lock::look(&files.lock()).unwrap() else { panic!("locked twice") };
        assert!(because.contains(&std::process::id().to_string()), "{because}");
        drop(first);
        assert!(matches!(Lock::look(&files.lock()).unwrap(), Poll::Ready(_)));
    }

    #[tokio::test]
    async fn whoever_waited_while_the_folder_was_removed_has_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        let step = Events::silent().step("lock", None);
        let first = Lock::acquire(&files, &step).await.unwrap();
        assert!(files.remove().unwrap());
        // The first still holds the lock of the folder that is gone, and that hinders nobody.
        let _second = Lock::acquire(&files, &step).await.unwrap();
        assert!(files.lock().exists());
        drop(first);
        assert!(matches!(Lock::look(&files.lock()).unwrap(), Poll::NotYet(_)));
    }
}
