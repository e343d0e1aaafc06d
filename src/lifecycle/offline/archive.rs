//! The archive as a file: a tar of an OCI layout, written once. Every blob's digest is verified before anything is
//! used.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use serde::de::DeserializeOwned;
use tempfile::NamedTempFile;

use super::layout::{self, Descriptor};
use crate::base::digest;
use crate::base::error::Error;

/// The maximum size of one read, in bytes.
pub(super) const CHUNK: usize = 1 << 20;
/// The maximum size of a JSON file, in bytes, which is read into memory: larger than any valid one.
const MAX_JSON: u64 = 4 << 20;

/// The position of a blob in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub offset: u64,
    pub size: u64,
}

/// Reads a part of a file, without changing the file's own position.
pub(super) struct Part<'a> {
    file: &'a File,
    place: Place,
}

impl<'a> Part<'a> {
    pub(super) fn new(file: &'a File, place: Place) -> Self {
        Self { file, place }
    }
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.place.size).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(&mut buffer[..most], self.place.offset)?;
        if count == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.place.offset += count as u64;
        self.place.size -= count as u64;
        Ok(count)
    }
}

/// Content whose next read fails when the work is canceled.
pub(super) struct Unless<'a, R> {
    pub stopped: &'a AtomicBool,
    pub content: R,
}

impl<R: Read> Read for Unless<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stopped.load(Ordering::Relaxed) {
            return Err(io::Error::other("stopped"));
        }
        self.content.read(buffer)
    }
}

/// Returns the digest of all content.
pub(super) fn digest_of(content: impl Read) -> io::Result<String> {
    Ok(layout::of_hex(&digest::of(content)?))
}

/// Returns the positions of a tar's files, by name. Reads only the headers.
pub(super) fn places(mut file: &File) -> io::Result<BTreeMap<String, Place>> {
    file.rewind()?;
    let mut archive = tar::Archive::new(file);
    let mut places = BTreeMap::new();
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_owned();
        places.insert(name, Place { offset: entry.raw_file_position(), size: entry.size() });
    }
    Ok(places)
}

/// Writes an archive: its index first, so that an incomplete archive is detected.
pub(super) struct Writer<W: Write> {
    tar: tar::Builder<W>,
    written: BTreeSet<String>,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(to: W, index: &[u8]) -> io::Result<Self> {
        let mut writer = Self { tar: tar::Builder::new(to), written: BTreeSet::new() };
        writer.file(layout::VERSION_FILE, layout::VERSION.len() as u64, layout::VERSION)?;
        writer.file(layout::INDEX_FILE, index.len() as u64, index)?;
        Ok(writer)
    }

    /// Adds a blob unless it exists: layers may be identical.
    pub(super) fn blob(&mut self, of: &Descriptor, content: impl Read) -> io::Result<()> {
        if self.written.insert(of.digest.clone()) {
            self.file(&layout::blob_path(&of.digest), of.size, content)?;
        }
        Ok(())
    }

    /// Finishes the archive; returns the number of its blobs.
    pub(super) fn finish(self) -> io::Result<(W, usize)> {
        Ok((self.tar.into_inner()?, self.written.len()))
    }

    fn file(&mut self, path: &str, size: u64, content: impl Read) -> io::Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_size(size);
        header.set_mode(0o644);
        self.tar.append_data(&mut header, path, content)
    }
}

impl Writer<NamedTempFile> {
    /// Begins an archive at a path, with a temporary name.
    pub(super) fn create(path: &Path, mode: u32, index: &[u8]) -> io::Result<Self> {
        let file = tempfile::Builder::new()
            .prefix(".kindmesh-archive-")
            .permissions(Permissions::from_mode(mode))
            .tempfile_in(folder_of(path))?;
        Self::new(file, index)
    }

    /// Finishes the archive and gives it its name, which must be free. Returns its size in bytes and the number of its blobs.
    pub(super) fn persist(self, path: &Path) -> io::Result<(u64, usize)> {
        let (mut file, blobs) = self.finish()?;
        file.flush()?;
        file.as_file().sync_all()?;
        let bytes = file.as_file().metadata()?.len();
        file.persist_noclobber(path)?;
        Ok((bytes, blobs))
    }
}

