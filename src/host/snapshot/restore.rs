//! Creates the nodes of a cluster from a snapshot. What remains to be done inside of a node, its own unit does at its first
//! start, before etcd (`kind-configs/node/kindmesh-restore`).

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use futures::future::try_join_all;
use futures::{Stream, StreamExt};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::pending::Pending;
use super::{Archive, Cluster, Node, Snapshot, container, etcd};
use crate::base::blocking::elsewhere;
use crate::base::digest;
use crate::base::error::Error;
use crate::host::docker::node::{self, NodeFile};
use crate::host::docker::{Engine, file};
use crate::host::kind;
use crate::host::state::Files;
use crate::plan;

/// The directory on a node with what its unit needs.
const WORK: &str = "/kind/kindmesh-restore";
/// How long a control plane may need to create its keys. Measured: 1 s.
const KEYS_TIMEOUT: Duration = Duration::from_secs(60);

/// What the nodes of a cluster are created from.
#[derive(Debug)]
pub struct Source<'a> {
    /// The snapshot.
    pub snapshot: &'a Snapshot,
    /// The cluster in it.
    pub cluster: &'a Cluster,
    /// An archive of images that the node image does not contain.
    pub images: Option<Arc<File>>,
    /// The objects that a restored cluster needs with other content.
    pub objects: Vec<Value>,
    /// More files for every node, such as the configuration of the link.
    pub files: Vec<NodeFile>,
}

/// Checks that every archive of a snapshot is what was saved. Blocks: all of it is read.
///
/// # Errors
/// If one has changed; otherwise the file system's errors.
pub fn check(snapshot: &Snapshot) -> anyhow::Result<()> {
    let nodes = snapshot.manifest.clusters.values().flat_map(|cluster| &cluster.nodes);
    for archive in nodes.flat_map(Node::archives) {
        let path = snapshot.file(&archive.file);
        let sum = File::open(&path).and_then(digest::of).with_context(|| format!("reading {}", path.display()))?;
        verify(&path, archive, &sum)?;
    }
    Ok(())
}

/// Creates the containers of a cluster's nodes, in the order of the snapshot. The engine copies the node image's volume,
/// which takes seconds.
///
/// # Errors
/// The engine's errors, or that the snapshot has another number of nodes.
pub async fn create(
    engine: &Engine,
    cluster: &Cluster,
    planned: &plan::Cluster,
    network: &str,
    files: &Files,
) -> anyhow::Result<()> {
    let kind = planned.kind()?;
    let (names, image) = (&kind.nodes, cluster.node_image.as_str());
    anyhow::ensure!(cluster.nodes.len() == names.len(), "the snapshot has another number of nodes");
    let nodes = names.iter().zip(&cluster.nodes).map(async |(name, saved)| {
        let wanted = container::Wanted { name, kind_name: &kind.name, image, network };
        let configured = kind.config["networking"]["apiServerPort"].as_u64().filter(|port| *port != 0);
        let port = configured.and_then(|port| port.try_into().ok()).map_or_else(free_port, Ok)?;
        node::create(engine, name, container::request(&saved.container, wanted, port)?).await
    });
    let pending = Pending { kind_name: kind.name.clone(), image: image.to_owned(), nodes: names.clone() };
    pending.during(files, &planned.name, async { try_join_all(nodes).await.map(drop) }).await
}

/// Fills created nodes and starts them. If that fails, the cluster does not count as complete.
///
/// # Errors
/// If an archive is not what was saved; otherwise the errors of the engine and the file system.
pub async fn fill(engine: &Engine, names: &[String], source: &Source<'_>) -> anyhow::Result<()> {
    let nodes = names.iter().zip(&source.cluster.nodes);
    try_join_all(nodes.map(|(name, saved)| fill_one(engine, name, saved, source))).await?;
    // Only when all are complete: with this file on its control plane, a cluster counts as created. Before the start: the node
    // removes it if it fails.
    let created = NodeFile { path: kind::CREATED, content: Vec::new(), mode: 0o644 };
    let Some(control_plane) = names.first() else { return Ok(()) };
    node::copy_files(engine, control_plane, &[created]).await?;
    let start = async |name: &String| {
        engine.docker.start_container(name, None).await.with_context(|| format!("starting node {name}"))
    };
    try_join_all(names.iter().map(start)).await?;
    if !source.cluster.new_keys {
        return Ok(());
    }
    let Err(error) = keys_created(engine, control_plane).await else { return Ok(()) };
    let _ = node::run(engine, control_plane, &["rm", "-f", kind::CREATED]).await;
    Err(error)
}

