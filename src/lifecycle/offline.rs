//! Everything that `up` needs, in one file: for hosts without a network, or for many hosts on a slow one.
//!
//! ```text
//! warm ─► built node image, tools, manifests ─► OCI layout in a tar ─► verify every blob ─► engine, cache directory
//! ```
//!
//! One image is enough, or one for each node image of the spec: the built node image includes the mesh's images, and the sample image is built from the
//! executable.

use std::cell::Cell;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::base::blocking::{StopOnDrop, elsewhere};
use crate::base::error::Error;
use crate::base::event::{Events, Outcome};
use crate::base::interrupt::Interrupt;
use crate::base::wait;
use crate::host::docker::{Engine, bake};
use crate::host::state::Directories;
use crate::host::tool;
use crate::lifecycle::up;
use crate::spec::Loaded;

mod archive;
mod files;
mod image;
mod layout;
pub mod snapshot;

use archive::{Unless, Verified, Writer, damaged, foreign};
use files::Packed;
use image::{Blobs, Exported};
use layout::{Descriptor, Index, Manifest};
use snapshot::Packable;

/// What an archive contains, and for which spec and platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Contents {
    /// The version of kindmesh that wrote it.
    pub kindmesh: String,
    /// The platform of the image: `linux/amd64`.
    pub platform: String,
    /// The platform of the tools: `linux-amd64`.
    pub host: String,
    /// The versions of Istio.
    pub istio: Vec<String>,
    /// The built node images.
    pub node_images: Vec<NodeImage>,
}

/// A built node image in an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeImage {
    /// The node image in the spec.
    pub node_image: String,
    /// The included images, as in the spec.
    pub images: Vec<String>,
    /// The name of the built node image in an engine.
    pub name: String,
    /// The value of the label that identifies that image among others of the same name.
    pub set: String,
}

/// A written archive.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Saved {
    /// The version of this format.
    pub schema_version: u8,
    /// The path of the archive.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// The digest of its index, which covers its whole content.
    pub digest: String,
    /// The number of its blobs.
    pub blobs: usize,
    /// What it contains.
    pub contents: Contents,
}

/// A loaded archive.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadedArchive {
    /// The version of this format.
    pub schema_version: u8,
    /// The path of the archive.
    pub path: PathBuf,
    /// The digest of its index.
    pub digest: String,
    /// The number of verified blobs.
    pub blobs: usize,
    /// What it contains.
    pub contents: Contents,
    /// Whether an image was loaded, because the engine did not have it.
    pub image_loaded: bool,
    /// The files that were added to the cache directory.
    pub files: Vec<String>,
    /// The files that were skipped, because this host cannot use them.
    pub left: Vec<String>,
    /// The name of the snapshot that it contains, which is not imported.
    pub snapshot: Option<String>,
}

/// Writes everything that `up` needs for this spec on an engine of this platform to a new file. First prepares what
/// is missing, which may require the network. Requires disk space for twice the file's size. Adds a snapshot if there is one.
///
/// # Errors
/// A usage error for an existing file; otherwise as for `up::warm`, or the file system's errors.
pub async fn save(
    loaded: &Loaded,
    path: &Path,
    timeout: Duration,
    folders: &Directories,
    events: &Events,
    interrupt: &Interrupt,
    snapshot: Option<Packable>,
) -> anyhow::Result<Saved> {
    let deadline = Instant::now() + timeout;
    let late = || {
        Error::environment(format!("{} is not complete after {} s", path.display(), timeout.as_secs()))
            .hint("the same command continues where this run stopped; --timeout allows more time")
    };
    require_new(path)?;
    let folder = archive::folder_of(path);
    let exported = async {
        let warm = up::warm(loaded, folders, events).await?;
        let contents = contents(&warm).await?;
        let exported = events.step("export", None).run(async |step| {
            let mut exported = Vec::new();
            // In the order of the contents.
            for name in warm.plan.node_images() {
                let image = warm.node_images.get(name).with_context(|| format!("{name} was not built"))?;
                let file = image::export(&warm.engine, image, folder, step).await?;
                exported.push(elsewhere(move || Exported::read(file)).await?);
            }
            Ok(Outcome::changed(exported))
        });
        anyhow::Ok((exported.await?, contents, warm.plan))
    };
    let (exported, contents, plan) = wait::within(deadline, events, exported, late).await?;
    let pack = events.step("pack", None).run(async |step| {
        let files = files::gather(&folders.cache, &plan, step);
        let files = wait::within(deadline, events, files, late).await?;
        // The incomplete file has a name, so an interrupt must remove it.
        let _armed = interrupt.arm("removing the incomplete file");
        let stopped = Arc::new(AtomicBool::new(false));
        let (path_of, stopped_of) = (path.to_owned(), stopped.clone());
        let write = move || write(&path_of, &exported, &files, snapshot.as_ref(), contents, &stopped_of);
        let writing = tokio::task::spawn_blocking(write);
        Ok(Outcome::changed(written(writing, &stopped, path, deadline, late, interrupt).await?))
    });
    pack.await
}

