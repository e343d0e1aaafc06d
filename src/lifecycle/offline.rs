//! All that `up` needs, in one file: for machines without a network, or many on a slow one.
//!
//! ```text
//! warm ─► baked node image, programs, renderings ─► OCI layout in a tar ─► every blob checked ─► engine, cache folder
//! ```
//!
//! One image is enough: the baked node image has the mesh's images in it, and the sample image is made from the executable.

use std::cell::Cell;
use std::io::{Read as _, Write as _};
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
use crate::host::state::Folders;
use crate::host::tool;
use crate::lifecycle::up;
use crate::spec::Loaded;

mod archive;
mod files;
mod image;
mod layout;

use archive::{Unless, Verified, Writer, damaged, foreign};
use files::Packed;
use image::{Blobs, Exported};
use layout::{Descriptor, Index, Manifest};

/// What an archive is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Contents {
    /// The kindmesh that wrote it.
    pub kindmesh: String,
    /// The platform of the image: `linux/amd64`.
    pub platform: String,
    /// The platform of the programs: `linux-amd64`.
    pub host: String,
    /// The node image, as the spec names it.
    pub node_image: String,
    /// The images that are in it, as the spec names them.
    pub images: Vec<String>,
    /// Istio's version.
    pub istio: String,
    /// The name that the node image with the others in it gets in an engine.
    pub name: String,
    /// What tells that image from others of the same name: its label.
    pub set: String,
}

/// An archive that was written.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Saved {
    /// The shape of this document.
    pub schema_version: u8,
    /// The archive.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// The digest of its index, and so of all that is in it.
    pub digest: String,
    /// How many blobs are in it.
    pub blobs: usize,
    /// What it is for.
    pub contents: Contents,
}

/// An archive that was loaded.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Brought {
    /// The shape of this document.
    pub schema_version: u8,
    /// The archive.
    pub path: PathBuf,
    /// The digest of its index.
    pub digest: String,
    /// How many blobs were held against their digests.
    pub blobs: usize,
    /// What it is for.
    pub contents: Contents,
    /// Whether the engine lacked the image.
    pub image_loaded: bool,
    /// The files that the cache folder lacked.
    pub files: Vec<String>,
    /// The files that are of no use here.
    pub left: Vec<String>,
}

/// Writes all that `up` with this spec needs on an engine of this platform to a new file; what is missing is made first,
/// for which the network may be needed. Beside the file, its size is needed again while it is written.
///
/// # Errors
/// A usage error for a file that is there; else as those of `up::warm`, or the file system's.
pub async fn save(
    loaded: &Loaded,
    path: &Path,
    timeout: Duration,
    folders: &Folders,
    events: &Events,
    interrupt: &Interrupt,
) -> anyhow::Result<Saved> {
    let deadline = Instant::now() + timeout;
    let late = || {
        Error::environment(format!("{} is not written after {} s", path.display(), timeout.as_secs()))
            .hint("what was made is kept: the same command goes on; --timeout gives it longer")
    };
    if path.exists() {
        let error = Error::usage(format!("{} is there already", path.display()));
        return Err(error.hint("name another file").into());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        let error = Error::usage(format!("there is no folder {}", folder.display()));
        return Err(error.hint(format!("mkdir -p {}", folder.display())).into());
    }
    let exported = async {
        let warm = up::warm(loaded, folders, events).await?;
        let contents = contents(&warm).await?;
        let exported = events.step("export", None).run(async |step| {
            let file = image::export(&warm.engine, &warm.node_image, folder, step).await?;
            Ok(Outcome::changed(elsewhere(move || Exported::read(file)).await?))
        });
        anyhow::Ok((exported.await?, contents, warm.plan))
    };
    let (exported, contents, plan) = wait::within(deadline, events, exported, late).await?;
    let pack = events.step("pack", None).run(async |step| {
        let files = files::gather(&folders.cache, &plan, step);
        let files = wait::within(deadline, events, files, late).await?;
        // What is written so far has a name, and so has to be put away.
        let _armed = interrupt.arm("putting away what was written");
        let stopped = Arc::new(AtomicBool::new(false));
        let (path_of, stopped_of) = (path.to_owned(), stopped.clone());
        let write = move || write(&path_of, &exported, &files, contents, &stopped_of);
        let writing = tokio::task::spawn_blocking(write);
        Ok(Outcome::changed(written(writing, &stopped, path, deadline, late, interrupt).await?))
    });
    pack.await
}

