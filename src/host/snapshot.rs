//! Snapshots of environments: for every node, the files that distinguish it from its image, and what its container was created
//! with. A node that is created from them continues where the original was.
//!
//! A snapshot is a directory on this host that only its owner may enter: it holds the keys of the clusters. Its manifest is
//! written before the directory gets its name, so a directory with that name is complete. No key is ever part of an image.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context;
use ipnet::Ipv4Net;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::error::Error;
use crate::host::docker::Engine;
use crate::host::state;
use crate::host::tool::process;
use crate::plan::Plan;
use crate::plan::inventory::ClusterSubnets;
use crate::spec::Label;

pub mod capture;
mod container;
pub mod etcd;
#[cfg(feature = "cli")]
pub mod keys;
pub mod pending;
pub mod restore;

/// The version of the format. A snapshot of another version is not used.
const FORMAT: u32 = 3;
/// The file with the manifest.
const MANIFEST: &str = "snapshot.json";
/// The beginning of the name of an unfinished snapshot. The process ID of its writer follows.
const UNFINISHED: &str = ".unfinished-";

/// The content of a snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The version of the format.
    pub format: u32,
    /// When it was taken.
    pub taken: Timestamp,
    /// The environment that it was taken of.
    pub environment: String,
    /// The name that its clusters were created under: it is part of the names of their Kubernetes nodes.
    pub identity: String,
    /// The version of kindmesh.
    pub kindmesh: String,
    /// The ID of the engine, which has the node image.
    pub engine: String,
    /// The platform of the engine: `linux/amd64`.
    pub platform: String,
    /// The subnet of the network.
    pub subnet: Ipv4Net,
    /// The clusters, by name.
    pub clusters: BTreeMap<String, Cluster>,
}

/// A cluster in a snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    /// The node image.
    pub node_image: String,
    /// The subnet of its pods.
    pub pod_subnet: Ipv4Net,
    /// The subnet of its Services.
    pub service_subnet: Ipv4Net,
    /// Its nodes, the control plane first.
    pub nodes: Vec<Node>,
    /// Objects to change when it is restored, as JSON from the API server, without the data to replace.
    pub objects: Vec<Value>,
    /// Whether its control plane creates its keys at its first start.
    pub new_keys: bool,
    /// Controllers whose pods were all ready, with their API version, kind, namespace and name.
    pub ready: Vec<Value>,
}

/// A node in a snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// The name of its container.
    pub name: String,
    /// What its container was created with.
    pub container: Value,
    /// The archive of its files.
    pub archive: Archive,
    /// The records of its etcd, on a control plane: the response of etcd's JSON API to a range request.
    pub records: Option<Archive>,
    /// The archive of images that the node image does not contain, if they are part of the snapshot.
    pub images: Option<Archive>,
}

/// A file in the directory of a snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Archive {
    /// Its name.
    pub file: String,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
}

/// The snapshots in one directory.
#[derive(Debug, Clone, PartialEq)]
pub struct Store {
    folder: PathBuf,
}

/// A complete snapshot.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Its name.
    pub name: String,
    /// Its directory.
    pub folder: PathBuf,
    /// Its content.
    pub manifest: Manifest,
}

/// A snapshot that is being written.
#[derive(Debug)]
pub struct Unfinished {
    folder: PathBuf,
    place: PathBuf,
}

impl Manifest {
    /// Returns the manifest of a snapshot that is taken now.
    ///
    /// # Errors
    /// A usage error if kind creates none of the clusters.
    pub fn now(plan: &Plan, engine: &Engine, clusters: BTreeMap<String, Cluster>) -> Result<Self, Error> {
        Ok(Self {
            format: FORMAT,
            taken: Timestamp::now(),
            environment: plan.environment.clone(),
            identity: plan.identity().to_owned(),
            kindmesh: env!("CARGO_PKG_VERSION").to_owned(),
            engine: engine.facts.id.clone(),
            platform: engine.facts.platform(),
            subnet: plan.docker()?.network.subnet,
            clusters,
        })
    }

