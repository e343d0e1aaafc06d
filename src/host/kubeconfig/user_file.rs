//! The user's own kubeconfig on disk: read, locked, and replaced as a whole.

use std::path::{Path, PathBuf};

use anyhow::Context;
use tokio::time::{Duration, Instant};

use super::entries::{self, Mark};
use super::lock::{self, Lock};
use crate::base::error::Error;
use crate::base::event::{Events, Outcome, Step};
use crate::base::wait::{self, Poll};
use crate::host::state::{self, Files};

/// Returns the user's own kubeconfig: the first of `KUBECONFIG`, else `~/.kube/config`.
///
/// # Errors
/// If neither that variable nor HOME is set.
pub fn users_own() -> Result<PathBuf, Error> {
    let listed = std::env::var_os("KUBECONFIG").unwrap_or_default();
    let first = std::env::split_paths(&listed).find(|path| !path.as_os_str().is_empty());
    first
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".kube/config")))
        .ok_or_else(|| Error::prerequisite("neither KUBECONFIG nor HOME is set"))
}

/// How long `down` waits for another program that is changing the file: kubectl takes milliseconds.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a merge waits: kind holds the lock while it writes a whole cluster.
pub const MERGE_TIMEOUT: Duration = Duration::from_secs(10);

/// Adds an environment's clusters, users and contexts to the user's own file, replacing those that it added before
/// and keeping everything else, including the current context. Waits at most `within` for another program that has
/// locked the file.
///
/// # Errors
/// A usage error if kindmesh did not add an entry of the same name; or if a file cannot be read or written, or
/// another program keeps the user's file locked.
pub async fn merge_into(
    users: &Path,
    files: &Files,
    environment: &str,
    within: Duration,
    events: &Events,
) -> anyhow::Result<()> {
    let users = real(users);
    let from = files.kubeconfig();
    if from.canonicalize().is_ok_and(|from| from == users) {
        return Err(Error::usage("KUBECONFIG names the environment's own file: there is nothing to merge into")
            .hint("unset KUBECONFIG, then: kindmesh kubeconfig --merge")
            .into());
    }
    let text = std::fs::read_to_string(&from).with_context(|| format!("reading {}", from.display()))?;
    let engine = files.engine_on_file()?.engine.map(|engine| engine.id).unwrap_or_default();
    let mark = Mark { environment: environment.to_owned(), engine };
    // Before the file is changed, so that `down` finds it even if this process is killed.
    note(files, &users)?;
    let _lock = match Lock::take(&users)? {
        Some(lock) => lock,
        None => {
            let step = events.step("merge", None);
            // The step's name would add nothing to the error: the command has no other step.
            let lock = lock(&users, within, &step).await?;
            step.run(async |_| Ok(Outcome::unchanged(lock))).await?
        }
    };
    match entries::with(&read(&users)?, &text, &mark, &users.display().to_string())? {
        Some(text) => state::replace(&users, text.as_bytes()),
        None => Ok(()),
    }
}

/// Returns the files with entries of an environment on this engine: those that it was merged into, and the user's
/// own. An invalid file is included if it was merged into.
pub fn merged_into(files: &Files, mark: &Mark) -> Vec<PathBuf> {
    let listed = noted(files);
    let mut found = listed.clone();
    found.extend(users_own().ok().map(|users| real(&users)).filter(|users| !listed.contains(users)));
    found.retain(|users| match read(users) {
        Ok(text) => match entries::without(&text, mark, "") {
            Ok(changed) => changed.is_some(),
            Err(_) => listed.contains(users),
        },
        Err(_) => false,
    });
    found
}

/// Removes an environment's entries from a file.
///
/// # Errors
/// If the file is invalid, cannot be written, or another program keeps it locked.
pub async fn remove_from(users: &Path, mark: &Mark, step: &Step) -> anyhow::Result<bool> {
    let _lock = lock(users, LOCK_TIMEOUT, step).await?;
    match entries::without(&read(users)?, mark, &users.display().to_string())? {
        Some(text) => state::replace(users, text.as_bytes()).map(|()| true),
        None => Ok(false),
    }
}