/// What is written, unless somebody or the time ends it before: then nothing is left of it.
async fn written(
    mut writing: JoinHandle<anyhow::Result<Saved>>,
    stopped: &AtomicBool,
    path: &Path,
    deadline: Instant,
    late: impl FnOnce() -> Error,
    interrupt: &Interrupt,
) -> anyhow::Result<Saved> {
    let interrupted = tokio::select! {
        written = &mut writing => return written?,
        () = interrupt.requested() => true,
        () = sleep_until(deadline) => false,
    };
    stopped.store(true, Ordering::Relaxed);
    // It fails, unless it was done.
    match (interrupted, writing.await?) {
        (true, written) => {
            let left = if written.is_ok() { "whole" } else { "not there" };
            Err(Error::environment(format!("interrupted: {} is {left}", path.display())).into())
        }
        (false, Ok(saved)) => Ok(saved),
        (false, Err(_)) => Err(late().into()),
    }
}

async fn contents(warm: &up::Warm) -> anyhow::Result<Contents> {
    let plan = &warm.plan;
    let set = bake::set(&warm.engine, &warm.node_image).await?.ok_or_else(|| {
        Error::environment(format!("the node image was not baked, and {} alone is not enough", warm.node_image))
            .hint("see why: kindmesh cache warm")
    })?;
    Ok(Contents {
        kindmesh: env!("CARGO_PKG_VERSION").into(),
        platform: plan.platform.clone(),
        host: tool::platform(),
        name: plan.archive_image(),
        node_image: plan.kubernetes.node_image.clone(),
        images: plan.stable_images(),
        istio: plan.mesh.version.clone(),
        set,
    })
}

/// Writes the archive, whole or not at all. Blocks.
fn write(
    path: &Path,
    exported: &Exported,
    files: &[Packed],
    contents: Contents,
    stopped: &AtomicBool,
) -> anyhow::Result<Saved> {
    let what = || format!("writing {}", path.display());
    let image = serde_json::to_vec(&exported.manifest)?;
    let config = serde_json::to_vec(&contents)?;
    let of_config = Descriptor::of(layout::CONTENTS, &config);
    let layers = files.iter().map(|file| file.descriptor.clone()).collect();
    let artifact = serde_json::to_vec(&Manifest::new(Some(layout::ARTIFACT), of_config.clone(), layers))?;

    let mut of_image = Descriptor::of(layout::MANIFEST, &image).annotated(layout::REFERENCE, &contents.name);
    let (of_image_config, mut image_config) =
        exported.blobs().next().context("an image without a configuration")?;
    let mut text = Vec::new();
    image_config.read_to_end(&mut text)?;
    of_image.platform = Some(image::platform(&text).with_context(|| of_image_config.digest.clone())?);
    let mut of_artifact = Descriptor::of(layout::MANIFEST, &artifact);
    of_artifact.artifact_type = Some(layout::ARTIFACT.into());
    let index = serde_json::to_vec(&Index::new(vec![of_image.clone(), of_artifact.clone()]))?;

    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // For others to read: there is no key in it.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    let file = tempfile::Builder::new()
        .prefix(".kindmesh-offline-")
        .permissions(mode)
        .tempfile_in(folder)
        .with_context(what)?;
    let mut writer = Writer::new(file, &index).with_context(what)?;
    for (of, content) in [(&of_artifact, &artifact), (&of_config, &config), (&of_image, &image)] {
        writer.blob(of, content.as_slice()).with_context(what)?;
    }
    for file in files {
        writer.blob(&file.descriptor, Unless { stopped, content: file.content() }).with_context(what)?;
    }
    for (of, content) in exported.blobs() {
        writer.blob(of, Unless { stopped, content }).with_context(what)?;
    }
    let (mut file, blobs) = writer.finish().with_context(what)?;
    file.flush().with_context(what)?;
    file.as_file().sync_all().with_context(what)?;
    let bytes = file.as_file().metadata().with_context(what)?.len();
    file.persist_noclobber(path).with_context(what)?;
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    Ok(Saved { schema_version: 1, path, bytes, digest: layout::digest(&index), blobs, contents })
}

