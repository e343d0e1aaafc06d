//! Writes the archive atomically, readable only by its owner.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Context;
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;

/// Writes files to a new archive, in one directory. Returns the archive's size in bytes.
pub(super) fn write(
    path: &Path,
    folder: &str,
    time: Timestamp,
    files: &[(String, Vec<u8>)],
) -> anyhow::Result<u64> {
    let what = || format!("writing {}", path.display());
    let beside = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut temporary = tempfile::Builder::new();
    let mut file = temporary.permissions(Permissions::from_mode(0o600)).tempfile_in(beside).with_context(what)?;
    let mut write = || -> std::io::Result<()> {
        let mut archive = tar::Builder::new(GzEncoder::new(&mut file, Compression::default()));
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o600);
            header.set_mtime(u64::try_from(time.as_second()).unwrap_or_default());
            archive.append_data(&mut header, format!("{folder}/{name}"), content.as_slice())?;
        }
        archive.into_inner()?.finish()?.flush()
    };
    write().with_context(what)?;
    let bytes = file.as_file().metadata().with_context(what)?.len();
    file.persist_noclobber(path).with_context(what)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn archive_can_be_unpacked_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.tar.gz");
        let files = [("a/b.txt".to_owned(), b"text".to_vec())];
        let bytes = write(&path, "top", Timestamp::now(), &files).unwrap();
        let metadata = std::fs::metadata(&path).unwrap();
        assert_eq!((metadata.len(), metadata.permissions().mode() & 0o777), (bytes, 0o600));
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(std::fs::File::open(&path).unwrap()));
        let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(entry.path().unwrap(), Path::new("top/a/b.txt"));
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
        assert!(write(&path, "top", Timestamp::now(), &files).is_err(), "an existing file is not overwritten");
    }
}