    /// Reads the manifest of the snapshot in a directory.
    ///
    /// # Errors
    /// If it cannot be read, or has another format.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(MANIFEST);
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let invalid = |why: String| Error::environment(format!("invalid snapshot {}: {why}", folder.display()));
        let value: Value = serde_json::from_str(&text).map_err(|error| invalid(error.to_string()))?;
        if value["format"] != FORMAT {
            return Err(
                invalid(format!("format {}, but this kindmesh reads format {FORMAT}", value["format"])).into()
            );
        }
        let manifest: Self = serde_json::from_value(value).map_err(|error| invalid(error.to_string()))?;
        Ok(manifest)
    }

    /// Writes it into the directory of a snapshot.
    ///
    /// # Errors
    /// The file system's errors.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        state::write_private(&folder.join(MANIFEST), &serde_json::to_vec_pretty(self)?).map(drop)
    }

    /// Requires that names, which become parts of paths, are no paths.
    ///
    /// # Errors
    /// If one is.
    pub fn require_plain_names(&self) -> anyhow::Result<()> {
        for name in self.clusters.keys().chain([&self.environment]) {
            anyhow::ensure!(name.parse::<Label>().is_ok(), "invalid name {name:?} in {MANIFEST}");
        }
        let nodes = self.clusters.values().flat_map(|cluster| &cluster.nodes);
        for archive in nodes.flat_map(Node::archives) {
            let is_plain = Path::new(&archive.file).file_name().is_some_and(|name| *name == *archive.file);
            anyhow::ensure!(is_plain, "invalid file name {:?} in {MANIFEST}", archive.file);
        }
        Ok(())
    }

    /// Returns the node images, each once.
    pub fn node_images(&self) -> BTreeSet<&str> {
        self.clusters.values().map(|cluster| cluster.node_image.as_str()).collect()
    }

    /// Returns the subnets of the clusters, by name.
    pub fn subnets(&self) -> BTreeMap<String, ClusterSubnets> {
        let subnets = |cluster: &Cluster| ClusterSubnets {
            pods: Some(cluster.pod_subnet),
            services: Some(cluster.service_subnet),
            // They are part of the Docker network.
            balancers: None,
        };
        self.clusters.iter().map(|(name, cluster)| (name.clone(), subnets(cluster))).collect()
    }
}

impl Store {
    /// Returns the snapshots in `folder`, which need not exist.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Opens a snapshot; none if there is none of that name.
    ///
    /// # Errors
    /// If it cannot be read, or has another format.
    pub fn open(&self, name: &str) -> anyhow::Result<Option<Snapshot>> {
        let folder = self.folder.join(name);
        if !folder.join(MANIFEST).exists() {
            return Ok(None);
        }
        let manifest = Manifest::read(&folder)?;
        Ok(Some(Snapshot { name: name.to_owned(), folder, manifest }))
    }

    /// Whether there is a snapshot of that name, readable or not.
    pub fn exists(&self, name: &str) -> bool {
        self.folder.join(name).exists()
    }

    /// Returns all complete snapshots that can be read, the newest first.
    pub fn list(&self) -> Vec<Snapshot> {
        let names = self.entries().filter(|name| !name.starts_with(UNFINISHED));
        let mut found: Vec<_> = names.filter_map(|name| self.open(&name).ok()?).collect();
        found.sort_by(|a, b| (b.manifest.taken, &a.name).cmp(&(a.manifest.taken, &b.name)));
        found
    }

    /// Removes all snapshots but the newest ones, and those that cannot be read.
    ///
    /// # Errors
    /// The file system's errors.
    pub fn keep_newest(&self, count: usize) -> anyhow::Result<()> {
        let kept: Vec<String> = self.list().into_iter().take(count).map(|snapshot| snapshot.name).collect();
        for name in self.entries().filter(|name| !name.starts_with(UNFINISHED) && !kept.contains(name)) {
            self.remove(&name)?;
        }
        Ok(())
    }

