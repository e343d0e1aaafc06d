//! Downloads a release, and rejects any file that its publisher did not publish.

use std::{
    fs::{self, Permissions},
    io::{self, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::Context;
use flate2::read::GzDecoder;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use super::{
    Tool,
    fetch::{Fetch, FetchError},
    release::Release,
};
use crate::base::digest::hex;
use crate::base::error::Error;

/// The maximum size of a file, packed or unpacked: more than any of these files has.
const MAX_BYTES: u64 = 1 << 30;
/// The maximum size of a checksum file, which is one line.
const MAX_CHECKSUM_BYTES: u64 = 64 << 10;

/// Downloads the release into the cache and returns the path of its executable, which is complete or
/// missing. Blocks; fails soon after `cancelled` is set.
pub(super) fn download(
    release: &Release,
    cache: &Path,
    fetch: &dyn Fetch,
    progress: &dyn Fn(&str),
    cancelled: &AtomicBool,
) -> anyhow::Result<PathBuf> {
    if !release.is_published() {
        return Err(Error::prerequisite(format!("{release} is not published for this platform"))
            .hint(release.hint())
            .into());
    }
    let directory = release.directory(cache);
    let record = Record { path: directory.join(format!("{}.sha256", release.asset)) };
    let expected = expected(release, &record, fetch)?;

    fs::create_dir_all(&directory).with_context(|| format!("failed to create {}", directory.display()))?;
    let (archive, sha256) = fetch_file(release, &directory, fetch, progress, cancelled)?;
    if sha256 != expected {
        return Err(mismatch(release, &expected, &sha256).into());
    }
    let executable = match release.tool {
        Tool::Kind => archive,
        Tool::Istioctl => unpack(release, archive, &directory)?,
    };
    record.write(&sha256, release)?;
    let path = release.executable(cache);
    install(executable, &path).with_context(|| format!("failed to write {}", path.display()))?;
    Ok(path)
}

/// Returns the required checksum of the file. All known values must agree: the one in the code, the publisher's,
/// and that of an earlier download.
fn expected(release: &Release, record: &Record, fetch: &dyn Fetch) -> anyhow::Result<String> {
    let published = published(release, fetch)?;
    let recorded = record.read()?;
    let Some(expected) = release.known.clone().or(published.clone()) else {
        return Err(Error::prerequisite(format!("{release} cannot be verified: it has no published checksum"))
            .evidence(format!("{} does not exist", release.checksum_url))
            .hint(release.hint())
            .into());
    };
    if let Some(published) = published.filter(|published| *published != expected) {
        return Err(mismatch(release, &expected, &published).into());
    }
    if let Some(recorded) = recorded.filter(|recorded| *recorded != expected) {
        return Err(Error::prerequisite(format!("the published {release} has changed"))
            .evidence(format!("{} records {recorded}", record.path.display()))
            .evidence(format!("{} contains {expected}", release.checksum_url))
            .hint(format!(
                "find out why {} was replaced; to trust the new file, delete {}",
                release.url,
                record.path.display()
            ))
            .into());
    }
    Ok(expected)
}

/// Returns the publisher's checksum; none if that file does not exist.
fn published(release: &Release, fetch: &dyn Fetch) -> anyhow::Result<Option<String>> {
    let body = match fetch.open(&release.checksum_url) {
        Ok(body) => body,
        Err(FetchError::Status(404)) => return Ok(None),
        Err(error) => return Err(unavailable(release, &release.checksum_url, &error).into()),
    };
    let mut text = String::new();
    body.reader
        .take(MAX_CHECKSUM_BYTES)
        .read_to_string(&mut text)
        .map_err(|error| unavailable(release, &release.checksum_url, &error))?;
    match checksum_in(&text, &release.asset) {
        Some(sha256) => Ok(Some(sha256)),
        // For example, a network's sign-in page.
        None => Err(Error::prerequisite(format!("{} contains no checksum of {release}", release.checksum_url))
            .evidence(text.lines().take(5).collect::<Vec<_>>().join("\n"))
            .hint(release.hint())
            .into()),
    }
}

/// Finds the checksum of the file in output of `sha256sum`, where the name may be missing.
fn checksum_in(text: &str, asset: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let sha256 = words.next()?;
        let name = words.next().map(|name| name.trim_start_matches('*'));
        let of_asset = name.is_none_or(|name| Path::new(name).file_name().is_some_and(|name| name == asset));
        let is_sha256 = sha256.len() == 64 && sha256.chars().all(|c| c.is_ascii_hexdigit());
        (of_asset && is_sha256).then(|| sha256.to_ascii_lowercase())
    })
}

