//! A snapshot in an archive: its files, and what they are.

use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::archive::{Part, Unless, Verified, Writer, damaged, foreign};
use super::files::Packed;
use super::layout::{self, Descriptor, Index, Manifest};
use crate::base::event::Events;
use crate::host::state;

/// What a snapshot in an archive is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Contents {
    /// Its name.
    pub name: String,
    /// The version of kindmesh that saved it.
    pub kindmesh: String,
    /// The platform of its nodes: `linux/amd64`.
    pub platform: String,
    /// Whether it contains the keys of its clusters.
    pub keys: bool,
}

/// A snapshot that is to be written to an archive.
#[derive(Debug)]
pub struct Packable {
    manifest: Vec<u8>,
    config: Vec<u8>,
    of_config: Descriptor,
    files: Vec<Packed>,
}

impl Packable {
    /// Opens the files in the directory of a snapshot. Blocks: all of them are read.
    ///
    /// # Errors
    /// The file system's errors.
    pub(in crate::lifecycle) fn read(folder: &Path, contents: &Contents) -> anyhow::Result<Self> {
        let mut paths = Vec::new();
        collect(folder, &mut paths)?;
        paths.sort();
        let title = |path: &PathBuf| path.strip_prefix(folder).unwrap_or(path).display().to_string();
        let files = paths.iter().map(|path| Packed::open(path, &title(path)));
        let files = files.collect::<anyhow::Result<Vec<_>>>()?;
        let config = serde_json::to_vec(contents)?;
        let of_config = Descriptor::of(layout::SNAPSHOT_CONTENTS, &config);
        let layers = files.iter().map(|file| file.descriptor.clone()).collect();
        let manifest = Manifest::new(Some(layout::SNAPSHOT), of_config.clone(), layers);
        Ok(Self { manifest: serde_json::to_vec(&manifest)?, config, of_config, files })
    }

    /// Returns the entry of an index for it.
    pub(super) fn descriptor(&self) -> Descriptor {
        let mut of = Descriptor::of(layout::MANIFEST, &self.manifest);
        of.artifact_type = Some(layout::SNAPSHOT.into());
        of
    }

    /// Adds it to an archive.
    pub(super) fn add<W: Write>(&self, writer: &mut Writer<W>, stopped: &AtomicBool) -> io::Result<()> {
        writer.blob(&self.descriptor(), self.manifest.as_slice())?;
        writer.blob(&self.of_config, self.config.as_slice())?;
        for file in &self.files {
            writer.blob(&file.descriptor, Unless { stopped, content: file.content() })?;
        }
        Ok(())
    }

    /// Writes an archive with only this snapshot, completely or not at all. Returns its size in bytes and its digest. Blocks.
    ///
    /// # Errors
    /// The file system's errors.
    pub(in crate::lifecycle) fn write(
        &self,
        path: &Path,
        mode: u32,
        stopped: &AtomicBool,
    ) -> anyhow::Result<(u64, String)> {
        let what = || format!("writing {}", path.display());
        let index = serde_json::to_vec(&Index::new(vec![self.descriptor()]))?;
        let mut writer = Writer::create(path, mode, &index).with_context(what)?;
        self.add(&mut writer, stopped).with_context(what)?;
        let (bytes, _) = writer.persist(path).with_context(what)?;
        Ok((bytes, layout::digest(&index)))
    }
}

/// A verified archive with a snapshot.
#[derive(Debug)]
pub(in crate::lifecycle) struct Found {
    path: PathBuf,
    archive: Verified,
    layers: Vec<Descriptor>,
    /// What it is.
    pub contents: Contents,
}

impl Found {
    /// Opens an archive and verifies all of it, in a step.
    ///
    /// # Errors
    /// A usage error for a file that has no snapshot, an environment error for a damaged one.
    pub async fn open(path: &Path, events: &Events) -> anyhow::Result<Self> {
        Self::of(path, super::check(path, events).await?)
    }

    fn of(path: &Path, archive: Verified) -> anyhow::Result<Self> {
        let Some(manifest) = manifest(&archive)? else {
            return Err(foreign(path, "it has no snapshot").into());
        };
        let contents = archive.json(&manifest.config)?;
        for blob in manifest.blobs() {
            archive.place(blob)?;
        }
        Ok(Self { path: path.to_owned(), archive, layers: manifest.layers, contents })
    }