    fn entries(&self) -> impl Iterator<Item = String> + use<> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok())
    }

    /// Begins a snapshot.
    ///
    /// # Errors
    /// The file system's errors.
    pub fn begin(&self, name: &str) -> anyhow::Result<Unfinished> {
        state::private_folder(&self.folder)?;
        let folder = self.unfinished();
        state::private_folder(&folder)?;
        Ok(Unfinished { folder, place: self.folder.join(name) })
    }

    /// Removes a snapshot. Returns whether it existed.
    ///
    /// # Errors
    /// The file system's errors.
    pub fn remove(&self, name: &str) -> anyhow::Result<bool> {
        let folder = self.folder.join(name);
        if !folder.exists() {
            return Ok(false);
        }
        // Renamed first, so that what is left if this process is killed does not look complete.
        let aside = self.unfinished();
        std::fs::rename(&folder, &aside).with_context(|| format!("removing {}", folder.display()))?;
        remove(&aside)?;
        Ok(true)
    }

    /// Returns a new name for an unfinished snapshot of this process.
    fn unfinished(&self) -> PathBuf {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let taken = |number: u32| self.folder.join(format!("{UNFINISHED}{}-{number}", std::process::id()));
        // A killed process may have had the same ID.
        (number..).map(taken).find(|folder| !folder.exists()).unwrap_or_else(|| taken(number))
    }

    /// Removes what killed processes left. Blocks: there may be thousands of processes.
    ///
    /// # Errors
    /// The file system's errors.
    pub fn sweep(&self) -> anyhow::Result<()> {
        let left: Vec<_> = self.entries().filter(|name| name.starts_with(UNFINISHED)).collect();
        if left.is_empty() {
            return Ok(());
        }
        let processes = process::all();
        for name in left {
            let writer = name.strip_prefix(UNFINISHED).and_then(|rest| rest.split('-').next());
            let writer = writer.and_then(|pid| pid.parse::<u32>().ok());
            if !processes.iter().any(|process| Some(process.pid) == writer) {
                remove(&self.folder.join(name))?;
            }
        }
        Ok(())
    }
}

impl Unfinished {
    /// Returns the path of a file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Completes it, and replaces a snapshot of the same name.
    ///
    /// # Errors
    /// The file system's errors.
    pub fn replace(self, manifest: &Manifest) -> anyhow::Result<()> {
        remove(&self.place)?;
        self.complete(manifest)
    }

    /// Completes it, or removes it.
    ///
    /// # Errors
    /// The file system's errors, also if there is a snapshot of the same name.
    pub fn complete(self, manifest: &Manifest) -> anyhow::Result<()> {
        manifest.write(&self.folder)?;
        let renamed = std::fs::rename(&self.folder, &self.place)
            .with_context(|| format!("renaming {} to {}", self.folder.display(), self.place.display()));
        if renamed.is_err() {
            remove(&self.folder)?;
        }
        renamed
    }

    /// Removes it.
    ///
    /// # Errors
    /// The file system's errors.
    pub fn discard(self) -> anyhow::Result<()> {
        remove(&self.folder)
    }
}

impl Node {
    /// Returns its files in the directory of the snapshot.
    pub fn archives(&self) -> impl Iterator<Item = &Archive> {
        std::iter::once(&self.archive).chain(&self.records).chain(&self.images)
    }
}

impl Snapshot {
    /// Returns its size on disk, in bytes.
    ///
    /// # Errors
    /// The file system's errors.
    pub fn bytes(&self) -> anyhow::Result<u64> {
        state::size(&self.folder).with_context(|| format!("measuring {}", self.folder.display()))
    }

