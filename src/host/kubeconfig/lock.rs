//! The lock that kubectl and kind respect: a file beside the kubeconfig that only one can create.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::base::error::Error;

/// The right to change a kubeconfig; given back when dropped.
pub(super) struct Lock(PathBuf);

impl Lock {
    /// Takes it; none when another program has it.
    pub(super) fn take(users: &Path) -> anyhow::Result<Option<Self>> {
        let path = path(users);
        if let Some(folder) = users.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        }
        match std::fs::File::create_new(&path) {
            Ok(_) => Ok(Some(Self(path))),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(error).with_context(|| format!("making {}", path.display())),
        }
    }
}

/// Another program has it.
pub(super) fn taken(users: &Path) -> Error {
    Error::environment(format!("another program is changing {}", users.display()))
        .hint(format!("try again; if none is, remove {}", path(users).display()))
}

/// The file that is the lock of another.
pub(super) fn path(users: &Path) -> PathBuf {
    let mut name = users.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The one thing that has to happen however merging ends.
        let _ = std::fs::remove_file(&self.0);
    }
}
