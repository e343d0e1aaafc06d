//! Deploys the user's services: plain manifests to their clusters, with the images and stub Services that they need.
//!
//! ```text
//! manifests ─► place ─► stubs ─► load images ─► label, apply ─► prune ─► wait until ready
//!              │        └─ for Services that are called in clusters without their pods
//!              └─ by --to, annotation or spec
//! ```
//!
//! Pure functions decide the clusters of each object and the stubs that it needs ([`place`], [`stubs`]). Nothing is
//! changed until everything is decided and the owner of every affected object is checked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Context;
use futures::future::try_join_all;
use kube::api::{DynamicObject, ListParams};
use kube::{Client, ResourceExt};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::base::digest::hex;
use crate::base::event::{Events, Outcome};
use crate::cluster::environment::Environment;
use crate::cluster::kinds;
use crate::cluster::mesh::apply::Changes;
use crate::host::docker::Engine;
use crate::plan::Plan;

mod decided;
pub mod headless;
mod images;
pub mod manifests;
mod outside;
pub mod place;
pub(super) mod references;
mod remove;
mod schema;
mod set;
pub mod stubs;
#[cfg(feature = "cli")]
mod watch;

use decided::Decided;
use manifests::Found;
use place::{By, Placed};
use set::named;
#[cfg(feature = "cli")]
pub use watch::Watch;

/// The label of all objects that are deployed from one directory: the directory's name, and a digest of its path.
pub const DEPLOY: &str = "kindmesh/deploy";
/// The annotation with the directory's path.
const FROM: &str = "kindmesh/from";

/// Options of a deployment.
#[derive(Debug, Clone)]
pub struct Options {
    /// The cluster for all objects; overrides everything else.
    pub to: Option<String>,
    /// Clusters by the name of an object or of its application: the spec's `deploy`.
    pub places: BTreeMap<String, Vec<String>>,
    /// The namespace of objects without one.
    pub namespace: String,
    /// Whether it also replaces the namespace of objects that have one.
    pub force_namespace: bool,
    /// Whether to delete objects of an earlier deployment that the manifests no longer contain.
    pub prune: bool,
    /// Whether to wait until all pods are ready.
    pub wait: bool,
    /// The deadline.
    pub deadline: Instant,
}

/// An object in a cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Object {
    /// The cluster.
    pub cluster: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace; empty if it has none.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// An applied object.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// The object.
    pub object: Object,
    /// What decided its clusters.
    pub by: By,
}

/// A created stub Service.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StubMade {
    /// The Service.
    pub object: Object,
    /// The clusters of its pods.
    pub served_in: Vec<String>,
    /// What refers to it, and where.
    pub because: String,
}

/// The result of a deployment.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Deployed {
    /// The label value of all its objects.
    pub deploy: String,
    /// Whether anything was changed in any cluster.
    pub changed: bool,
    /// The objects of the manifests.
    pub applied: Vec<Applied>,
    /// The created stub Services.
    pub stubs: Vec<StubMade>,
    /// The images that were loaded into nodes.
    pub images: Vec<crate::host::images::Loaded>,
    /// The deleted objects: from an earlier deployment of the directory, and no longer in its manifests.
    pub removed: Vec<Object>,
    /// Notes.
    pub notes: Vec<String>,
}

/// Returns the label value for a directory's objects, or for those of standard input.
pub fn label(folder: &Path) -> String {
    if folder == Path::new(manifests::STDIN) {
        return "standard-input".to_owned();
    }
    let path = whole(folder);
    let digest = hex(&Sha256::digest(path.as_os_str().as_encoded_bytes()));
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let fits = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c.to_ascii_lowercase() } else { '-' };
    let name: String = name.chars().map(fits).take(40).collect();
    let name = name.trim_matches('-');
    format!("{}{}{}", name, if name.is_empty() { "" } else { "-" }, &digest[..8])
}

/// Returns a directory's absolute path, with symbolic links resolved if it exists.
fn whole(folder: &Path) -> PathBuf {
    folder.canonicalize().or_else(|_| std::path::absolute(folder)).unwrap_or_else(|_| folder.to_owned())
}

