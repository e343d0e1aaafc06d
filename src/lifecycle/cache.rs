//! The cache, which makes the next `up` faster: built node images and sample images in the engine, tools and
//! rendered manifests in the cache directory, templates of clusters in the state directory. Everything in it can be recreated.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Context;
use bollard::models::ImageSummary;
use bollard::query_parameters::{ListContainersOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptions};
use serde::Serialize;

use crate::base::blocking::elsewhere;
use crate::base::event::{Events, Outcome};
use crate::cluster::environment;
use crate::cluster::mesh::render;
use crate::host::docker::{Engine, bake, node, sample_image, status};
use crate::host::inventory as gather;
use crate::host::snapshot::{Snapshot, Store};
use crate::host::state::{self, Directories, Lock};
use crate::host::tool;
use crate::plan;
use crate::plan::inventory::{Inventory, KIND_CLUSTER_LABEL};

/// The kind of a cache entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// A node image with the images that every node needs preloaded.
    NodeImage,
    /// A sample image, built from a kindmesh executable.
    SampleImage,
    /// A downloaded tool.
    Tool,
    /// Istio's manifests, rendered for a version and values.
    Rendering,
    /// A template of an environment's clusters.
    Template,
}

/// A cache entry.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    /// Its kind.
    pub kind: Kind,
    /// The name of the image, or of the file or directory in the cache directory.
    pub name: String,
    /// Its unshared disk space, in bytes.
    pub bytes: u64,
    /// A description of its contents, for display.
    pub detail: String,
    /// The environments that use it.
    pub used_by: Vec<String>,
    /// What to remove.
    #[serde(skip)]
    place: Place,
}

#[derive(Debug, Clone, PartialEq)]
enum Place {
    /// An image, by its ID.
    Image(String),
    Path(PathBuf),
    Template(Store, String),
}

/// Returns all entries, node images first.
///
/// # Errors
/// Errors of the engine or the file system.
pub async fn list(engine: &Engine, folders: &Directories) -> anyhow::Result<Vec<Item>> {
    let inventory = Inventory { executable: gather::executable().await?, ..gather::gather(engine).await? };
    let used = Used::of(&inventory, engine, folders).await?;
    let mut items = Vec::new();
    for image in labelled(engine, bake::LABEL).await? {
        items.push(node_image(engine, &image, &used).await?);
    }
    for image in labelled(engine, &format!("{}=true", sample_image::LABEL)).await? {
        items.push(sample(&image, &used));
    }
    items.extend(files(&folders.cache.join(tool::FOLDER), Kind::Tool, &used)?);
    items.extend(files(&folders.cache.join(render::FOLDER), Kind::Rendering, &used)?);
    items.extend(templates(folders, &inventory)?);
    items.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    Ok(items)
}

/// Removes entries that no environment uses, and containers of killed builds. Returns the removed entries.
///
/// # Errors
/// Errors of the engine or the file system.
pub async fn prune(engine: &Engine, folders: &Directories, events: &Events) -> anyhow::Result<Vec<Item>> {
    // Entries that a running `up` is about to use look unused.
    let locks = events.step("lock", None).run(async |step| {
        let mut locks = Vec::new();
        for name in folders.begun() {
            locks.push(Lock::exclusive(&folders.environment(&name), step).await?);
        }
        Ok(Outcome::unchanged(locks))
    });
    let _locks = locks.await?;
    remove_unfinished(engine).await?;
    let templates = Store::new(folders.templates());
    elsewhere(move || templates.sweep()).await?;
    let mut removed = Vec::new();
    for item in list(engine, folders).await? {
        if item.used_by.is_empty() && remove(engine, &item.place).await? {
            removed.push(item);
        }
    }
    Ok(removed)
}

/// What is in use, with the names of the environments that use it.
#[derive(Default)]
struct Used {
    /// Images that nodes run from, by image ID.
    images: BTreeMap<String, BTreeSet<String>>,
    /// Images and files that plans refer to, by image name or path.
    names: BTreeMap<String, BTreeSet<String>>,
    /// Environments on the engine without files on this host: their sample image is unknown.
    unknown: BTreeSet<String>,
}

