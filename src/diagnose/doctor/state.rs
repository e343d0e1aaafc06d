//! The state directory: whether it is writable, and who may read its files.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::facts::State;
use super::host;
use crate::host::state::{Directories, Files};

/// Inspects a directory, or its nearest existing parent.
pub(super) fn look(folder: &Path) -> Option<State> {
    let there = folder.ancestors().find(|folder| folder.exists())?;
    Some(State { space: host::space(there)?, writable: access(there, Access::WRITE_OK | Access::EXEC_OK).is_ok() })
}

/// Returns files with keys that other users may read: the environment's directory, the file, its mode. A directory
/// that others may not enter protects its files.
pub(super) fn readable(folders: &Directories) -> Vec<(PathBuf, PathBuf, u32)> {
    let environments = folders.environments().into_iter().map(|name| folders.environment(&name));
    let found = environments.flat_map(|files| {
        let folders = |path: &PathBuf| -> Vec<PathBuf> {
            let above = path.ancestors().skip(1).take_while(|above| above.starts_with(&files.root));
            above.map(Path::to_owned).collect()
        };
        let open = |path: &PathBuf| folders(path).iter().all(|folder| others(folder).is_some());
        let exposed = secrets(&files).into_iter().filter(open).map(|path| (others(&path), path));
        exposed.filter_map(|(mode, path)| Some((files.root.clone(), path, mode?))).collect::<Vec<_>>()
    });
    found.collect()
}

fn secrets(files: &Files) -> Vec<PathBuf> {
    let of_clusters = files.clusters().into_iter().map(|cluster| files.of_cluster(&cluster, "kubeconfig"));
    let keys = std::fs::read_dir(files.trust()).into_iter().flatten().flatten().map(|entry| entry.path());
    let keys = keys.filter(|path| path.to_string_lossy().ends_with("key.pem"));
    std::iter::once(files.kubeconfig()).chain(of_clusters).chain(keys).collect()
}

/// Returns a path's mode, if it gives other users any access.
fn others(path: &Path) -> Option<u32> {
    let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::state::write_private;

    #[test]
    fn nearest_existing_directory_is_checked() {
        let folder = tempfile::tempdir().unwrap();
        let state = look(&folder.path().join("a/b")).unwrap();
        assert_eq!((state.space.folder.as_path(), state.writable), (folder.path(), true));
        assert!(state.space.free > 0);
    }

    #[test]
    fn readable_keys_are_found_unless_their_directory_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let folders = Directories { state: folder.path().to_owned(), cache: folder.path().join("cache") };
        let files = folders.environment("shop");
        let key = files.trust().join("root-key.pem");
        for path in [&key, &files.kubeconfig(), &files.spec()] {
            write_private(path, b"x").unwrap();
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o640)).unwrap();
        }
        assert_eq!(readable(&folders), []);
        let root = files.root.clone();
        std::fs::set_permissions(&root, PermissionsExt::from_mode(0o755)).unwrap();
        let kubeconfig = (root.clone(), files.kubeconfig(), 0o640);
        assert_eq!(readable(&folders), std::slice::from_ref(&kubeconfig));
        std::fs::set_permissions(files.trust(), PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(readable(&folders), [kubeconfig, (root, key, 0o640)]);
    }
}