/// The checksum of the first download, stored next to it.
struct Record {
    path: PathBuf,
}

impl Record {
    fn read(&self) -> anyhow::Result<Option<String>> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("failed to read {}", self.path.display()));
            }
        };
        let asset = self.path.file_stem().unwrap_or_default().to_string_lossy();
        let damaged = || {
            Error::prerequisite(format!("{} contains no checksum", self.path.display()))
                .hint(format!("delete it: rm {}", self.path.display()))
        };
        Ok(Some(checksum_in(&text, &asset).ok_or_else(damaged)?))
    }

    fn write(&self, sha256: &str, release: &Release) -> anyhow::Result<()> {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        let write = || -> io::Result<()> {
            let mut file = NamedTempFile::new_in(directory)?;
            writeln!(file, "{sha256}  {}", release.asset)?;
            file.as_file().sync_all()?;
            file.persist(&self.path)?;
            Ok(())
        };
        write().with_context(|| format!("failed to write {}", self.path.display()))
    }
}

/// Downloads the file to a temporary file and returns its checksum.
fn fetch_file(
    release: &Release,
    directory: &Path,
    fetch: &dyn Fetch,
    progress: &dyn Fn(&str),
    cancelled: &AtomicBool,
) -> anyhow::Result<(NamedTempFile, String)> {
    progress(&format!("requesting {}", release.url));
    let mut body = fetch.open(&release.url).map_err(|error| unavailable(release, &release.url, &error))?;
    let mut file = NamedTempFile::new_in(directory).context("failed to create a temporary file")?;
    let (mut hash, mut buffer, mut bytes, mut told) = (Sha256::new(), vec![0; 64 << 10], 0_u64, 0);
    loop {
        anyhow::ensure!(!cancelled.load(Ordering::Relaxed), "the download of {release} was interrupted");
        let count = match body.reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(unavailable(release, &release.url, &error).into()),
        };
        bytes += count as u64;
        if bytes > MAX_BYTES {
            return Err(unavailable(release, &release.url, &"it is larger than expected").into());
        }
        hash.update(&buffer[..count]);
        file.write_all(&buffer[..count]).with_context(|| format!("failed to write to {}", directory.display()))?;
        let megabytes = bytes >> 20;
        if megabytes >= told + 4 {
            told = megabytes;
            match body.length {
                Some(length) => progress(&format!("{megabytes} of {} MiB", length >> 20)),
                None => progress(&format!("{megabytes} MiB")),
            }
        }
    }
    Ok((file, hex(&hash.finalize())))
}

/// Extracts the executable from the archive to a temporary file.
fn unpack(release: &Release, archive: NamedTempFile, directory: &Path) -> anyhow::Result<NamedTempFile> {
    let broken = |error: io::Error| {
        Error::prerequisite(format!("the archive of {release} cannot be read: {error}")).hint(release.hint())
    };
    let archive = archive.reopen().context("failed to read the downloaded archive")?;
    let mut archive = tar::Archive::new(GzDecoder::new(archive));
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let is_executable = entry.header().entry_type().is_file()
            && entry.path().map_err(broken)?.file_name().is_some_and(|name| name == release.tool.name());
        if is_executable {
            // Its name in the archive is not used as a path, so it cannot be written anywhere else.
            let mut file = NamedTempFile::new_in(directory).context("failed to create a temporary file")?;
            io::copy(&mut (&mut entry).take(MAX_BYTES), &mut file).map_err(broken)?;
            return Ok(file);
        }
    }
    Err(Error::prerequisite(format!("the archive of {release} contains no {}", release.tool))
        .evidence(&release.url)
        .hint(release.hint())
        .into())
}

/// Moves the executable to its path. It is synced before the rename: a crash cannot leave an incomplete file.
fn install(file: NamedTempFile, path: &Path) -> io::Result<()> {
    file.as_file().set_permissions(Permissions::from_mode(0o755))?;
    file.as_file().sync_all()?;
    // Closed before the rename: a file that is open for writing cannot be executed.
    file.into_temp_path().persist(path)?;
    Ok(())
}

fn unavailable(release: &Release, url: &str, cause: &dyn std::fmt::Display) -> Error {
    Error::prerequisite(format!("{release} is not installed and cannot be downloaded: {cause}"))
        .evidence(url)
        .hint(release.hint())
}

fn mismatch(release: &Release, expected: &str, actual: &str) -> Error {
    Error::prerequisite(format!("the checksum of {release} does not match; nothing was installed"))
        .evidence(&release.url)
        .evidence(format!("expected sha256 {expected}"))
        .evidence(format!("found sha256 {actual}"))
        .hint(format!("try again; if it still fails, {}", release.hint()))
}
