//! The environment's files: the state folder, and who works on it.

use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::error::Error;
use crate::event::Step;
use crate::wait::{self, Poll};

/// Where kindmesh keeps files; on macOS too.
#[derive(Debug, Clone)]
pub struct Folders {
    /// `$XDG_STATE_HOME/kindmesh`: a folder for each environment.
    pub state: PathBuf,
    /// `$XDG_CACHE_HOME/kindmesh`: what can be had again.
    pub cache: PathBuf,
}

impl Folders {
    /// Those of this process.
    ///
    /// # Errors
    /// When neither the XDG variables nor HOME say where.
    pub fn of_process() -> Result<Self, Error> {
        let folder = |variable: &str, below_home: &str| {
            let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
            // The XDG specification: relative paths are to be ignored.
            set(variable)
                .filter(|path| path.is_absolute())
                .or_else(|| set("HOME").map(|home| home.join(below_home)))
                .map(|base| base.join("kindmesh"))
                .ok_or_else(|| Error::prerequisite(format!("neither {variable} nor HOME is set")))
        };
        Ok(Self {
            state: folder("XDG_STATE_HOME", ".local/state")?,
            cache: folder("XDG_CACHE_HOME", ".cache")?,
        })
    }

    /// The files of one environment.
    pub fn environment(&self, name: &str) -> Files {
        Files { root: self.state.join(name) }
    }

    /// The environments that have files.
    pub fn environments(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(&self.state) else { return Vec::new() };
        let mut names: Vec<_> =
            entries.flatten().filter(|e| e.path().is_dir()).filter_map(|e| e.file_name().into_string().ok()).collect();
        names.sort();
        names
    }
}

/// The files of one environment.
#[derive(Debug, Clone)]
pub struct Files {
    /// Their folder.
    pub root: PathBuf,
}

impl Files {
    /// The resolved spec that the environment was made from.
    pub fn spec(&self) -> PathBuf {
        self.root.join("kindmesh.yaml")
    }

    /// The kubeconfig with every cluster.
    pub fn kubeconfig(&self) -> PathBuf {
        self.root.join("kubeconfig")
    }

    /// The certificates and keys.
    pub fn trust(&self) -> PathBuf {
        self.root.join("trust")
    }

    /// A file of one cluster: its own kubeconfig, kind's configuration, log and process id.
    pub fn of_cluster(&self, cluster: &str, file: &str) -> PathBuf {
        self.root.join("clusters").join(cluster).join(file)
    }

    /// Removes everything.
    ///
    /// # Errors
    /// The file system's.
    pub fn remove(&self) -> anyhow::Result<bool> {
        match std::fs::remove_dir_all(&self.root) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).with_context(|| format!("removing {}", self.root.display())),
        }
    }
}

/// Makes a folder that only its owner may enter.
///
/// # Errors
/// The file system's.
pub fn private_folder(path: &Path) -> anyhow::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("making the folder {}", path.display()))
}

/// Writes a file that only its owner may read: whole or not at all, and not when it is as wanted.
///
/// # Errors
/// The file system's.
pub fn write_private(path: &Path, content: &[u8]) -> anyhow::Result<bool> {
    if std::fs::read(path).is_ok_and(|has| has == content) {
        return Ok(false);
    }
    let what = || format!("writing {}", path.display());
    let folder = path.parent().with_context(what)?;
    private_folder(folder)?;
    let mut file = tempfile::Builder::new()
        .permissions(std::fs::Permissions::from_mode(0o600))
        .tempfile_in(folder)
        .with_context(what)?;
    file.write_all(content).with_context(what)?;
    file.persist(path).with_context(what)?;
    Ok(true)
}

/// The right to change an environment: held by one process at a time, given back by the system when it dies.
#[derive(Debug)]
pub struct Lock {
    _file: std::fs::File,
}

/// How long a second command waits for the first.
const LOCK_WITHIN: std::time::Duration = std::time::Duration::from_secs(600);

impl Lock {
    /// Takes the right, waiting for the process that has it and saying which that is.
    ///
    /// # Errors
    /// When it is not given back in time, or the file system refuses.
    pub async fn acquire(files: &Files, step: &Step) -> anyhow::Result<Self> {
        private_folder(&files.root)?;
        let path = files.root.join("lock");
        let deadline = tokio::time::Instant::now() + LOCK_WITHIN;
        wait::until(step, "the other kindmesh to end", deadline, async || Self::look(&path)).await
    }

    fn look(path: &Path) -> anyhow::Result<Poll<Self>> {
        let what = || format!("locking {}", path.display());
        if let Some(folder) = path.parent() {
            // The one before may have removed the whole folder.
            private_folder(folder)?;
        }
        let mut file = std::fs::File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .with_context(what)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                return Ok(Poll::NotYet(format!("process {} works on this environment", holder.trim())));
            }
            Err(std::fs::TryLockError::Error(error)) => return Err(error).with_context(what),
        }
        // `down` removes the folder with the lock in it: then the file that is locked is no longer the one there.
        let ours = file.metadata().with_context(what)?.ino();
        if std::fs::metadata(path).map(|there| there.ino()).ok() != Some(ours) {
            return Ok(Poll::NotYet("the environment is being removed".into()));
        }
        file.set_len(0).with_context(what)?;
        file.rewind().with_context(what)?;
        write!(file, "{}", std::process::id()).with_context(what)?;
        Ok(Poll::Ready(Self { _file: file }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Events;

    #[test]
    fn private_files_are_private_and_written_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        assert!(write_private(&path, b"x").unwrap());
        assert!(!write_private(&path, b"x").unwrap());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[tokio::test]
    async fn one_at_a_time_and_the_second_hears_who() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files { root: folder.path().join("e") };
        let step = Events::silent().step("lock", None);
        let first = Lock::acquire(&files, &step).await.unwrap();
        let Poll::NotYet(because) = Lock::look(&files.root.join("lock")).unwrap() else { panic!("locked twice") };
        assert!(because.contains(&std::process::id().to_string()), "{because}");
        drop(first);
        assert!(matches!(Lock::look(&files.root.join("lock")).unwrap(), Poll::Ready(_)));
    }
}