/// Returns the directory of a file.
pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// An archive with verified blobs.
#[derive(Debug)]
pub(super) struct Verified {
    path: PathBuf,
    pub file: Arc<File>,
    blobs: BTreeMap<String, Place>,
    pub index: Vec<u8>,
}

impl Verified {
    /// Opens an archive and reads all of it. `progress` receives the number of bytes read so far. Blocks.
    ///
    /// # Errors
    /// A usage error if the file does not exist or is not such an archive, an environment error that names a blob
    /// with a wrong digest; otherwise the file system's errors.
    pub(super) fn open(path: &Path, progress: &dyn Fn(u64, u64)) -> anyhow::Result<Self> {
        let what = || format!("reading {}", path.display());
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::usage(format!("file {} not found", path.display())).hint(GIVE).into());
            }
            opened => opened.with_context(what)?,
        };
        let total = file.metadata().with_context(what)?.len();
        if !is_tar(&file) {
            return Err(foreign(path, "it is not a tar archive").into());
        }
        let mut places = places(&file).map_err(|error| damaged(path, format!("invalid tar archive: {error}")))?;
        let index = places.remove(layout::INDEX_FILE).filter(|_| places.contains_key(layout::VERSION_FILE));
        let Some(index) = index else {
            let lacks = format!("it has no {} or no {}", layout::VERSION_FILE, layout::INDEX_FILE);
            return Err(foreign(path, &lacks).into());
        };
        let mut blobs = BTreeMap::new();
        let mut done = 0;
        for (name, place) in places {
            let Some(digest) = layout::blob_digest(&name) else { continue };
            let found =
                digest_of(Part::new(&file, place)).map_err(|error| damaged(path, format!("{name}: {error}")))?;
            if found != digest {
                return Err(damaged(path, format!("{name} has digest {found}")).into());
            }
            blobs.insert(digest, place);
            done += place.size;
            progress(done, total);
        }
        let mut archive = Self { path: path.to_owned(), file: Arc::new(file), blobs, index: Vec::new() };
        archive.index = archive.read(layout::INDEX_FILE, index)?;
        Ok(archive)
    }

    /// Returns the position of a blob.
    ///
    /// # Errors
    /// If it is missing, or has another size.
    pub(super) fn place(&self, of: &Descriptor) -> Result<Place, Error> {
        match self.blobs.get(&of.digest) {
            Some(place) if place.size == of.size => Ok(*place),
            Some(place) => {
                Err(damaged(&self.path, format!("{} has {} bytes, not {}", of.digest, place.size, of.size)))
            }
            None => Err(damaged(&self.path, format!("{} is missing", of.digest))),
        }
    }

    /// Returns the content of a small blob.
    ///
    /// # Errors
    /// As for [`Self::place`].
    pub(super) fn content(&self, of: &Descriptor) -> anyhow::Result<Vec<u8>> {
        let place = self.place(of)?;
        self.read(&of.digest, place)
    }

    /// Returns a blob's content as JSON.
    ///
    /// # Errors
    /// As for [`Self::place`], or if the JSON is invalid.
    pub(super) fn json<T: DeserializeOwned>(&self, of: &Descriptor) -> anyhow::Result<T> {
        self.parse(&of.digest, &self.content(of)?)
    }

    /// Parses JSON of this archive.
    ///
    /// # Errors
    /// If it is invalid.
    pub(super) fn parse<T: DeserializeOwned>(&self, name: &str, json: &[u8]) -> anyhow::Result<T> {
        Ok(serde_json::from_slice(json).map_err(|error| damaged(&self.path, format!("{name}: {error}")))?)
    }

    /// Returns the number of blobs.
    pub(super) fn len(&self) -> usize {
        self.blobs.len()
    }

    fn read(&self, name: &str, place: Place) -> anyhow::Result<Vec<u8>> {
        if place.size > MAX_JSON {
            return Err(damaged(&self.path, format!("{name} is too large: {} bytes", place.size)).into());
        }
        let mut content = Vec::new();
        let read = Part::new(&self.file, place).read_to_end(&mut content);
        read.with_context(|| format!("reading {}", self.path.display()))?;
        Ok(content)
    }
}

/// Whether a file begins like a tar archive.
fn is_tar(file: &File) -> bool {
    const MAGIC: &[u8; 5] = b"ustar";
    let mut found = [0; MAGIC.len()];
    file.read_exact_at(&mut found, 257).is_ok_and(|()| found == *MAGIC)
}