    /// Returns the path of a file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

fn remove(folder: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", folder.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            format: FORMAT,
            taken: Timestamp::from_second(0).unwrap(),
            environment: "shop".into(),
            identity: "shop".into(),
            kindmesh: "1.0.0".into(),
            engine: "e".into(),
            platform: "linux/amd64".into(),
            subnet: "172.30.0.0/24".parse().unwrap(),
            clusters: BTreeMap::new(),
        }
    }

    #[test]
    fn only_completed_snapshots_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().join("templates"));
        assert!(store.list().is_empty());
        let begun = store.begin("a").unwrap();
        std::fs::write(begun.file("node.tar"), "x").unwrap();
        assert!(store.open("a").unwrap().is_none() && store.list().is_empty());
        let manifest = manifest();
        begun.complete(&manifest).unwrap();
        assert_eq!(store.open("a").unwrap().unwrap().manifest, manifest);
        assert_eq!(store.list().iter().map(|found| found.name.as_str()).collect::<Vec<_>>(), ["a"]);
        assert!(store.begin("a").unwrap().complete(&manifest).is_err());
        store.begin("a").unwrap().replace(&manifest).unwrap();
        assert!(!store.open("a").unwrap().unwrap().file("node.tar").exists());
        store.begin("b").unwrap().discard().unwrap();
        assert!(store.remove("a").unwrap() && !store.remove("a").unwrap());
        assert_eq!(std::fs::read_dir(folder.path().join("templates")).unwrap().count(), 0);
    }

    #[test]
    fn names_are_no_paths() {
        assert!(manifest().require_plain_names().is_ok());
        let cluster = || Cluster {
            node_image: "node".into(),
            pod_subnet: "10.1.0.0/16".parse().unwrap(),
            service_subnet: "10.2.0.0/16".parse().unwrap(),
            nodes: Vec::new(),
            objects: Vec::new(),
            new_keys: false,
            ready: Vec::new(),
        };
        let archive = |file: &str| Archive { file: file.into(), sha256: String::new() };
        let node = |file: &str| Node {
            name: "n".into(),
            container: Value::Null,
            archive: archive(file),
            records: None,
            images: None,
        };
        for name in ["../x", "/x", ""] {
            let clusters = BTreeMap::from([(name.to_owned(), cluster())]);
            assert!(Manifest { clusters, ..manifest() }.require_plain_names().is_err(), "{name}");
            assert!(Manifest { environment: name.into(), ..manifest() }.require_plain_names().is_err(), "{name}");
            let clusters = BTreeMap::from([("a".to_owned(), Cluster { nodes: vec![node(name)], ..cluster() })]);
            assert!(Manifest { clusters, ..manifest() }.require_plain_names().is_err(), "{name}");
        }
    }

    #[test]
    fn newest_snapshots_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().to_owned());
        for (name, taken) in [("old", 1), ("newest", 3), ("new", 2)] {
            let manifest = Manifest { taken: Timestamp::from_second(taken).unwrap(), ..manifest() };
            store.begin(name).unwrap().complete(&manifest).unwrap();
        }
        std::fs::create_dir(folder.path().join("unreadable")).unwrap();
        store.keep_newest(2).unwrap();
        assert_eq!(store.list().iter().map(|found| found.name.as_str()).collect::<Vec<_>>(), ["newest", "new"]);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_killed_processes_left_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().to_owned());
        let begun = store.begin("a").unwrap();
        let killed = folder.path().join(format!("{UNFINISHED}{}-0", u32::MAX));
        std::fs::create_dir(&killed).unwrap();
        store.sweep().unwrap();
        assert!(!killed.exists() && begun.folder.exists());
    }

    #[test]
    fn another_format_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().to_owned());
        std::fs::create_dir(folder.path().join("a")).unwrap();
        for text in [r#"{"format": 7}"#, "{", r#"{"format": 2}"#] {
            std::fs::write(folder.path().join("a").join(MANIFEST), text).unwrap();
            assert!(store.open("a").unwrap_err().to_string().starts_with("invalid snapshot "));
        }
    }
}
