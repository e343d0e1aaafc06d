//! The archive as a file: a tar of an OCI layout. Written once, and read with every blob held against its digest before
//! anything in it is used.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::layout::{self, Descriptor};
use crate::base::error::Error;

/// How much is read at once, in bytes.
pub(super) const CHUNK: usize = 1 << 20;
/// Larger than any file of JSON here: more is not read into memory.
const MOST_JSON: u64 = 4 << 20;

/// A place in a file that blobs are read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub offset: u64,
    pub size: u64,
}

/// Reads a place in a file; the file's own position is left alone.
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

/// Content that ends in an error as soon as nobody wants it any more.
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

/// The digest of all that comes.
pub(super) fn digest_of(mut content: impl Read) -> io::Result<String> {
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; CHUNK]);
    loop {
        match content.read(&mut buffer) {
            Ok(0) => return Ok(layout::of_hash(hash)),
            Ok(count) => hash.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Where the files of a tar are, by their names. Of what is between their headers nothing is read.
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

/// Writes an archive: its index first, so that half of one is known to be half.
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

    /// Adds a blob unless it is there: layers may be the same.
    pub(super) fn blob(&mut self, of: &Descriptor, content: impl Read) -> io::Result<()> {
        if self.written.insert(of.digest.clone()) {
            self.file(&layout::blob_path(&of.digest), of.size, content)?;
        }
        Ok(())
    }

    /// Ends the archive; gives how many blobs are in it.
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

/// An archive whose blobs are all what their digests say.
#[derive(Debug)]
pub(super) struct Verified {
    path: PathBuf,
    pub file: Arc<File>,
    blobs: BTreeMap<String, Place>,
    pub index: Vec<u8>,
}

impl Verified {
    /// Opens an archive and reads all of it. `progress` is told what was read so far, in bytes. Blocks.
    ///
    /// # Errors
    /// A usage error when the file is not there or is no such archive, an environment error that names a blob which is
    /// not what its digest says; the file system's.
    pub(super) fn open(path: &Path, progress: &dyn Fn(u64, u64)) -> anyhow::Result<Self> {
        let what = || format!("reading {}", path.display());
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::usage(format!("there is no file {}", path.display())).hint(GIVE).into());
            }
            opened => opened.with_context(what)?,
        };
        let total = file.metadata().with_context(what)?.len();
        if !is_tar(&file) {
            return Err(foreign(path, "it is no tar").into());
        }
        let mut places = places(&file).map_err(|error| damaged(path, format!("as a tar: {error}")))?;
        let index = places.remove(layout::INDEX_FILE).filter(|_| places.contains_key(layout::VERSION_FILE));
        let Some(index) = index else {
            let lacks = format!("it has no {} and {}", layout::VERSION_FILE, layout::INDEX_FILE);
            return Err(foreign(path, &lacks).into());
        };
        let mut blobs = BTreeMap::new();
        let mut done = 0;
        for (name, place) in places {
            let Some(digest) = layout::blob_digest(&name) else { continue };
            let found =
                digest_of(Part::new(&file, place)).map_err(|error| damaged(path, format!("{name}: {error}")))?;
            if found != digest {
                return Err(damaged(path, format!("{name} is {found}")).into());
            }
            blobs.insert(digest, place);
            done += place.size;
            progress(done, total);
        }
        let mut archive = Self { path: path.to_owned(), file: Arc::new(file), blobs, index: Vec::new() };
        archive.index = archive.read(layout::INDEX_FILE, index)?;
        Ok(archive)
    }

    /// Where a blob is.
    ///
    /// # Errors
    /// When it is missing, or has another size.
    pub(super) fn place(&self, of: &Descriptor) -> Result<Place, Error> {
        match self.blobs.get(&of.digest) {
            Some(place) if place.size == of.size => Ok(*place),
            Some(place) => {
                Err(damaged(&self.path, format!("{} has {} bytes, not {}", of.digest, place.size, of.size)))
            }
            None => Err(damaged(&self.path, format!("{} is missing", of.digest))),
        }
    }

    /// A blob's content, which is small.
    ///
    /// # Errors
    /// As those of [`Self::place`].
    pub(super) fn content(&self, of: &Descriptor) -> anyhow::Result<Vec<u8>> {
        let place = self.place(of)?;
        self.read(&of.digest, place)
    }

    /// A blob's content as JSON.
    ///
    /// # Errors
    /// As those of [`Self::place`], and when it is not as it should be.
    pub(super) fn json<T: DeserializeOwned>(&self, of: &Descriptor) -> anyhow::Result<T> {
        self.parse(&of.digest, &self.content(of)?)
    }

    /// JSON of this archive.
    ///
    /// # Errors
    /// When it is not as it should be.
    pub(super) fn parse<T: DeserializeOwned>(&self, name: &str, json: &[u8]) -> anyhow::Result<T> {
        Ok(serde_json::from_slice(json).map_err(|error| damaged(&self.path, format!("{name}: {error}")))?)
    }

    /// How many blobs there are.
    pub(super) fn len(&self) -> usize {
        self.blobs.len()
    }

    fn read(&self, name: &str, place: Place) -> anyhow::Result<Vec<u8>> {
        if place.size > MOST_JSON {
            return Err(damaged(&self.path, format!("{name} has {} bytes", place.size)).into());
        }
        let mut content = Vec::new();
        let read = Part::new(&self.file, place).read_to_end(&mut content);
        read.with_context(|| format!("reading {}", self.path.display()))?;
        Ok(content)
    }
}

/// Whether it begins as a tar does.
fn is_tar(file: &File) -> bool {
    const MAGIC: &[u8; 5] = b"ustar";
    let mut found = [0; MAGIC.len()];
    file.read_exact_at(&mut found, 257).is_ok_and(|()| found == *MAGIC)
}

/// What to load.
const GIVE: &str = "give a file that kindmesh offline save wrote";

/// The file is something else.
pub(super) fn foreign(path: &Path, why: &str) -> Error {
    Error::usage(format!("{} is no archive of kindmesh offline save", path.display())).evidence(why).hint(GIVE)
}

/// The archive is not what was written.
pub(super) fn damaged(path: &Path, what: String) -> Error {
    Error::environment(format!("{} is damaged: nothing of it is loaded", path.display()))
        .evidence(what)
        .hint("copy it again from where it was made, or make it again: kindmesh offline save")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error;

    const INDEX: &[u8] = br#"{"schemaVersion":2}"#;

    /// An archive with two blobs.
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

    /// No byte of a header or of a blob can be another one; padding is nobody's.
    #[test]
    fn a_flipped_byte_is_found_wherever_it_is() {
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
                assert!(error.to_string().ends_with("is damaged: nothing of it is loaded"), "{error:#}");
                flipped += 1;
            }
        }
        assert_eq!(flipped, 8);
    }

    #[test]
    fn half_an_archive_is_damaged_and_another_file_is_none() {
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