/// Deploys manifests: a directory, a file, or standard input for `-`. What is read from standard input has no earlier
/// version, so nothing that is not in it is deleted.
///
/// # Errors
/// A usage error for manifests that cannot be read or placed, that the API server refuses for a mistake in them, and for
/// objects that kindmesh did not create; an environment error if pods do not become ready in time; otherwise errors of the API servers and the engine.
pub async fn deploy(
    environment: &Environment,
    folder: &Path,
    options: &Options,
    events: &Events,
) -> anyhow::Result<Deployed> {
    let found = manifests::read(folder, &options.namespace).await?;
    deploy_manifests(environment, found, &Origin::of(folder, options.prune), options, events).await
}

/// What a deployment would do.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DryRun {
    /// What would become of each object, by cluster.
    pub changes: Vec<Changes>,
    /// The stub Services that it needs: they are among the changes, too.
    pub stubs: Vec<StubMade>,
    /// Notes.
    pub notes: Vec<String>,
}

/// Plans a deployment and lets the API servers validate every object. Nothing is changed, and no image is loaded.
///
/// # Errors
/// As for [`deploy`]; a usage error names every object that an API server would refuse.
pub async fn dry_run(
    environment: &Environment,
    folder: &Path,
    options: &Options,
    events: &Events,
) -> anyhow::Result<DryRun> {
    let (found, origin) = (manifests::read(folder, &options.namespace).await?, Origin::of(folder, options.prune));
    let Decided { sets, stubs, mut notes, .. } =
        Decided::decide(environment, found, &origin, options, None).await?;
    let each = sets.iter().map(|set| set.dry_run(&origin, options.deadline, events));
    let mut changes = Vec::new();
    for (changed, left) in try_join_all(each).await? {
        changes.push(changed);
        notes.extend(left);
    }
    notes.dedup();
    Ok(DryRun { changes, stubs: stubs.into_iter().map(created).collect(), notes })
}

/// The source of deployed objects.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub label: String,
    pub path: String,
    /// Whether to delete objects of an earlier deployment that the manifests no longer contain.
    pub prune: bool,
}

impl Origin {
    fn of(folder: &Path, prune: bool) -> Self {
        match folder == Path::new(manifests::STDIN) {
            true => Self { label: label(folder), path: "standard input".into(), prune: false },
            false => Self { label: label(folder), path: whole(folder).display().to_string(), prune },
        }
    }
}

/// Deploys parsed manifests.
pub(crate) async fn deploy_manifests(
    environment: &Environment,
    found: Found,
    origin: &Origin,
    options: &Options,
    events: &Events,
) -> anyhow::Result<Deployed> {
    let decided = Decided::decide(environment, found, origin, options, Some(events)).await?;
    let Decided { engine, plan, placed, stubs, needed, ours, sets, mut notes } = decided;
    // Everything is decided, and nothing has been changed yet.
    let images = match &engine {
        Some(engine) => load_images(environment, engine, &plan, &needed, &ours, events).await?,
        None => Vec::new(),
    };
    let both = try_join_all(sets.iter().map(|set| set.apply(origin, options, events))).await?;
    let mut changed = images.iter().any(|image| image.changed);
    let mut removed = Vec::new();
    for (any, gone, left) in both {
        changed |= any;
        removed.extend(gone);
        notes.extend(left);
    }
    if options.wait {
        try_join_all(sets.iter().map(|set| set.ready(options.deadline, events))).await?;
    }
    notes.dedup();
    Ok(Deployed {
        deploy: origin.label.clone(),
        changed,
        applied: placed.iter().flat_map(applied).collect(),
        stubs: stubs.into_iter().map(created).collect(),
        images,
        removed,
        notes,
    })
}