/// Requires that a file does not exist, and that its directory does.
///
/// # Errors
/// A usage error otherwise.
pub fn require_new(path: &Path) -> Result<(), Error> {
    if path.exists() {
        let error = Error::usage(format!("{} already exists", path.display()));
        return Err(error.hint("choose another file"));
    }
    let folder = archive::folder_of(path);
    if !folder.is_dir() {
        let error = Error::usage(format!("directory {} not found", folder.display()));
        return Err(error.hint(format!("mkdir -p {}", folder.display())));
    }
    Ok(())
}

/// Waits for the writer. On an interrupt or at the deadline, stops it, so that it removes the incomplete file.
pub(super) async fn written<T>(
    mut writing: JoinHandle<anyhow::Result<T>>,
    stopped: &AtomicBool,
    path: &Path,
    deadline: Instant,
    late: impl FnOnce() -> Error,
    interrupt: &Interrupt,
) -> anyhow::Result<T> {
    let interrupted = tokio::select! {
        written = &mut writing => return written?,
        () = interrupt.requested() => true,
        () = sleep_until(deadline) => false,
    };
    stopped.store(true, Ordering::Relaxed);
    // Has no effect if the file is complete.
    match (interrupted, writing.await?) {
        (true, written) => {
            let left = if written.is_ok() { "complete" } else { "not written" };
            Err(Error::environment(format!("interrupted: {} is {left}", path.display())).into())
        }
        (false, Ok(saved)) => Ok(saved),
        (false, Err(_)) => Err(late().into()),
    }
}

async fn contents(warm: &up::Warm) -> anyhow::Result<Contents> {
    let plan = &warm.plan;
    let mut node_images = Vec::new();
    for name in plan.node_images() {
        let built = warm.node_images.get(name).map_or(name, String::as_str);
        let set = bake::set(&warm.engine, built).await?.ok_or_else(|| {
            Error::environment(format!("the node image was not built, and {built} alone is not enough"))
                .hint("see why: kindmesh cache warm")
        })?;
        node_images.push(NodeImage {
            node_image: name.to_owned(),
            images: plan.stable_images_on(name),
            name: plan.archive_image(name),
            set,
        });
    }
    Ok(Contents {
        kindmesh: env!("CARGO_PKG_VERSION").into(),
        platform: plan.docker()?.platform.clone(),
        host: tool::platform(),
        istio: plan.istio_versions().into_iter().map(str::to_owned).collect(),
        node_images,
    })
}