    /// Writes its files into a directory, which only its owner can read. Blocks.
    ///
    /// # Errors
    /// If a file has a name outside of the directory; otherwise the file system's errors.
    pub fn unpack(&self, folder: &Path, stopped: &AtomicBool) -> anyhow::Result<()> {
        for layer in &self.layers {
            let name = layer.annotations.get(layout::TITLE).map(PathBuf::from).unwrap_or_default();
            let is_within = name.components().all(|part| matches!(part, Component::Normal(_)));
            if !is_within || name.as_os_str().is_empty() {
                return Err(damaged(&self.path, format!("invalid file name {}", name.display())).into());
            }
            let target = folder.join(&name);
            state::private_folder(target.parent().unwrap_or(folder))?;
            let content = Part::new(&self.archive.file, self.archive.place(layer)?);
            let mut file = state::begin_private(&target)?;
            let copied = io::copy(&mut Unless { stopped, content }, &mut file);
            copied.and_then(|_| file.sync_all()).with_context(|| format!("writing {}", target.display()))?;
        }
        Ok(())
    }
}

/// Returns what the snapshot in an archive is; none if it has no snapshot.
pub(super) fn contents(archive: &Verified) -> anyhow::Result<Option<Contents>> {
    manifest(archive)?.map(|manifest| archive.json(&manifest.config)).transpose()
}

fn manifest(archive: &Verified) -> anyhow::Result<Option<Manifest>> {
    let index: Index = archive.parse(layout::INDEX_FILE, &archive.index)?;
    let is_snapshot = |of: &&Descriptor| of.artifact_type.as_deref() == Some(layout::SNAPSHOT);
    index.manifests.iter().find(is_snapshot).map(|of| archive.json(of)).transpose()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let what = || format!("reading {}", folder.display());
    for entry in std::fs::read_dir(folder).with_context(what)? {
        let path = entry.with_context(what)?.path();
        if path.is_dir() { collect(&path, paths)? } else { paths.push(path) }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn contents() -> Contents {
        Contents { name: "a".into(), kindmesh: "1".into(), platform: "linux/amd64".into(), keys: false }
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("from");
        std::fs::create_dir_all(from.join("state/labs")).unwrap();
        std::fs::write(from.join("snapshot.json"), "{}").unwrap();
        std::fs::write(from.join("state/labs/x"), "x").unwrap();
        let path = folder.path().join("a.tar");
        let stop = AtomicBool::new(false);
        Packable::read(&from, &contents()).unwrap().write(&path, 0o600, &stop).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let found = Found::of(&path, Verified::open(&path, &|_, _| ()).unwrap()).unwrap();
        assert_eq!(found.contents, contents());
        let to = folder.path().join("to");
        found.unpack(&to, &stop).unwrap();
        assert_eq!(std::fs::read_to_string(to.join("state/labs/x")).unwrap(), "x");
        assert_eq!(std::fs::metadata(to.join("state/labs/x")).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn nothing_is_written_outside_of_the_directory() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x");
        std::fs::write(&file, "x").unwrap();
        let path = folder.path().join("a.tar");
        let stop = AtomicBool::new(false);
        for title in ["../evil", "/evil", "", "state/../../evil"] {
            let packed = Packed::open(&file, title).unwrap();
            let config = serde_json::to_vec(&contents()).unwrap();
            let of_config = Descriptor::of(layout::SNAPSHOT_CONTENTS, &config);
            let layers = vec![packed.descriptor.clone()];
            let manifest = Manifest::new(Some(layout::SNAPSHOT), of_config.clone(), layers);
            let manifest = serde_json::to_vec(&manifest).unwrap();
            let packable = Packable { manifest, config, of_config, files: vec![packed] };
            let _ = std::fs::remove_file(&path);
            packable.write(&path, 0o600, &stop).unwrap();
            let found = Found::of(&path, Verified::open(&path, &|_, _| ()).unwrap()).unwrap();
            let unpacked = found.unpack(&folder.path().join("to"), &stop);
            assert!(unpacked.is_err(), "{title}");
            assert!(!folder.path().join("evil").exists());
        }
    }
}
