//! The files of certificates and keys: each complete or missing, and readable only by its owner.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context;

use crate::host::state;

/// Creates the directory if it is missing, and restricts it to its owner.
pub(super) fn private_directory(dir: &Path) -> anyhow::Result<()> {
    state::private_folder(dir)?;
    state::restrict(dir, 0o700)
}

/// Returns the files of a cluster's intermediate CA: certificate and key. The prefix distinguishes a cluster named `root`
/// from the root CA.
pub(super) fn intermediate(dir: &Path, cluster: &str) -> (PathBuf, PathBuf) {
    (dir.join(format!("intermediate-{cluster}-cert.pem")), dir.join(format!("intermediate-{cluster}-key.pem")))
}

/// Whether any intermediate CA exists: if so, the root CA has been used.
pub(super) fn holds_intermediates(dir: &Path) -> anyhow::Result<bool> {
    let failed = || format!("failed to read {}", dir.display());
    for entry in fs::read_dir(dir).with_context(failed)? {
        if entry.with_context(failed)?.file_name().to_string_lossy().starts_with("intermediate-") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns the file's text, if the file exists. Invalid UTF-8 results in invalid PEM.
pub(super) fn read(path: &Path) -> anyhow::Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("failed to read {}", path.display())),
    }
}

/// Reads a key like [`read`], and restricts its file to the owner.
pub(super) fn read_private(path: &Path) -> anyhow::Result<Option<String>> {
    let text = read(path)?;
    if text.is_some() {
        state::restrict(path, 0o600)?;
    }
    Ok(text)
}
