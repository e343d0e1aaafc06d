//! The files of the cache directory in an archive: tools for this host and Istio's rendered manifests.

use std::fs::{File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::Context;

use super::archive::{Part, Place, Unless, Verified, digest_of};
use super::layout::{self, Descriptor};
use crate::base::blocking::elsewhere;
use crate::base::event::Step;
use crate::cluster::mesh::render;
use crate::host::state;
use crate::host::tool;
use crate::plan::Plan;

/// A file of an archive.
#[derive(Debug)]
pub(super) struct Packed {
    pub descriptor: Descriptor,
    file: File,
}

impl Packed {
    /// Returns its content.
    pub(super) fn content(&self) -> Part<'_> {
        Part::new(&self.file, Place { offset: 0, size: self.descriptor.size })
    }

    /// Opens a file and reads all of it for its digest. Blocks.
    pub(super) fn open(path: &Path, title: &str) -> anyhow::Result<Self> {
        let what = || format!("reading {}", path.display());
        let file = File::open(path).with_context(what)?;
        let size = file.metadata().with_context(what)?.len();
        let digest = digest_of(Part::new(&file, Place { offset: 0, size })).with_context(what)?;
        let descriptor = Descriptor::new(layout::FILE, digest, size).annotated(layout::TITLE, title);
        Ok(Self { descriptor, file })
    }
}

/// Returns the tools and rendered manifests that `up` uses for this plan. Missing tools are downloaded; the manifests
/// exist after `up::warm`.
///
/// # Errors
/// If a tool can be neither used nor downloaded; otherwise the file system's errors.
pub(super) async fn gather(cache: &Path, plan: &Plan, step: &Step) -> anyhow::Result<Vec<Packed>> {
    let mut found = Vec::new();
    for (tool, version) in tool::required(plan.istio_versions()) {
        let path = tool::portable(tool, version, cache, step).await?.path;
        found.push((path, title(cache, &tool::place(tool, version, cache)?)));
    }
    let mut renderings = Vec::new();
    for cluster in &plan.clusters {
        renderings.push(render::kept(cache, cluster)?);
    }
    // Clusters may share rendered manifests.
    renderings.dedup();
    found.extend(renderings.into_iter().filter(|path| path.exists()).map(|path| {
        let title = title(cache, &path);
        (path, title)
    }));
    elsewhere(move || found.iter().map(|(path, title)| Packed::open(path, title)).collect()).await
}

/// Copies the files of an archive to the cache directory. Returns the names of those that it added, and of those
/// that this kindmesh cannot use on this host. Blocks.
///
/// # Errors
/// The file system's errors.
pub(super) fn place(
    cache: &Path,
    istio: &[String],
    archive: &Verified,
    layers: &[Descriptor],
    stopped: &AtomicBool,
) -> anyhow::Result<(Vec<String>, Vec<String>)> {
    let (mut placed, mut left) = (Vec::new(), Vec::new());
    let mut programs = Vec::new();
    for (tool, version) in tool::required(istio.iter().map(String::as_str)) {
        programs.push(title(cache, &tool::place(tool, version, cache)?));
    }
    for layer in layers {
        let name = layer.annotations.get(layout::TITLE).cloned().unwrap_or_default();
        let mode = match name.as_str() {
            name if programs.iter().any(|program| program == name) => 0o755,
            name if is_rendering(name) => 0o600,
            _ => {
                left.push(name);
                continue;
            }
        };
        // An existing file is the same: its path contains the version of a tool, or the digest of a rendering's input.
        let path = cache.join(&name);
        if !path.exists() {
            let content = Part::new(&archive.file, archive.place(layer)?);
            write(&path, mode, Unless { stopped, content })
                .with_context(|| format!("writing {}", path.display()))?;
            placed.push(name);
        }
    }
    Ok((placed, left))
}

/// Returns a file's path in the cache directory from its name in an archive.
fn title(cache: &Path, path: &Path) -> String {
    path.strip_prefix(cache).unwrap_or(path).display().to_string()
}

/// Whether a name is that of rendered manifests. The check is strict, since an archive can contain any name.
fn is_rendering(name: &str) -> bool {
    let digest = name.strip_prefix(render::FOLDER).and_then(|rest| rest.strip_prefix('/')?.strip_suffix(".yaml"));
    digest.is_some_and(|digest| digest.len() == 64 && digest.chars().all(|c| c.is_ascii_hexdigit()))
}

/// Writes a file completely or not at all.
fn write(path: &Path, mode: u32, mut content: impl Read) -> anyhow::Result<()> {
    let folder = path.parent().map_or_else(|| PathBuf::from("."), Path::to_owned);
    state::private_folder(&folder)?;
    let mut file = tempfile::Builder::new().permissions(Permissions::from_mode(mode)).tempfile_in(&folder)?;
    io::copy(&mut content, &mut file)?;
    file.as_file().sync_all()?;
    // Closed before the rename: a file that is open for writing cannot be executed.
    file.into_temp_path().persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tool::Tool;
    use crate::lifecycle::offline::archive::Writer;

    #[test]
    fn archive_files_are_written_only_to_the_cache() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("cache");
        let kind = title(&cache, &tool::place(Tool::Kind, tool::KIND_VERSION, &cache).unwrap());
        let rendering = format!("{}/{}.yaml", render::FOLDER, "a".repeat(64));
        let names =
            [&kind, &rendering, "../evil", "/etc/evil", "tools/kind-v0.1.0-plan9-mips/kind", "istio/../x.yaml"];
        let file = Descriptor::of(layout::FILE, b"content");
        let layers: Vec<_> = names.iter().map(|name| file.clone().annotated(layout::TITLE, name)).collect();
        let path = folder.path().join("a.tar");
        let mut writer = Writer::new(File::create(&path).unwrap(), b"{}").unwrap();
        writer.blob(&file, b"content".as_slice()).unwrap();
        writer.finish().unwrap();
        let archive = Verified::open(&path, &|_, _| ()).unwrap();

        // A canceled write leaves nothing behind.
        assert!(place(&cache, &["1.31.1".to_owned()], &archive, &layers, &AtomicBool::new(true)).is_err());
        assert_eq!(std::fs::read_dir(cache.join(&kind).parent().unwrap()).unwrap().count(), 0);

        let place = || place(&cache, &["1.31.1".to_owned()], &archive, &layers, &AtomicBool::new(false)).unwrap();
        let (placed, left) = place();
        assert_eq!(placed, [kind.clone(), rendering.clone()]);
        assert_eq!(left, names[2..]);
        let mode = |name: &str| std::fs::metadata(cache.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&kind), mode(&rendering)), (0o755, 0o600));
        assert_eq!(std::fs::read(cache.join(&kind)).unwrap(), b"content");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
        // An existing file is kept.
        std::fs::write(cache.join(&kind), "own").unwrap();
        assert!(place().0.is_empty());
        assert_eq!(std::fs::read(cache.join(&kind)).unwrap(), b"own");
    }
}
