//! Snapshots as files, for other engines of the same platform. Without keys, unless the user wants them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::{STATE, open, spec, store};
use crate::base::blocking::{StopOnDrop, elsewhere};
use crate::base::error::Error;
use crate::base::event::{Events, Outcome};
use crate::base::interrupt::Interrupt;
use crate::base::wait;
use crate::cluster::mesh::roots;
use crate::host::docker::Engine;
use crate::host::snapshot::keys::{self, Removed};
use crate::host::snapshot::{Manifest, Snapshot, Unfinished, restore};
use crate::host::state::{Directories, Files};
use crate::host::trust::{Intermediate, Root};
use crate::lifecycle::offline::snapshot::{Contents, Found, Packable};
use crate::lifecycle::{offline, up};
use crate::spec::Label;

/// A snapshot that was written to a file.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Exported {
    /// The version of this format.
    pub schema_version: u8,
    /// The path of the file.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// The digest of its index, which covers its whole content.
    pub digest: String,
    /// Whether it contains the keys of the clusters.
    pub keys: bool,
    /// The platform of the engines that can use it: `linux/amd64`.
    pub platform: String,
    /// What was left out and nothing creates again.
    pub removed: Removed,
}

/// Writes a snapshot to a new file; without the keys of its clusters, unless `with_keys`.
///
/// # Errors
/// A usage error if there is no such snapshot, if the file exists, or for keys in GitHub Actions; otherwise the file system's
/// errors.
pub async fn export(
    folders: &Directories,
    name: &str,
    path: &Path,
    with_keys: bool,
    timeout: Duration,
    events: &Events,
    interrupt: &Interrupt,
) -> anyhow::Result<Exported> {
    let deadline = Instant::now() + timeout;
    let late = || {
        let error =
            Error::environment(format!("{} is not complete after {} s", path.display(), timeout.as_secs()));
        error.hint("--timeout allows more time")
    };
    if with_keys && std::env::var_os("GITHUB_ACTIONS").is_some_and(|value| value == "true") {
        return Err(Error::usage(
            "a snapshot with keys is not written in GitHub Actions: caches and artifacts can be read by others",
        )
        .hint("omit --with-keys")
        .into());
    }
    offline::require_new(path)?;
    let snapshot = open(folders, name)?;
    let packed = events.step("pack", None).run(async |_| {
        let packed = wait::within(deadline, events, pack(folders, snapshot, with_keys), late).await?;
        let _armed = interrupt.arm("removing the incomplete file");
        let stopped = Arc::new(AtomicBool::new(false));
        let (path_of, stopped_of) = (path.to_owned(), stopped.clone());
        let mode = if with_keys { 0o600 } else { 0o644 };
        let Packed { packable, removed, platform } = packed;
        let write = move || packable.write(&path_of, mode, &stopped_of);
        let writing = tokio::task::spawn_blocking(write);
        let written = offline::written(writing, &stopped, path, deadline, late, interrupt).await?;
        Ok(Outcome::changed((written, platform, removed)))
    });
    let ((bytes, digest), platform, removed) = packed.await?;
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    Ok(Exported { schema_version: 1, path, bytes, digest, keys: with_keys, platform, removed })
}

/// A snapshot to write, and what is left out.
#[derive(Debug)]
pub struct Packed {
    /// The snapshot.
    pub packable: Packable,
    /// What is left out.
    pub removed: Removed,
    platform: String,
}

/// Prepares a snapshot to be written.
///
/// # Errors
/// If an archive has changed; otherwise the file system's errors.
pub async fn pack(folders: &Directories, snapshot: Snapshot, with_keys: bool) -> anyhow::Result<Packed> {
    let store = store(folders);
    elsewhere(move || {
        store.sweep()?;
        restore::check(&snapshot)?;
        let contents = Contents {
            name: snapshot.name.clone(),
            kindmesh: snapshot.manifest.kindmesh.clone(),
            platform: snapshot.manifest.platform.clone(),
            keys: with_keys,
        };
        let platform = contents.platform.clone();
        if with_keys {
            let packable = Packable::read(&snapshot.folder, &contents)?;
            return Ok(Packed { packable, removed: Removed::default(), platform });
        }
        let copy = store.begin(&contents.name)?;
        // The files stay open, and need no name.
        let packed = without_keys(&snapshot, &copy).and_then(|removed| {
            let packable = Packable::read(&copy.file(""), &contents)?;
            Ok(Packed { packable, removed, platform })
        });
        copy.discard()?;
        packed
    })
    .await
}

fn without_keys(snapshot: &Snapshot, copy: &Unfinished) -> anyhow::Result<Removed> {
    let (manifest, removed) = keys::remove(&snapshot.manifest, &snapshot.folder, &copy.file(""))?;
    let (from, to) = (Files { root: snapshot.file(STATE) }, Files { root: copy.file(STATE) });
    super::copy_without_keys(&from, &to)?;
    manifest.write(&copy.file(""))?;
    Ok(removed)
}

