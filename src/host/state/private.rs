//! Files that only their owner may read, each complete or missing.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::base::error::Error;

/// Returns the error for one of these files, with a hint.
pub(super) fn failed(doing: &str, path: &Path, error: &io::Error) -> anyhow::Error {
    let failed = Error::environment(format!("{doing} {}: {error}", path.display()));
    let elsewhere = "or set XDG_STATE_HOME and XDG_CACHE_HOME to another directory";
    let failed = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            failed.hint(format!("free some space: df -h {}; {elsewhere}", path.parent().unwrap_or(path).display()))
        }
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            failed.hint(format!("make it writable; {elsewhere}"))
        }
        _ => failed,
    };
    failed.into()
}

/// Creates a directory that only its owner may enter. An existing one is not changed: it may be the user's own.
///
/// # Errors
/// The file system's errors.
pub fn private_folder(path: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| failed("creating the directory", path, &error))
}

/// Writes a file that only its owner may read, unless it has the content already. Other processes see all of it or
/// nothing, also after a crash.
///
/// # Errors
/// The file system's errors.
pub fn write_private(path: &Path, content: &[u8]) -> anyhow::Result<bool> {
    if fs::read(path).is_ok_and(|has| has == content) {
        restrict(path, 0o600)?;
        return Ok(false);
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    private_folder(folder)?;
    let write = || -> io::Result<()> {
        let mut file = tempfile::Builder::new().permissions(Permissions::from_mode(0o600)).tempfile_in(folder)?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|error| failed("writing", path, &error))?;
    Ok(true)
}

/// Replaces one of the user's files, which keeps its owner and mode; a new one is readable only by its owner. Other
/// processes see the old one or the new one, also after a crash.
///
/// # Errors
/// The file system's errors.
pub fn replace(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let write = || -> io::Result<()> {
        let old = fs::metadata(path).ok();
        let mode = old.as_ref().map_or(0o600, |old| old.permissions().mode() & 0o7777);
        let mut file = tempfile::Builder::new().permissions(Permissions::from_mode(0o600)).tempfile_in(folder)?;
        file.write_all(content)?;
        if let Some(old) = old {
            let made = file.as_file().metadata()?;
            if (made.uid(), made.gid()) != (old.uid(), old.gid()) {
                std::os::unix::fs::fchown(file.as_file(), Some(old.uid()), Some(old.gid()))?;
            }
        }
        // Independent of the process's umask.
        file.as_file().set_permissions(Permissions::from_mode(mode))?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|error| failed("writing", path, &error))
}

/// Creates a file that only its owner may read and that is written in parts, such as a log; an existing one is
/// replaced.
///
/// # Errors
/// The file system's errors.
pub fn begin_private(path: &Path) -> anyhow::Result<File> {
    private_folder(path.parent().unwrap_or(Path::new(".")))?;
    let begin = || {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        File::options().create_new(true).read(true).append(true).mode(0o600).open(path)
    };
    begin().map_err(|error| failed("writing", path, &error))
}

/// Removes permissions of a file or directory beyond `mode`.
///
/// # Errors
/// The file system's errors.
pub fn restrict(path: &Path, mode: u32) -> anyhow::Result<()> {
    let restrict = || -> io::Result<()> {
        let current = fs::metadata(path)?.permissions().mode() & 0o777;
        if current & !mode != 0 {
            fs::set_permissions(path, Permissions::from_mode(current & mode))?;
        }
        Ok(())
    };
    restrict().map_err(|error| failed("setting the mode of", path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn private_files_have_mode_0600_and_are_written_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        assert!(write_private(&path, b"x").unwrap());
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert!(!write_private(&path, b"x").unwrap());
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn a_users_file_keeps_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        replace(&path, b"new").unwrap();
        assert_eq!(mode(&path), 0o600);
        fs::set_permissions(&path, Permissions::from_mode(0o664)).unwrap();
        replace(&path, b"newer").unwrap();
        assert_eq!((mode(&path), fs::read(&path).unwrap()), (0o664, b"newer".to_vec()));
    }

    #[test]
    fn a_log_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/log");
        for text in ["first, and longer", "second"] {
            begin_private(&path).unwrap().write_all(text.as_bytes()).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "second");
        assert_eq!(mode(&path), 0o600);
    }
}
