//! The environment's files: the state directory, its lock, and the engine that it belongs to.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::base::error::Error;
use crate::host::tool::process;
use crate::spec::Label;

mod consent;
mod engine;
mod lock;
mod private;

pub use lock::Lock;
pub use private::{begin_private, private_folder, replace, restrict, write_private};

/// The directories of kindmesh; the same on macOS.
#[derive(Debug, Clone)]
pub struct Directories {
    /// `$XDG_STATE_HOME/kindmesh`: a directory for each environment.
    pub state: PathBuf,
    /// `$XDG_CACHE_HOME/kindmesh`: files that can be created again.
    pub cache: PathBuf,
}

impl Directories {
    /// Reads them from this process.
    ///
    /// # Errors
    /// If neither the XDG variables nor HOME are set.
    pub fn of_process() -> Result<Self, Error> {
        let folder = |variable: &str, below_home: &str| {
            let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
            // The XDG specification: ignore relative paths.
            set(variable)
                .filter(|path| path.is_absolute())
                .or_else(|| set("HOME").map(|home| home.join(below_home)))
                .map(|base| base.join("kindmesh"))
                .ok_or_else(|| {
                    Error::prerequisite(format!("neither {variable} nor HOME is set"))
                        .hint("set HOME; or set XDG_STATE_HOME and XDG_CACHE_HOME to absolute paths")
                })
        };
        Ok(Self { state: folder("XDG_STATE_HOME", ".local/state")?, cache: folder("XDG_CACHE_HOME", ".cache")? })
    }

    /// Returns the files of one environment.
    pub fn environment(&self, name: &str) -> Files {
        Files { root: self.state.join(name) }
    }

    /// Returns the directory of the templates of clusters. It is not part of the cache, which others may copy: templates hold
    /// keys.
    pub fn templates(&self) -> PathBuf {
        self.state.join(".templates")
    }

    /// Returns the directory of saved snapshots.
    pub fn snapshots(&self) -> PathBuf {
        self.state.join(".snapshots")
    }

    /// Returns the environments that have files.
    pub fn environments(&self) -> Vec<String> {
        let mut names = self.begun();
        names.retain(|name| self.environment(name).exist());
        names
    }

    /// Returns the environments that have files, and those that a command has just started to create.
    pub fn begun(&self) -> Vec<String> {
        let mut names: Vec<_> = names_in(&self.state).filter(|name| name.parse::<Label>().is_ok()).collect();
        names.retain(|name| self.state.join(name).is_dir());
        names.sort();
        names
    }

    /// Deletes directories that a killed `down` moved aside but did not delete: they contain keys.
    ///
    /// # Errors
    /// The file system's errors.
    pub fn sweep(&self) -> anyhow::Result<()> {
        let aside: Vec<_> = names_in(&self.state)
            .filter_map(|name| Some((moved_aside_by(&name)?, self.state.join(name))))
            .collect();
        if aside.is_empty() {
            return Ok(());
        }
        let processes = process::all();
        for (pid, folder) in aside {
            // A running process may be deleting it.
            if pid == std::process::id() || !processes.iter().any(|process| process.pid == pid) {
                delete(&folder)?;
            }
        }
        Ok(())
    }
}

/// The files of one environment.
#[derive(Debug, Clone)]
pub struct Files {
    /// The directory of the environment.
    pub root: PathBuf,
}

impl Files {
    /// Returns the path of the resolved spec.
    pub fn spec(&self) -> PathBuf {
        self.root.join("kindmesh.yaml")
    }

    /// Returns the path of the kubeconfig with every cluster.
    pub fn kubeconfig(&self) -> PathBuf {
        self.root.join("kubeconfig")
    }

    /// Returns the directory of certificates and keys.
    pub fn trust(&self) -> PathBuf {
        self.root.join("trust")
    }

    /// Returns the path of the file that identifies the engine.
    pub fn engine(&self) -> PathBuf {
        self.root.join("engine")
    }

    /// Returns the path of the file with what the user agreed to change in clusters that exist.
    pub fn consent(&self) -> PathBuf {
        self.root.join("consent")
    }

    /// Returns the path of the list of user kubeconfigs that the environment was merged into.
    pub fn merged(&self) -> PathBuf {
        self.root.join("merged")
    }

    /// Returns the path of the lock file.
    fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// Returns the path of a file of one cluster: its own kubeconfig, kind's configuration and log.
    pub fn of_cluster(&self, cluster: &str, file: &str) -> PathBuf {
        self.root.join("clusters").join(cluster).join(file)
    }

    /// Returns the clusters that have files.
    pub fn clusters(&self) -> Vec<String> {
        names_in(&self.root.join("clusters")).collect()
    }