/// Waits for the lock of a file.
///
/// # Errors
/// If another program keeps it; otherwise the file system's errors.
async fn lock(users: &Path, within: Duration, step: &Step) -> anyhow::Result<Lock> {
    let what = format!("another program to finish changing {}", users.display());
    let lock = wait::until(step, &what, Instant::now() + within, async || {
        Ok(match Lock::take(users)? {
            Some(lock) => Poll::Ready(lock),
            None => Poll::NotYet(format!("{} exists", lock::path(users).display())),
        })
    });
    lock.await.map_err(|error| match error.is::<Error>() {
        true => lock::taken(users).into(),
        false => error,
    })
}

/// Returns the file to change: of a symbolic link, as dotfiles often are, the target, whether or not it exists.
fn real(users: &Path) -> PathBuf {
    let target = || Some(users.parent()?.join(std::fs::read_link(users).ok()?));
    users.canonicalize().ok().or_else(target).unwrap_or_else(|| users.to_owned())
}

/// Returns the file's text; empty if it does not exist.
fn read(users: &Path) -> anyhow::Result<String> {
    // A pipe may never have a writer.
    if std::fs::metadata(users).is_ok_and(|found| !found.is_file()) {
        return Err(Error::environment(format!(
            "{}: not a kubeconfig: it is not a regular file",
            users.display()
        ))
        .hint("set KUBECONFIG to a kubeconfig file")
        .into());
    }
    match std::fs::read_to_string(users) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            Err(Error::environment(format!("{}: not a kubeconfig: it is not UTF-8 text", users.display()))
                .hint("the file is unchanged")
                .into())
        }
        Err(error) => Err(error).with_context(|| format!("reading {}", users.display())),
    }
}

/// Returns the files that the environment was merged into, as its own files record.
fn noted(files: &Files) -> Vec<PathBuf> {
    let text = std::fs::read_to_string(files.merged()).unwrap_or_default();
    text.lines().map(PathBuf::from).collect()
}

fn note(files: &Files, users: &Path) -> anyhow::Result<bool> {
    let mut listed = noted(files);
    if !listed.iter().any(|path| path == users) {
        listed.push(users.to_owned());
    }
    let lines: String = listed.iter().map(|path| format!("{}\n", path.display())).collect();
    state::write_private(&files.merged(), lines.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error;
    use crate::base::event::Event;

    const OURS: &str =
        "{clusters: [{name: kind-e-a, cluster: {server: 'https://127.0.0.1:1'}}], users: [], contexts: []}";

    struct Merge {
        _folder: tempfile::TempDir,
        files: Files,
        users: PathBuf,
        lock: PathBuf,
    }

    impl Merge {
        fn locked() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let files = Files { root: folder.path().join("e") };
            state::write_private(&files.kubeconfig(), OURS.as_bytes()).unwrap();
            let users = folder.path().canonicalize().unwrap().join("config");
            let lock = lock::path(&users);
            std::fs::write(&lock, "").unwrap();
            Self { _folder: folder, files, users, lock }
        }

        async fn merge(&self, within: Duration, events: Events) -> anyhow::Result<()> {
            merge_into(&self.users, &self.files, "e", within, &events).await
        }
    }

    #[tokio::test]
    async fn merge_waits_for_another_programs_lock() {
        let merge = Merge::locked();
        let (events, mut happened) = Events::channel();
        let unlock = async {
            while let Some(event) = happened.recv().await {
                if let Event::Waiting { step, last, .. } = event {
                    assert_eq!((step.as_str(), last), ("merge", format!("{} exists", merge.lock.display())));
                    std::fs::remove_file(&merge.lock).unwrap();
                }
            }
        };
        let merging = async {
            let merged = merge.merge(Duration::from_secs(60), events.clone()).await;
            events.end();
            merged
        };
        let (merged, ()) = futures::join!(merging, unlock);
        merged.unwrap();
        assert!(std::fs::read_to_string(&merge.users).unwrap().contains("kind-e-a"));
        assert!(!merge.lock.exists());
    }

    #[tokio::test]
    async fn lasting_lock_is_named_and_kept() {
        let merge = Merge::locked();
        let error = merge.merge(Duration::from_millis(100), Events::silent()).await.unwrap_err();
        let error = error::find(&error).unwrap();
        let hint = format!("try again; if no other program is running, remove {}", merge.lock.display());
        assert_eq!(error.hint.as_deref(), Some(hint.as_str()));
        assert!(merge.lock.exists() && !merge.users.exists());
    }
}
