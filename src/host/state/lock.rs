//! The lock of an environment. Commands that create, pause, stop, start or delete it lock it exclusively; commands
//! that change its contents share the lock. So neither kind sees the other's incomplete work.
//!
//! It is the kernel's lock on a file, released however a process ends. A holder never acquires it again: a command
//! locks once, at its top level.

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use tokio::time::Instant;

use super::private::failed;
use super::{Files, private_folder};
use crate::base::event::{Events, Outcome, Step};
use crate::base::wait::{self, Poll};
use crate::host::tool::process;

/// The lock of an environment, held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// How long a command waits for another one.
const LOCK_TIMEOUT: Duration = Duration::from_secs(600);
/// What it waits for.
const WHAT: &str = "the other kindmesh command to finish";

impl Lock {
    /// Acquires the lock exclusively, to create, pause, stop, start or delete an environment. Waits for all other
    /// holders, and reports them; creates the environment's directory.
    ///
    /// # Errors
    /// If it is not available in time, or the file system reports an error.
    pub async fn exclusive(files: &Files, step: &Step) -> anyhow::Result<Self> {
        let path = files.lock();
        wait::until(step, WHAT, Instant::now() + LOCK_TIMEOUT, async || {
            // The previous holder may have moved the whole directory aside.
            private_folder(&files.root)?;
            Ok(match take(&path, Kind::Alone)? {
                Taken::Yes(lock) => Poll::Ready(lock),
                Taken::Busy(because) => Poll::NotYet(because),
                // It was moved just now.
                Taken::Gone => Poll::NotYet(REMOVED.into()),
            })
        })
        .await
    }

    /// Acquires the lock shared, to change the contents of an environment; none if its directory does not exist.
    /// Waits for an exclusive holder until the deadline, at most as long as any command waits for the lock; a step is
    /// reported only then.
    ///
    /// # Errors
    /// As for [`Lock::exclusive`].
    pub async fn shared(
        files: &Files,
        deadline: Option<Instant>,
        events: &Events,
    ) -> anyhow::Result<Option<Self>> {
        let path = files.lock();
        let look = async || {
            Ok(match take(&path, Kind::Beside)? {
                Taken::Yes(lock) => Poll::Ready(Some(lock)),
                Taken::Busy(because) => Poll::NotYet(because),
                Taken::Gone => Poll::Ready(None),
            })
        };
        if let Poll::Ready(lock) = look().await? {
            return Ok(lock);
        }
        let longest = Instant::now() + LOCK_TIMEOUT;
        let deadline = deadline.map_or(longest, |deadline| deadline.min(longest));
        let step = events.step("lock", None);
        step.run(async |step| Ok(Outcome::unchanged(wait::until(step, WHAT, deadline, look).await?))).await
    }

    /// Acquires the lock of what only one process may do at a time in an environment that exists, or returns its holder.
    ///
    /// # Errors
    /// The file system's errors.
    pub fn only(files: &Files, what: &str) -> anyhow::Result<Result<Self, String>> {
        Ok(match take(&files.root.join(format!("{what}.lock")), Kind::Alone)? {
            Taken::Yes(lock) => Ok(lock),
            Taken::Busy(because) => Err(because),
            Taken::Gone => Err(REMOVED.into()),
        })
    }

    /// Whether another process holds it exclusively, without acquiring or creating anything.
    pub fn is_held(files: &Files) -> bool {
        let Ok(file) = File::open(files.lock()) else { return false };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Alone,
    Beside,
}

/// The result of an attempt.
enum Taken {
    Yes(Lock),
    /// The holders.
    Busy(String),
    /// There is no directory.
    Gone,
}

const REMOVED: &str = "the environment is being deleted";

fn take(path: &Path, kind: Kind) -> anyhow::Result<Taken> {
    let what = || format!("locking {}", path.display());
    let opened = File::options().create(true).append(true).read(true).mode(0o600).open(path);
    let mut file = match opened {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Taken::Gone),
        opened => opened.map_err(|error| failed("locking", path, &error))?,
    };
    let locked = match kind {
        Kind::Alone => file.try_lock(),
        Kind::Beside => file.try_lock_shared(),
    };
    match locked {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(Taken::Busy(holders(&mut file))),
        Err(TryLockError::Error(error)) => return Err(error).with_context(what),
    }
    // `down` moves the directory aside with its lock: then the locked file is no longer the one at the path.
    let ours = file.metadata().with_context(what)?.ino();
    if std::fs::metadata(path).map(|there| there.ino()).ok() != Some(ours) {
        return Ok(Taken::Busy(REMOVED.into()));
    }
    // Only for the message of waiting processes, which says less if the disk is full. Shared holders append theirs.
    let emptied = if kind == Kind::Alone { file.set_len(0) } else { Ok(()) };
    let _ = emptied.and_then(|()| file.write_all(format!("\n{}\n", std::process::id()).as_bytes()));
    Ok(Taken::Yes(Lock { _file: file }))
}