/// Waits until a control plane has created its keys.
async fn keys_created(engine: &Engine, name: &str) -> anyhow::Result<()> {
    // `read` waits: the shell has no other way without a process.
    let wait = format!(
        "while [ -e {WORK}/new-keys ]; do read -r -t 0.1 <> <(:); done; [ -s /etc/kubernetes/admin.conf ]"
    );
    let command = ["bash", "-c", &wait];
    let created = tokio::time::timeout(KEYS_TIMEOUT, node::run(engine, name, &command)).await;
    created
        .map_err(|_| anyhow::anyhow!("no keys after {} s", KEYS_TIMEOUT.as_secs()))
        .flatten()
        .map(drop)
        .with_context(|| {
            format!("creating the keys of node {name}: see docker exec {name} journalctl -u kindmesh-restore")
        })
}

async fn fill_one(engine: &Engine, name: &str, saved: &Node, source: &Source<'_>) -> anyhow::Result<()> {
    let path = source.snapshot.file(&saved.archive.file);
    let (archive, sum) = hashed(&path)?;
    let extracted = node::extract(engine, name, archive).await;
    extracted.with_context(|| format!("copying {} to node {name}", path.display()))?;
    verify(&path, &saved.archive, &read(&sum))?;
    let images = format!("{WORK}/images.tar");
    match (&saved.images, &source.images) {
        (Some(saved), _) => {
            let path = source.snapshot.file(&saved.file);
            let (archive, sum) = hashed(&path)?;
            let size = std::fs::metadata(&path).with_context(|| format!("reading {}", path.display()))?.len();
            node::copy_file(engine, name, &images, size, archive).await?;
            verify(&path, saved, &read(&sum))?;
        }
        (None, Some(archive)) => {
            let size = archive.metadata().context("reading an archive of images")?.len();
            node::copy_file(engine, name, &images, size, file::read(archive.clone())).await?;
        }
        (None, None) => {}
    }
    let mut files = files();
    files.extend(source.files.iter().cloned());
    if let Some(saved) = &saved.records {
        let path = source.snapshot.file(&saved.file);
        let (snapshot, saved, objects) = (path.clone(), saved.clone(), source.objects.clone());
        let work = move || {
            let records = std::fs::read(&snapshot).with_context(|| format!("reading {}", snapshot.display()))?;
            verify(&snapshot, &saved, &digest::hex(&Sha256::digest(&records)))?;
            let mut records = etcd::Records::read(&records)?;
            records.replace(&objects);
            records.requests()
        };
        let content = elsewhere(work).await?;
        files.push(NodeFile { path: "/kind/kindmesh-restore/requests.json", content, mode: 0o600 });
    }
    node::copy_files(engine, name, &files).await
}

fn files() -> Vec<NodeFile> {
    let file = |path, content: &str, mode| NodeFile { path, content: content.into(), mode };
    vec![
        file(
            "/usr/local/bin/kindmesh-restore",
            include_str!("../../../kind-configs/node/kindmesh-restore"),
            0o755,
        ),
        file(
            "/etc/systemd/system/kindmesh-restore.service",
            include_str!("../../../kind-configs/node/kindmesh-restore.service"),
            0o644,
        ),
        file(
            "/etc/systemd/system/kubelet.service.d/30-kindmesh-restore.conf",
            include_str!("../../../kind-configs/node/restore.conf"),
            0o644,
        ),
    ]
}

/// Reads a file as a stream, and computes the digest of what was read.
fn hashed(path: &Path) -> anyhow::Result<(Chunks, Arc<Mutex<Sha256>>)> {
    let archive = File::open(path).with_context(|| format!("reading {}", path.display()))?;
    let sum = Arc::new(Mutex::new(Sha256::new()));
    let update = sum.clone();
    let chunks = file::read(Arc::new(archive)).inspect(move |chunk| {
        if let Ok(chunk) = chunk {
            update.lock().unwrap_or_else(PoisonError::into_inner).update(chunk);
        }
    });
    Ok((Box::pin(chunks), sum))
}

type Chunks = Pin<Box<dyn Stream<Item = Result<Bytes, std::io::Error>> + Send>>;

/// Returns the digest of what was read so far.
fn read(sum: &Mutex<Sha256>) -> String {
    digest::hex(&sum.lock().unwrap_or_else(PoisonError::into_inner).clone().finalize())
}

fn verify(path: &Path, saved: &Archive, sum: &str) -> Result<(), Error> {
    if sum == saved.sha256 {
        return Ok(());
    }
    Err(Error::environment(format!("{} has changed since it was written", path.display())))
}

/// Returns a free port of the loopback interface. kind chooses the port of an API server in the same way: a port that the
/// engine assigns would change with every restart.
fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("looking for a free port")?;
    Ok(listener.local_addr().context("looking for a free port")?.port())
}