/// Writes the archive, completely or not at all. Blocks.
fn write(
    path: &Path,
    exported: &[Exported],
    files: &[Packed],
    snapshot: Option<&Packable>,
    contents: Contents,
    stopped: &AtomicBool,
) -> anyhow::Result<Saved> {
    let what = || format!("writing {}", path.display());
    let config = serde_json::to_vec(&contents)?;
    let of_config = Descriptor::of(layout::CONTENTS, &config);
    let layers = files.iter().map(|file| file.descriptor.clone()).collect();
    let artifact = serde_json::to_vec(&Manifest::new(Some(layout::ARTIFACT), of_config.clone(), layers))?;

    let images = exported.iter().zip(&contents.node_images).map(|(exported, of)| described(exported, &of.name));
    let images = images.collect::<anyhow::Result<Vec<_>>>()?;
    let mut of_artifact = Descriptor::of(layout::MANIFEST, &artifact);
    of_artifact.artifact_type = Some(layout::ARTIFACT.into());
    let mut entries: Vec<_> = images.iter().map(|(of, _)| of.clone()).chain([of_artifact.clone()]).collect();
    entries.extend(snapshot.map(Packable::descriptor));
    let index = serde_json::to_vec(&Index::new(entries))?;

    // World-readable: it contains no keys.
    let mut writer = Writer::create(path, 0o644, &index).with_context(what)?;
    let images = images.iter().map(|(of, content)| (of, content));
    for (of, content) in [(&of_artifact, &artifact), (&of_config, &config)].into_iter().chain(images) {
        writer.blob(of, content.as_slice()).with_context(what)?;
    }
    for file in files {
        writer.blob(&file.descriptor, Unless { stopped, content: file.content() }).with_context(what)?;
    }
    for (of, content) in exported.iter().flat_map(Exported::blobs) {
        writer.blob(of, Unless { stopped, content }).with_context(what)?;
    }
    if let Some(snapshot) = snapshot {
        snapshot.add(&mut writer, stopped).with_context(what)?;
    }
    let (bytes, blobs) = writer.persist(path).with_context(what)?;
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    Ok(Saved { schema_version: 1, path, bytes, digest: layout::digest(&index), blobs, contents })
}

/// Returns the descriptor of an exported image, which gets this name, and its manifest.
fn described(exported: &Exported, name: &str) -> anyhow::Result<(Descriptor, Vec<u8>)> {
    let manifest = serde_json::to_vec(&exported.manifest)?;
    let mut of = Descriptor::of(layout::MANIFEST, &manifest).annotated(layout::REFERENCE, name);
    let (of_config, mut config) = exported.blobs().next().context("the exported image has no configuration")?;
    let mut text = Vec::new();
    config.read_to_end(&mut text)?;
    of.platform = Some(image::platform(&text).with_context(|| of_config.digest.clone())?);
    Ok((of, manifest))
}

/// Loads an archive into the engine and the cache directory, after verifying every digest. The image gets a name
/// under which `up` finds it; nothing else is changed.
///
/// # Errors
/// A usage error for a file that is not an archive, an environment error for a damaged one, a prerequisite error
/// for one of another platform; otherwise errors of the engine or the file system.
pub async fn load(
    path: &Path,
    timeout: Duration,
    folders: &Directories,
    events: &Events,
) -> anyhow::Result<LoadedArchive> {
    let late = || {
        Error::environment(format!("{} is not loaded after {} s", path.display(), timeout.as_secs()))
            .hint("the same command continues where this run stopped; --timeout allows more time")
    };
    wait::within(Instant::now() + timeout, events, bring(path, folders, events), late).await
}