impl Used {
    async fn of(inventory: &Inventory, engine: &Engine, folders: &Directories) -> anyhow::Result<Self> {
        let mut used = Self::default();
        used.nodes(inventory, engine).await?;
        let here = folders.environments();
        used.unknown = inventory.environments.keys().filter(|name| !here.contains(name)).cloned().collect();
        for name in here {
            // An environment that cannot be read or planned uses only what its nodes run from.
            let files = folders.environment(&name);
            let Ok(Some(spec)) = environment::stored(&files) else { continue };
            let Ok(plan) = plan::plan(&spec, inventory) else { continue };
            let mut names: Vec<String> = plan.images().into_iter().map(str::to_owned).collect();
            for cluster in &plan.clusters {
                names.push(render::kept(&folders.cache, cluster)?.display().to_string());
            }
            for folder in tool::kept(&folders.cache, plan.istio_versions()) {
                names.push(folder.display().to_string());
            }
            // The node images for its next clusters.
            for node_image in plan.node_images() {
                names.push(plan.archive_image(node_image));
                names.extend(bake::name(engine, node_image, &plan.stable_images_on(node_image)).await);
            }
            for used_name in names {
                used.names.entry(used_name).or_default().insert(name.clone());
            }
        }
        Ok(used)
    }

    async fn nodes(&mut self, inventory: &Inventory, engine: &Engine) -> anyhow::Result<()> {
        let filters = [("label".to_owned(), vec![KIND_CLUSTER_LABEL.to_owned()])].into();
        let all = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let containers = engine.docker.list_containers(Some(all)).await.context("listing nodes on the engine")?;
        let owners: BTreeMap<&str, &String> = inventory
            .environments
            .iter()
            .flat_map(|(name, found)| found.nodes.iter().map(move |node| (node.name.as_str(), name)))
            .collect();
        for container in containers {
            let node = container.names.iter().flatten().next().map(|name| name.trim_start_matches('/'));
            let (Some(image), Some(node)) = (container.image_id, node) else { continue };
            // The user of a node that belongs to no environment is the node itself.
            let owner = owners.get(node).map_or(node, |owner| owner.as_str());
            self.images.entry(image).or_default().insert(owner.to_owned());
        }
        Ok(())
    }

    fn by(&self, identity: &str, names: &[String]) -> Vec<String> {
        let named = names.iter().filter_map(|name| self.names.get(name));
        let all: BTreeSet<&String> = self.images.get(identity).into_iter().chain(named).flatten().collect();
        all.into_iter().cloned().collect()
    }
}

async fn labelled(engine: &Engine, label: &str) -> anyhow::Result<Vec<ImageSummary>> {
    let filters = [("label".to_owned(), vec![label.to_owned()])].into();
    let options = ListImagesOptionsBuilder::default().filters(&filters).build();
    engine.docker.list_images(Some(options)).await.context("listing images on the engine")
}

async fn node_image(engine: &Engine, image: &ImageSummary, used: &Used) -> anyhow::Result<Item> {
    let history = engine.docker.image_history(&image.id).await.context("inspecting the layers of a node image")?;
    let label = |key: &str| image.labels.get(key).cloned().unwrap_or_default();
    Ok(Item {
        kind: Kind::NodeImage,
        name: shown_name(image),
        // Only the last layer: the others are shared with the node image that it was built from.
        bytes: history.first().map_or(0, |layer| bytes(layer.size)),
        detail: format!("{} with {}", label(bake::FROM_LABEL), label(bake::IMAGES_LABEL).replace(',', ", ")),
        used_by: used.by(&image.id, &image.repo_tags),
        place: Place::Image(image.id.clone()),
    })
}

fn sample(image: &ImageSummary, used: &Used) -> Item {
    let mut used_by = used.by(&image.id, &image.repo_tags);
    used_by.extend(used.unknown.iter().cloned());
    Item {
        kind: Kind::SampleImage,
        name: shown_name(image),
        bytes: bytes(image.size),
        detail: String::new(),
        used_by,
        place: Place::Image(image.id.clone()),
    }
}