/// The hint of errors about a file that is not an archive.
const GIVE: &str = "choose a file that kindmesh offline save or kindmesh snapshot export wrote";

/// Returns the error for a file that is not an archive.
pub(super) fn foreign(path: &Path, why: &str) -> Error {
    Error::usage(format!("{} is not an archive of kindmesh", path.display())).evidence(why).hint(GIVE)
}

/// Returns the error for an archive that differs from what was written.
pub(super) fn damaged(path: &Path, what: String) -> Error {
    Error::environment(format!("{} is damaged: nothing was loaded", path.display()))
        .evidence(what)
        .hint("copy it again from its source, or write it again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error;

    const INDEX: &[u8] = br#"{"schemaVersion":2}"#;

    /// Writes an archive with two blobs.
    fn archive(folder: &Path) -> PathBuf {
        let path = folder.join("a.tar");
        let mut writer = Writer::new(File::create(&path).unwrap(), INDEX).unwrap();
        for content in ["one".repeat(1000), "{}".into(), "{}".into()] {
            let of = Descriptor::of("x", content.as_bytes());
            writer.blob(&of, content.as_bytes()).unwrap();
        }
        assert_eq!(writer.finish().unwrap().1, 2);
        path
    }

    fn open(path: &Path) -> anyhow::Result<Verified> {
        Verified::open(path, &|_, _| ())
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let archive = open(&archive(folder.path())).unwrap();
        assert_eq!((archive.len(), archive.index.as_slice()), (2, INDEX));
        assert_eq!(
            archive.content(&Descriptor::of("x", "one".repeat(1000).as_bytes())).unwrap(),
            b"one".repeat(1000)
        );
        let absent = archive.place(&Descriptor::of("x", b"other")).unwrap_err();
        assert!(absent.evidence[0].ends_with("is missing"), "{absent:?}");
        let mut other = Descriptor::of("x", b"{}");
        other.size = 3;
        assert!(archive.place(&other).unwrap_err().evidence[0].ends_with("has 2 bytes, not 3"));
    }

    /// Every byte of a header or of a blob is verified; padding is not.
    #[test]
    fn every_flipped_byte_is_detected() {
        let folder = tempfile::tempdir().unwrap();
        let path = archive(folder.path());
        let whole = std::fs::read(&path).unwrap();
        let used = places(&File::open(&path).unwrap()).unwrap();
        let mut flipped = 0;
        for (name, place) in used.iter().filter(|(name, _)| layout::blob_digest(name).is_some()) {
            for offset in
                [place.offset, place.offset + place.size / 2, place.offset + place.size - 1, place.offset - 512]
            {
                let mut bytes = whole.clone();
                bytes[usize::try_from(offset).unwrap()] ^= 1;
                std::fs::write(&path, &bytes).unwrap();
                let error = open(&path).unwrap_err();
                assert_eq!(error::exit_code(&error), 1, "{name} at {offset}");
                assert!(error.to_string().ends_with("is damaged: nothing was loaded"), "{error:#}");
                flipped += 1;
            }
        }
        assert_eq!(flipped, 8);
    }

    #[test]
    fn truncated_archive_is_damaged_and_other_files_are_rejected() {
        let folder = tempfile::tempdir().unwrap();
        let path = archive(folder.path());
        let whole = std::fs::read(&path).unwrap();
        let blobs = places(&File::open(&path).unwrap()).unwrap();
        let last = blobs
            .iter()
            .filter(|(name, _)| layout::blob_digest(name).is_some())
            .map(|(_, place)| place.offset)
            .max()
            .unwrap();
        std::fs::write(&path, &whole[..=usize::try_from(last).unwrap()]).unwrap();
        assert_eq!(error::exit_code(&open(&path).unwrap_err()), 1);
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(0);
        tar.append_data(&mut header, "index.json", io::empty()).unwrap();
        for other in [tar.into_inner().unwrap(), b"name: shop".to_vec(), Vec::new()] {
            std::fs::write(&path, other).unwrap();
            assert_eq!(error::exit_code(&open(&path).unwrap_err()), 2);
        }
        assert_eq!(error::exit_code(&open(&folder.path().join("absent")).unwrap_err()), 2);
    }
}
