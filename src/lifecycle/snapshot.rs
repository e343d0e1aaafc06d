//! Snapshots of environments: a user saves them by name, and restores them later. A template of `up` is a snapshot, too.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use futures::future::try_join_all;
use kube::api::DynamicObject;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use crate::base::blocking::elsewhere;
use crate::base::error::Error;
use crate::base::event::{Events, Outcome};
use crate::cluster::environment::Environment;
use crate::cluster::fault;
use crate::cluster::mesh::roots;
use crate::cluster::rollout;
use crate::host::docker::{Engine, image_marks};
use crate::host::snapshot::{self, Manifest, Snapshot, Store, Unfinished, capture, restore};
use crate::host::state::{self, Directories, Files};
use crate::lifecycle::locked;
use crate::plan::image_names::reference::containerd_name;
use crate::plan::{Cluster, Plan};
use crate::spec::{self, Label, Loaded};

#[cfg(feature = "cli")]
pub mod transfer;

/// The directory in a snapshot with files of the environment's state directory.
const STATE: &str = "state";
/// The repositories of the images of Kubernetes and kind, which a node image contains.
const OF_KUBERNETES: [&str; 2] = ["registry.k8s.io/", "docker.io/kindest/"];

/// Takes the nodes of running clusters, with the images that the node image does not contain if `with_images`.
///
/// # Errors
/// Errors of the engine, the API servers or the file system.
pub(crate) async fn take(
    engine: &Engine,
    plan: &Plan,
    clusters: &[(&Cluster, &Client)],
    with_images: bool,
    begun: &Unfinished,
) -> anyhow::Result<Manifest> {
    let folder = begun.file("");
    let mut known: Vec<String> = plan.stable_images().iter().map(|image| containerd_name(image)).collect();
    known.extend(OF_KUBERNETES.map(str::to_owned));
    let node = async |name: &String| {
        let mut node = capture::node(engine, name, &folder).await?;
        if with_images {
            node.images = capture::images(engine, name, &known, &folder).await?;
        }
        anyhow::Ok(node)
    };
    let taken = clusters.iter().map(async |(cluster, client)| {
        // Before the nodes: with volumes, their API servers are frozen.
        let (objects, ready) = futures::try_join!(roots::objects(client), ready(client, with_images))?;
        let nodes = try_join_all(cluster.nodes().iter().map(node)).await?;
        let kind = cluster.kind()?;
        let (pod_subnet, service_subnet) = (kind.pod_subnet, kind.service_subnet);
        let image = nodes.first().and_then(|node| node.container["Image"].as_str());
        let node_image = image.unwrap_or_default().to_owned();
        let taken =
            snapshot::Cluster { node_image, pod_subnet, service_subnet, nodes, objects, new_keys: false, ready };
        anyhow::Ok((cluster.name.clone(), taken))
    });
    let clusters: BTreeMap<_, _> = try_join_all(taken).await?.into_iter().collect();
    Ok(Manifest::now(plan, engine, clusters)?)
}

/// Writes a snapshot: completes it when `fill` succeeds, and leaves nothing otherwise.
///
/// # Errors
/// Those of `fill` and the file system.
pub(crate) async fn write(
    store: &Store,
    name: &str,
    fill: impl AsyncFnOnce(&Unfinished) -> anyhow::Result<Manifest>,
) -> anyhow::Result<()> {
    let swept = store.clone();
    elsewhere(move || swept.sweep()).await?;
    let begun = store.begin(name)?;
    match fill(&begun).await {
        Ok(manifest) => begun.replace(&manifest),
        Err(error) => {
            begun.discard()?;
            Err(error)
        }
    }
}

/// Returns the controllers of a cluster whose pods are all ready; none for a template, whose workloads `up` waits for.
async fn ready(client: &Client, wanted: bool) -> anyhow::Result<Vec<Value>> {
    if !wanted {
        return Ok(Vec::new());
    }
    let named = |object: DynamicObject| {
        let types = object.types.clone().unwrap_or_default();
        json!({"apiVersion": types.api_version, "kind": types.kind,
            "metadata": {"namespace": object.namespace(), "name": object.name_any()}})
    };
    Ok(rollout::ready(client).await?.into_iter().map(named).collect())
}

/// Returns the snapshots that users saved.
pub fn store(folders: &Directories) -> Store {
    Store::new(folders.snapshots())
}