fn bytes(size: i64) -> u64 {
    u64::try_from(size).unwrap_or_default()
}

/// Returns the tag of an image, or its ID if the tag has moved to another image.
fn shown_name(image: &ImageSummary) -> String {
    image.repo_tags.first().unwrap_or(&image.id).clone()
}

/// Returns the entries of a cache subdirectory, without those that only store metadata.
fn files(folder: &Path, kind: Kind, used: &Used) -> anyhow::Result<Vec<Item>> {
    let mut items = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if kind == Kind::Tool && !path.is_dir() {
            continue;
        }
        items.push(Item {
            kind,
            bytes: state::size(&path).with_context(|| format!("measuring {}", path.display()))?,
            detail: String::new(),
            used_by: used.by("", &[path.display().to_string()]),
            name,
            place: Place::Path(path),
        });
    }
    Ok(items)
}

/// Returns the templates. The environment that one was taken of uses it, as long as it exists.
fn templates(folders: &Directories, inventory: &Inventory) -> anyhow::Result<Vec<Item>> {
    let store = Store::new(folders.templates());
    let item = |template: Snapshot| {
        let environment = &template.manifest.environment;
        let clusters: Vec<_> = template.manifest.clusters.keys().map(String::as_str).collect();
        Ok(Item {
            kind: Kind::Template,
            bytes: template.bytes()?,
            detail: format!("{} of environment {environment}", clusters.join(", ")),
            used_by: inventory.environments.keys().filter(|name| *name == environment).cloned().collect(),
            place: Place::Template(store.clone(), template.name.clone()),
            name: template.name,
        })
    };
    store.list().into_iter().map(item).collect()
}

/// Returns whether it was removed; an image that a container uses is kept.
async fn remove(engine: &Engine, place: &Place) -> anyhow::Result<bool> {
    match place {
        Place::Template(store, name) => {
            store.remove(name)?;
        }
        Place::Path(path) => {
            let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
            removed.with_context(|| format!("removing {}", path.display()))?;
        }
        Place::Image(identity) => {
            match engine.docker.remove_image(identity, None::<RemoveImageOptions>, None).await {
                Err(error) if status(&error) == Some(409) => return Ok(false),
                removed => {
                    removed.with_context(|| format!("removing image {identity}"))?;
                }
            }
        }
    }
    Ok(true)
}

/// Removes containers of image builds whose process no longer exists.
async fn remove_unfinished(engine: &Engine) -> anyhow::Result<()> {
    let filters = [("label".to_owned(), vec![bake::CONTAINER_LABEL.to_owned()])].into();
    let all = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let containers = engine.docker.list_containers(Some(all)).await.context("listing containers on the engine")?;
    let processes = elsewhere(|| Ok(crate::host::tool::process::all())).await?;
    for container in containers {
        let label =
            container.labels.and_then(|mut labels| labels.remove(bake::CONTAINER_LABEL)).unwrap_or_default();
        for name in container.names.iter().flatten().map(|name| name.trim_start_matches('/')) {
            let baker = bake::baker(name, &label);
            if baker.is_some_and(|baker| !processes.iter().any(|process| process.pid == baker)) {
                node::remove(engine, name).await?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_entries_named_by_plans_are_used() {
        let folder = tempfile::tempdir().unwrap();
        let of = |path: &str, length: usize| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, vec![0; length]).unwrap();
        };
        of("kind-v1/kind", 1000);
        of("kind-v1/kind.sha256", 10);
        of("kind-v2/kind", 2000);
        of("versions.json", 5);
        let mut used = Used::default();
        let name = folder.path().join("kind-v2").display().to_string();
        used.names.insert(name, ["shop".to_owned()].into());
        let mut items = files(folder.path(), Kind::Tool, &used).unwrap();
        items.sort_by(|a, b| a.name.cmp(&b.name));
        let facts: Vec<_> = items.iter().map(|i| (i.name.as_str(), i.bytes, i.used_by.join(","))).collect();
        assert_eq!(facts, [("kind-v1", 1010, String::new()), ("kind-v2", 2000, "shop".to_owned())]);
    }
}