/// Reads a snapshot from a file: verifies it, prepares its node image on the engine, and creates new keys if it has none.
///
/// # Errors
/// A usage error for a file without a snapshot, a snapshot of another version or platform, one whose name is in use, or
/// one with keys unless `trust_keys`; otherwise as for `up::warm`, or the file system's errors.
pub async fn import(
    folders: &Directories,
    path: &Path,
    trust_keys: bool,
    timeout: Duration,
    events: &Events,
) -> anyhow::Result<Snapshot> {
    let late = || {
        let error =
            Error::environment(format!("{} was not imported within {} s", path.display(), timeout.as_secs()));
        error.hint("--timeout allows more time")
    };
    wait::within(Instant::now() + timeout, events, read(folders, path, trust_keys, events), late).await
}

async fn read(folders: &Directories, path: &Path, trust_keys: bool, events: &Events) -> anyhow::Result<Snapshot> {
    let found = Found::open(path, events).await?;
    let contents = found.contents.clone();
    let name = contents.name.clone();
    let engine = Engine::connect().await?;
    admit(path, &contents, &engine, trust_keys)?;
    let store = store(folders);
    if store.exists(&name) {
        return Err(Error::usage(format!("snapshot {name} already exists"))
            .hint(format!("remove it: kindmesh snapshot remove {name}"))
            .into());
    }
    let (unpacked, swept) = (store.begin(&contents.name)?, store.clone());
    let stop = StopOnDrop::default();
    let (folder, stopped) = (unpacked.file(""), stop.0.clone());
    let manifest = elsewhere(move || {
        swept.sweep()?;
        found.unpack(&folder, &stopped)?;
        let manifest = Manifest::read(&folder)?;
        manifest.require_plain_names()?;
        Ok(manifest)
    });
    let imported = async {
        let manifest = manifest.await?;
        let whole = Snapshot { name: contents.name.clone(), folder: unpacked.file(""), manifest };
        let loaded = spec(&whole)?;
        let warm = up::warm(&loaded, folders, events).await?;
        let complete = events.step("snapshot", None).run(async |_| {
            let store = store.clone();
            let work = move || {
                restore::check(&whole)?;
                let here = |mut manifest: Manifest| {
                    manifest.engine.clone_from(&warm.engine.facts.id);
                    for (name, cluster) in &mut manifest.clusters {
                        if let Some(image) = warm.node_image_of(name) {
                            cluster.node_image.clone_from(image);
                        }
                    }
                    manifest
                };
                if contents.keys {
                    return Ok((here(whole.manifest), None));
                }
                let keyed = store.begin(&contents.name)?;
                match with_new_keys(&whole, &keyed) {
                    Ok(manifest) => Ok((here(manifest), Some(keyed))),
                    Err(error) => {
                        keyed.discard()?;
                        Err(error)
                    }
                }
            };
            Ok(Outcome::changed(elsewhere(work).await?))
        });
        complete.await
    };
    match imported.await {
        Ok((manifest, None)) => unpacked.complete(&manifest)?,
        Ok((manifest, Some(keyed))) => {
            unpacked.discard()?;
            keyed.complete(&manifest)?;
        }
        Err(error) => {
            unpacked.discard()?;
            return Err(error);
        }
    }
    open(folders, &name)
}

/// Copies a snapshot, with a new root of trust and new keys of Kubernetes.
fn with_new_keys(from: &Snapshot, to: &Unfinished) -> anyhow::Result<Manifest> {
    let (source, files) = (Files { root: from.file(STATE) }, Files { root: to.file(STATE) });
    super::copy_without_keys(&source, &files)?;
    let environment = &from.manifest.environment;
    let root = Root::ensure(&files.trust(), environment)?.value;
    keys::create(&from.manifest, &from.folder, &to.file(""), |name, cluster, ca| {
        let trust = Intermediate::ensure(&files.trust(), &root, environment, name)?.value;
        let mut objects = roots::changed(&cluster.objects, Some(&trust), None, |_| true);
        objects.extend(roots::of_kubernetes(&cluster.objects, &ca.cert_pem()));
        Ok(objects)
    })
}

fn admit(path: &Path, contents: &Contents, engine: &Engine, trust_keys: bool) -> anyhow::Result<()> {
    let refused = |why: String, hint: &str| {
        Err(Error::usage(format!("{} cannot be imported here: {why}", path.display())).hint(hint).into())
    };
    if contents.name.parse::<Label>().is_err() {
        return refused(format!("invalid name {:?}", contents.name), "export it again");
    }
    if contents.kindmesh != env!("CARGO_PKG_VERSION") {
        let why = format!("kindmesh {} saved it, this is {}", contents.kindmesh, env!("CARGO_PKG_VERSION"));
        return refused(why, "import it with the version that saved it");
    }
    let platform = engine.facts.platform();
    if contents.platform != platform {
        let why = format!("it is for {}, but the engine is {platform}", contents.platform);
        return refused(why, "save a snapshot on an engine of this platform");
    }
    if contents.keys && !trust_keys {
        let why =
            "it contains keys, and whoever wrote it can use the clusters that are created from it".to_owned();
        return refused(why, "if you trust its source, use --trust-keys; or export it without keys");
    }
    Ok(())
}