/// Returns the holders, from the IDs that they wrote. If there are several, those that have exited are omitted.
fn holders(file: &mut File) -> String {
    let mut text = String::new();
    let _ = file.read_to_string(&mut text);
    let mut pids: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    pids.sort_unstable();
    pids.dedup();
    if pids.len() > 1 {
        let alive = process::all();
        pids.retain(|pid| alive.iter().any(|process| process.pid == *pid));
    }
    match pids.as_slice() {
        [] => "another process uses this environment".into(),
        [one] => format!("process {one} uses this environment"),
        several => {
            let several: Vec<_> = several.iter().map(ToString::to_string).collect();
            format!("processes {} use this environment", several.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::event::{Event, Events};
    use crate::host::state::Directories;

    fn files(folder: &Path) -> Files {
        Directories { state: folder.to_owned(), cache: folder.join("cache") }.environment("e")
    }

    fn busy(files: &Files, kind: Kind) -> String {
        match take(&files.lock(), kind).unwrap() {
            Taken::Busy(because) => because,
            Taken::Yes(_) => panic!("taken"),
            Taken::Gone => panic!("gone"),
        }
    }

    async fn alone(files: &Files) -> Lock {
        Lock::exclusive(files, &Events::silent().step("lock", None)).await.unwrap()
    }

    async fn beside(files: &Files) -> Option<Lock> {
        Lock::shared(files, None, &Events::silent()).await.unwrap()
    }

    #[tokio::test]
    async fn exclusive_lock_blocks_others_and_names_its_holder() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        let first = alone(&files).await;
        let who = format!("process {} uses this environment", std::process::id());
        assert_eq!(busy(&files, Kind::Alone), who);
        assert_eq!(busy(&files, Kind::Beside), who);
        assert!(Lock::is_held(&files));
        drop(first);
        assert!(!Lock::is_held(&files));
        alone(&files).await;
    }

    #[tokio::test]
    async fn only_one_process_does_it_beside_others() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        drop(alone(&files).await);
        let _shared = beside(&files).await;
        let first = Lock::only(&files, "experiment").unwrap().unwrap();
        let second = Lock::only(&files, "experiment").unwrap().unwrap_err();
        assert_eq!(second, format!("process {} uses this environment", std::process::id()));
        drop(first);
        assert!(Lock::only(&files, "experiment").unwrap().is_ok());
    }

    #[tokio::test]
    async fn shared_holders_block_an_exclusive_lock() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        drop(alone(&files).await);
        let (first, second) = (beside(&files).await, beside(&files).await);
        assert!(first.is_some() && second.is_some());
        assert!(!Lock::is_held(&files), "there is no exclusive holder");
        drop(first);
        assert_eq!(busy(&files, Kind::Alone), format!("process {} uses this environment", std::process::id()));
        drop(second);
        alone(&files).await;
    }

    #[tokio::test]
    async fn wait_names_the_lock_holder_and_ends_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        let first = alone(&files).await;
        let (events, mut happened) = Events::channel();
        let waiting = Lock::shared(&files, None, &events);
        let release = async move {
            loop {
                let Event::Waiting { last, .. } = happened.recv().await.unwrap() else { continue };
                assert!(last.starts_with("process "), "{last}");
                return drop(first);
            }
        };
        let (second, ()) = futures::join!(waiting, release);
        assert!(second.unwrap().is_some());
    }

    #[tokio::test]
    async fn wait_ends_at_its_deadline_with_the_last_status() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        let _first = alone(&files).await;
        let soon = Instant::now() + Duration::from_millis(60);
        let error = Lock::shared(&files, Some(soon), &Events::silent()).await.unwrap_err();
        let error = crate::base::error::find(&error).unwrap();
        assert_eq!(error.evidence, [format!("last status: process {} uses this environment", std::process::id())]);
    }

    /// Like a lock of another process: the lock belongs to the open file, and a child process has inherited it.
    #[tokio::test]
    async fn killed_process_releases_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        for take in [Kind::Alone, Kind::Beside] {
            drop(alone(&files).await);
            let Taken::Yes(lock) = super::take(&files.lock(), take).unwrap() else { panic!("not taken") };
            let mut other = std::process::Command::new("sleep").arg("1000").stdin(lock._file).spawn().unwrap();
            assert!(busy(&files, Kind::Alone).starts_with("process "));
            other.kill().unwrap();
            other.wait().unwrap();
            alone(&files).await;
        }
    }

    #[tokio::test]
    async fn shared_holders_are_named_without_exited_ones() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        // Once the process responds, it runs its program; before that, it has no command line.
        let pipe = std::process::Stdio::piped;
        let mut child = std::process::Command::new("cat").stdin(pipe()).stdout(pipe()).spawn().unwrap();
        child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        drop(alone(&files).await);
        let _held = beside(&files).await.unwrap();
        let mut pids = [child.id(), std::process::id()];
        pids.sort_unstable();
        // As another shared holder writes it, and as an exited one wrote it.
        let mut file = File::options().append(true).open(files.lock()).unwrap();
        write!(file, "\n{}\n\n{}\n", child.id(), u32::MAX).unwrap();
        let both = format!("processes {}, {} use this environment", pids[0], pids[1]);
        assert_eq!(busy(&files, Kind::Alone), both);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(busy(&files, Kind::Alone), format!("process {} uses this environment", std::process::id()));
    }

    #[tokio::test]
    async fn waiter_gets_a_new_directory_after_removal() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        let first = alone(&files).await;
        assert!(files.remove().unwrap());
        // The first one still holds the lock of the deleted directory, which affects no other process.
        let _second = alone(&files).await;
        assert!(files.lock().exists());
        drop(first);
        assert!(busy(&files, Kind::Alone).starts_with("process "));
    }

    #[tokio::test]
    async fn shared_lock_creates_no_directory() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        assert!(beside(&files).await.is_none());
        let _first = alone(&files).await;
        assert!(files.remove().unwrap());
        assert!(beside(&files).await.is_none());
        assert!(!files.root.exists());
    }
}