    /// Deletes the files of a cluster.
    ///
    /// # Errors
    /// The file system's errors.
    pub fn remove_cluster(&self, cluster: &str) -> anyhow::Result<()> {
        delete(&self.root.join("clusters").join(cluster))
    }

    /// Returns the directory of recorded runs: a file each, the newest last by name.
    pub fn runs(&self) -> PathBuf {
        self.root.join("runs")
    }

    /// Returns the directory of recorded outages.
    pub fn outages(&self) -> PathBuf {
        self.root.join("outages")
    }

    /// Returns the directory with the progress of exercises, and with copies of what exercises removed.
    pub fn labs(&self) -> PathBuf {
        self.root.join("lab")
    }

    /// Whether the environment has files. A command that did nothing leaves only a lock, a record and a consent.
    pub fn exist(&self) -> bool {
        names_in(&self.root).any(|name| !["lock", "runs", "consent"].contains(&name.as_str()))
    }

    /// Deletes everything, including the lock. The directory is moved aside first: a process that waits for the
    /// lock creates a new one, which is kept.
    ///
    /// # Errors
    /// The file system's errors.
    pub fn remove(&self) -> anyhow::Result<bool> {
        let name = self.root.file_name().unwrap_or_default().to_string_lossy();
        let aside = self.root.with_file_name(format!(".{name}{ASIDE}{}", std::process::id()));
        delete(&aside)?;
        match std::fs::rename(&self.root, &aside) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error).with_context(|| format!("removing {}", self.root.display())),
        }
        delete(&aside)?;
        Ok(true)
    }
}

/// The part between name and process ID in the new name of a directory that was moved aside.
const ASIDE: &str = ".removed-";

/// Returns the ID of the process that moved a directory aside, from the directory's name.
fn moved_aside_by(name: &str) -> Option<u32> {
    let (environment, pid) = name.strip_prefix('.')?.rsplit_once(ASIDE)?;
    environment.parse::<Label>().ok()?;
    pid.parse().ok()
}

/// Deletes a file, if it exists.
///
/// # Errors
/// The file system's errors.
pub fn remove_file(path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn delete(folder: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Returns the size of a file, or of all files in a directory, in bytes.
///
/// # Errors
/// The file system's errors.
pub fn size(path: &Path) -> std::io::Result<u64> {
    let metadata = std::fs::symlink_metadata(path)?;
    if !metadata.is_dir() {
        return Ok(metadata.len());
    }
    std::fs::read_dir(path)?.map(|entry| size(&entry?.path())).sum()
}

/// Returns the names in a directory; none if it cannot be read.
fn names_in(folder: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders(folder: &Path) -> Directories {
        Directories { state: folder.to_owned(), cache: folder.join("cache") }
    }

    #[test]
    fn directory_with_only_a_lock_is_no_environment() {
        let folder = tempfile::tempdir().unwrap();
        let folders = folders(folder.path());
        for path in [
            "shop/kindmesh.yaml",
            "locked/lock",
            "locked/runs/a.jsonl",
            "agreed/consent",
            "Not_a_label/kindmesh.yaml",
            ".shop.removed-1/kubeconfig",
        ] {
            write_private(&folder.path().join(path), b"x").unwrap();
        }
        std::fs::write(folder.path().join("file"), "").unwrap();
        assert_eq!(folders.environments(), ["shop"]);
        assert!(!folders.environment("absent").exist());
    }

    #[test]
    fn leftover_directories_are_deleted_later() {
        let folder = tempfile::tempdir().unwrap();
        let folders = folders(folder.path());
        let aside = |pid: u32| folder.path().join(format!(".shop.removed-{pid}"));
        // Of an exited process, of this one, and of a running one; and an unrelated directory.
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let others =
            [aside(child.id()), folder.path().join(".shop.removed-soon"), folder.path().join(".removed-1")];
        for path in [aside(u32::MAX), aside(std::process::id())].iter().chain(&others) {
            write_private(&path.join("trust/root-key.pem"), b"x").unwrap();
        }
        folders.sweep().unwrap();
        assert!(!aside(u32::MAX).exists() && !aside(std::process::id()).exists());
        assert!(others.iter().all(|path| path.exists()));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn removing_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let files = folders(folder.path()).environment("shop");
        assert!(!files.remove().unwrap());
        write_private(&files.of_cluster("a", "kubeconfig"), b"x").unwrap();
        assert_eq!(files.clusters(), ["a"]);
        // A killed process with the same ID may have left it.
        let aside = folder.path().join(format!(".shop.removed-{}", std::process::id()));
        write_private(&aside.join("old"), b"x").unwrap();
        assert!(files.remove().unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
