//! The lock that kubectl and kind respect: a file next to the kubeconfig that only one process can create.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::base::error::Error;

/// The lock of a kubeconfig, released when dropped.
pub(super) struct Lock(PathBuf);

impl Lock {
    /// Acquires it; none if another program holds it.
    pub(super) fn take(users: &Path) -> anyhow::Result<Option<Self>> {
        let path = path(users);
        if let Some(folder) = users.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        }
        match std::fs::File::create_new(&path) {
            Ok(_) => Ok(Some(Self(path))),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(error).with_context(|| format!("creating {}", path.display())),
        }
    }
}

/// Returns the error for a lock that another program holds.
pub(super) fn taken(users: &Path) -> Error {
    Error::environment(format!("another program is changing {}", users.display()))
        .hint(format!("try again; if no other program is running, remove {}", path(users).display()))
}

/// Returns the path of the lock file.
pub(super) fn path(users: &Path) -> PathBuf {
    let mut name = users.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Must happen however the merge ends.
        let _ = std::fs::remove_file(&self.0);
    }
}