/// Deletes the objects that were deployed from a directory, in every cluster, even if it no longer exists.
///
/// # Errors
/// The API servers' errors.
pub async fn delete(
    environment: &Environment,
    folder: &Path,
    events: &Events,
) -> anyhow::Result<(Vec<Object>, Vec<String>)> {
    let (sides, label) = (Sides::open(environment).await?, label(folder));
    let nothing = BTreeSet::new();
    let gone = sides.0.iter().map(|(cluster, client)| {
        let (label, nothing) = (&label, &nothing);
        let exists = environment.exists(cluster);
        events.step("undeploy", Some(cluster)).run(async move |_| {
            let unwanted =
                remove::unwanted((cluster, client), exists, label, nothing, &kinds::Kinds::default()).await?;
            let pruned = unwanted.delete().await?;
            Ok(Outcome { changed: !pruned.0.is_empty(), value: pruned })
        })
    });
    let (removed, notes): (Vec<_>, Vec<_>) = try_join_all(gone).await?.into_iter().unzip();
    Ok((removed.concat(), notes.concat()))
}

/// The clusters and their clients, in the order of the spec.
struct Sides(Vec<(String, Client)>);

impl Sides {
    async fn open(environment: &Environment) -> anyhow::Result<Self> {
        let mut sides = Vec::new();
        for cluster in environment.cluster_names() {
            sides.push((cluster.to_owned(), environment.client(cluster).await?));
        }
        Ok(Self(sides))
    }

    /// Returns all existing Services, by cluster. If the deployment prunes, its own Services are excluded: they are in
    /// the manifests, or will be deleted.
    async fn services(&self, origin: &Origin) -> anyhow::Result<BTreeMap<String, Vec<DynamicObject>>> {
        let lists = self.0.iter().map(async |(cluster, client)| {
            let list = kinds::api(client, "v1", "Service", None).list(&ListParams::default()).await;
            let mut items = list.with_context(|| format!("listing Services in {cluster}"))?.items;
            items.retain(|item| !origin.prune || item.labels().get(DEPLOY) != Some(&origin.label));
            // List items do not contain their kind.
            items.iter_mut().for_each(|item| {
                item.types = Some(kube::core::TypeMeta { api_version: "v1".into(), kind: "Service".into() });
            });
            anyhow::Ok((cluster.clone(), items))
        });
        Ok(try_join_all(lists).await?.into_iter().collect())
    }
}

async fn load_images(
    environment: &Environment,
    engine: &Engine,
    plan: &Plan,
    needed: &BTreeMap<String, BTreeSet<String>>,
    ours: &BTreeMap<String, String>,
    events: &Events,
) -> anyhow::Result<Vec<crate::host::images::Loaded>> {
    if ours.is_empty() {
        return Ok(Vec::new());
    }
    events
        .step("images", None)
        .run(async |_| {
            let mut loaded = Vec::new();
            for (cluster, images) in needed {
                let Some(cluster) = plan.cluster(cluster).filter(|cluster| cluster.host.kind().is_some()) else {
                    continue;
                };
                let images: Vec<&str> =
                    images.iter().filter(|image| ours.contains_key(*image)).map(String::as_str).collect();
                loaded.extend(
                    crate::host::images::load(engine, &environment.files.root, &[cluster], &images).await?,
                );
            }
            let changed = loaded.iter().any(|loaded| loaded.changed);
            Ok(Outcome { value: loaded, changed })
        })
        .await
}

fn applied(placed: &Placed) -> impl Iterator<Item = Applied> {
    placed.clusters.iter().map(|cluster| Applied { object: named(cluster, &placed.object), by: placed.by.clone() })
}

fn created(stub: stubs::Stub) -> StubMade {
    StubMade { object: named(&stub.cluster, &stub.object), served_in: stub.served_in, because: stub.because }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_label_is_unique_and_valid() {
        let label = |path: &str| label(Path::new(path));
        assert_ne!(label("/a/k8s"), label("/b/k8s"));
        assert!(label("/a/k8s").starts_with("k8s-"));
        assert_eq!(label("/a/My App!").split('-').count(), 3, "{}", label("/a/My App!"));
        assert!(label(&format!("/a/{}", "x".repeat(90))).len() < 63);
        assert_eq!(label("/").len(), 8);
        assert_eq!(label("-"), "standard-input");
    }
}