/// Saves a running environment as a snapshot, which must not exist yet.
///
/// # Errors
/// A usage error if there is a snapshot of that name; if the environment does not run; otherwise errors of the engine, the
/// API servers or the file system.
pub async fn save(
    engine: &Engine,
    folders: &Directories,
    environment: &str,
    name: &Label,
    events: &Events,
) -> anyhow::Result<Snapshot> {
    let store = store(folders);
    let (_lock, inventory) = locked::exclusive(engine, folders, environment, events).await?;
    if store.exists(name.as_str()) {
        return Err(Error::usage(format!("snapshot {name} already exists"))
            .hint(format!("choose another name, or remove it: kindmesh snapshot remove {name}"))
            .into());
    }
    let opened = Environment::open(folders, environment)?;
    locked::require_running(environment, &opened.cluster_names()).await?;
    let plan = opened.plan(engine, inventory)?;
    fault::none_active(engine, &plan).await?;
    let clients = try_join_all(plan.clusters.iter().map(|cluster| opened.client(&cluster.name))).await?;
    let clusters: Vec<_> = plan.clusters.iter().zip(&clients).collect();
    let step = events.step("snapshot", None);
    step.run(async |step| {
        step.waiting("the snapshot", &format!("copying {} clusters", clusters.len()));
        write(&store, name.as_str(), async |begun| {
            let manifest = take(engine, &plan, &clusters, true, begun).await?;
            copy_state(&opened.files, &Files { root: begun.file(STATE) })?;
            Ok(manifest)
        })
        .await?;
        Ok(Outcome::changed(()))
    })
    .await?;
    open(folders, name.as_str())
}

/// Opens a snapshot.
///
/// # Errors
/// A usage error that lists the existing ones if there is none of that name.
pub fn open(folders: &Directories, name: &str) -> anyhow::Result<Snapshot> {
    let store = store(folders);
    match store.open(name)? {
        Some(found) => Ok(found),
        None => {
            let names: Vec<_> = store.list().into_iter().map(|found| found.name).collect();
            let error = Error::usage(format!("snapshot {name} not found"));
            Err(match names.is_empty() {
                true => error.hint("save one: kindmesh snapshot save NAME"),
                false => error.hint(format!("use one of {}", names.join(", "))),
            }
            .into())
        }
    }
}

/// Checks that a snapshot can be restored on an engine, before anything is changed.
///
/// # Errors
/// A usage error with the reason; or that an archive has changed.
pub async fn admit(snapshot: &Snapshot, engine: &Engine) -> anyhow::Result<()> {
    let manifest = &snapshot.manifest;
    let refused = |why: String, hint: &str| {
        let message = format!("snapshot {} cannot be restored here: {why}", snapshot.name);
        Err(Error::usage(message).hint(hint).into())
    };
    if manifest.kindmesh != env!("CARGO_PKG_VERSION") {
        let why = format!("kindmesh {} saved it, this is {}", manifest.kindmesh, env!("CARGO_PKG_VERSION"));
        return refused(why, "restore it with the version that saved it");
    }
    if manifest.engine != engine.facts.id {
        let why =
            format!("it was saved on engine {}, but the selected engine is {}", manifest.engine, engine.facts.id);
        return refused(why, "select the engine with DOCKER_HOST or docker context use");
    }
    for node_image in manifest.node_images() {
        if image_marks::in_engine(engine, node_image).await?.is_none() {
            let why = format!("the engine has no image {node_image}");
            return refused(why, "prepare it again with the spec of the environment: kindmesh cache warm");
        }
    }
    let snapshot = snapshot.clone();
    elsewhere(move || restore::check(&snapshot)).await
}

/// Returns the spec of the environment that a snapshot was taken of.
///
/// # Errors
/// If it cannot be read.
pub fn spec(snapshot: &Snapshot) -> anyhow::Result<Loaded> {
    let path = Files { root: snapshot.file(STATE) }.spec();
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(spec::from_text(&text, &path.display().to_string())?)
}

/// Replaces the root of trust, the intermediates and the progress of exercises of an environment by those of a snapshot.
///
/// # Errors
/// The file system's errors.
pub(crate) fn restore_state(snapshot: &Snapshot, files: &Files) -> anyhow::Result<()> {
    let saved = Files { root: snapshot.file(STATE) };
    copy_state(&saved, files)?;
    // Afterwards, so that a killed process leaves no key without a certificate.
    remove_others(&files.trust(), &saved.trust())?;
    remove_others(&files.labs(), &saved.labs())
}

/// Removes what is in a directory but not in another one.
fn remove_others(folder: &Path, kept: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if kept.join(entry.file_name()).exists() {
            continue;
        }
        let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.with_context(|| format!("removing {}", path.display()))?;
    }
    Ok(())
}

fn copy_state(from: &Files, to: &Files) -> anyhow::Result<()> {
    copy(&from.trust(), &to.trust())?;
    copy_without_keys(from, to)
}

fn copy_without_keys(from: &Files, to: &Files) -> anyhow::Result<()> {
    copy(&from.labs(), &to.labs())?;
    copy_file(&from.spec(), &to.spec())
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(from).into_iter().flatten().flatten() {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() { copy(&from, &to)? } else { copy_file(&from, &to)? }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path) -> anyhow::Result<()> {
    let content = std::fs::read(from).with_context(|| format!("reading {}", from.display()))?;
    state::write_private(to, &content).map(drop)
}