/// Brings what an archive holds into the engine and the cache folder, after all of it was held against its digests. The
/// image gets a name of kindmesh's own, by which `up` finds it; nothing else is changed.
///
/// # Errors
/// A usage error for a file that is no archive, an environment error for one that is damaged, a missing prerequisite when
/// it is for another platform; else the engine's, or the file system's.
pub async fn load(path: &Path, timeout: Duration, folders: &Folders, events: &Events) -> anyhow::Result<Brought> {
    let late = || {
        Error::environment(format!("{} is not loaded after {} s", path.display(), timeout.as_secs()))
            .hint("what was loaded is kept: the same command goes on; --timeout gives it longer")
    };
    wait::within(Instant::now() + timeout, events, bring(path, folders, events), late).await
}

async fn bring(path: &Path, folders: &Folders, events: &Events) -> anyhow::Result<Brought> {
    let archive = events.step("check", None).run(async |step| {
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
    let archive = Arc::new(archive.await?);
    let Parts { image, artifact, contents } = parts(path, &archive)?;
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
    let load = events.step("load", None).run(async |step| {
        if bake::set(&engine, &contents.name).await?.as_ref() == Some(&contents.set) {
            return Ok(Outcome::unchanged(false));
        }
        let places = image.blobs().map(|blob| archive.place(blob)).collect::<Result<_, _>>()?;
        let blobs = Blobs { file: archive.file.clone(), manifest: image, places };
        image::load(&engine, blobs, &contents.name, step).await?;
        let set = bake::set(&engine, &contents.name).await?;
        if set.as_ref() != Some(&contents.set) {
            return Err(Error::environment(format!("the engine did not take the image {}", contents.name))
                .evidence(format!("its label {} is {set:?}, not {}", bake::LABEL, contents.set))
                .into());
        }
        Ok(Outcome::changed(true))
    });
    let image_loaded = load.await?;
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    Ok(Brought { schema_version: 1, path, digest, blobs, contents, image_loaded, files, left })
}

/// What an archive holds, its blobs all there.
struct Parts {
    image: Manifest,
    artifact: Manifest,
    contents: Contents,
}

fn parts(path: &Path, archive: &Verified) -> anyhow::Result<Parts> {
    let index: Index = archive.parse(layout::INDEX_FILE, &archive.index)?;
    let of_artifact = |descriptor: &&Descriptor| descriptor.artifact_type.as_deref() == Some(layout::ARTIFACT);
    let Some(artifact) = index.manifests.iter().find(of_artifact) else {
        return Err(foreign(path, &format!("its index names no {}", layout::ARTIFACT)).into());
    };
    let artifact: Manifest = archive.json(artifact)?;
    let contents: Contents = archive.json(&artifact.config)?;
    let image = index.manifests.iter().find(|descriptor| descriptor.artifact_type.is_none());
    let image = image.ok_or_else(|| damaged(path, "its index names no image".into()))?;
    let image: Manifest = archive.json(image)?;
    for blob in artifact.blobs().chain(image.blobs()) {
        archive.place(blob)?;
    }
    Ok(Parts { image, artifact, contents })
}

fn refuse_another_platform(engine: &Engine, path: &Path, contents: &Contents) -> Result<(), Error> {
    let has = format!("{}/{}", engine.facts.os, engine.facts.architecture);
    if has == contents.platform {
        return Ok(());
    }
    Err(Error::prerequisite(format!("{} is for {}, and the engine is {has}", path.display(), contents.platform))
        .hint(format!("make one on a machine whose engine is {has}: kindmesh offline save")))
}

#[cfg(test)]
mod tests;