async fn bring(path: &Path, folders: &Directories, events: &Events) -> anyhow::Result<LoadedArchive> {
    let archive = Arc::new(check(path, events).await?);
    let Parts { images, artifact, contents } = parts(path, &archive)?;
    let engine = events.step("engine", None).run(async |_| {
        let engine = Engine::connect().await?;
        refuse_another_platform(&engine, path, &contents)?;
        Ok(Outcome::unchanged(engine))
    });
    let engine = engine.await?;

    let place = events.step("place", None).run(async |_| {
        let (cache, istio, archive) = (folders.cache.clone(), contents.istio.clone(), archive.clone());
        let stopped = StopOnDrop::default();
        let flag = stopped.0.clone();
        let place = move || files::place(&cache, &istio, &archive, &artifact.layers, &flag);
        let placed = elsewhere(place).await?;
        Ok(Outcome { changed: !placed.0.is_empty(), value: placed })
    });
    let (files, left) = place.await?;
    let (digest, blobs) = (layout::digest(&archive.index), archive.len());
    let snapshot = snapshot::contents(&archive)?.map(|contents| contents.name);
    let load = events.step("load", None).run(async |step| {
        let mut changed = false;
        for (image, of) in images.into_iter().zip(&contents.node_images) {
            if bake::set(&engine, &of.name).await?.as_ref() == Some(&of.set) {
                continue;
            }
            let places = image.blobs().map(|blob| archive.place(blob)).collect::<Result<_, _>>()?;
            let blobs = Blobs { file: archive.file.clone(), manifest: image, places };
            image::load(&engine, blobs, &of.name, step).await?;
            let set = bake::set(&engine, &of.name).await?;
            if set.as_ref() != Some(&of.set) {
                return Err(Error::environment(format!("the engine did not load the image {}", of.name))
                    .evidence(format!("its label {} is {set:?}, not {}", bake::LABEL, of.set))
                    .into());
            }
            changed = true;
        }
        Ok(Outcome { value: changed, changed })
    });
    let image_loaded = load.await?;
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    Ok(LoadedArchive { schema_version: 1, path, digest, blobs, contents, image_loaded, files, left, snapshot })
}

/// Opens an archive and verifies all of it, in a step.
async fn check(path: &Path, events: &Events) -> anyhow::Result<Verified> {
    let check = events.step("check", None).run(async |step| {
        let (path, step) = (path.to_owned(), step.clone());
        let read = move || {
            let told = Cell::new(0);
            Verified::open(&path, &|bytes, total| {
                if bytes >> 27 > told.get() {
                    told.set(bytes >> 27);
                    step.waiting("the archive", &format!("{} of {} MB", bytes / 1_000_000, total / 1_000_000));
                }
            })
        };
        Ok(Outcome::unchanged(elsewhere(read).await?))
    });
    check.await
}

/// The parsed parts of an archive. All blobs that they refer to exist.
struct Parts {
    /// In the order of the contents.
    images: Vec<Manifest>,
    artifact: Manifest,
    contents: Contents,
}

fn parts(path: &Path, archive: &Verified) -> anyhow::Result<Parts> {
    let index: Index = archive.parse(layout::INDEX_FILE, &archive.index)?;
    let of_artifact = |descriptor: &&Descriptor| descriptor.artifact_type.as_deref() == Some(layout::ARTIFACT);
    let Some(artifact) = index.manifests.iter().find(of_artifact) else {
        return Err(foreign(path, &format!("its index has no {}", layout::ARTIFACT)).into());
    };
    let artifact: Manifest = archive.json(artifact)?;
    let contents: Contents = archive.json(&artifact.config)?;
    let images: Vec<&Descriptor> =
        index.manifests.iter().filter(|descriptor| descriptor.artifact_type.is_none()).collect();
    if images.is_empty() || images.len() != contents.node_images.len() {
        let what = format!("its index has {} images, not {}", images.len(), contents.node_images.len());
        return Err(damaged(path, what).into());
    }
    let images: Vec<Manifest> = images.into_iter().map(|image| archive.json(image)).collect::<Result<_, _>>()?;
    for blob in artifact.blobs().chain(images.iter().flat_map(Manifest::blobs)) {
        archive.place(blob)?;
    }
    Ok(Parts { images, artifact, contents })
}

fn refuse_another_platform(engine: &Engine, path: &Path, contents: &Contents) -> Result<(), Error> {
    let has = engine.facts.platform();
    if has == contents.platform {
        return Ok(());
    }
    Err(Error::prerequisite(format!("{} is for {}, but the engine is {has}", path.display(), contents.platform))
        .hint(format!("save one on a host with a {has} engine: kindmesh offline save")))
}

#[cfg(test)]
mod tests;
