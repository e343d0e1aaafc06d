//! Images: in the engine, and from the engine into the nodes.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use bollard::query_parameters::{CreateImageOptionsBuilder, TagImageOptionsBuilder};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::sync::{Mutex, OnceCell};

use super::endpoint::Surroundings;
use super::{Engine, credentials, engine, is_not_found, node};
use crate::base::counts;
use crate::base::error::Error;
use crate::base::event::{Outcome, Step};
use crate::plan::images::reference::{containerd_name, names_by_digest, tagged, travel_name};

/// The names under which images travel; those named by their digest get theirs from the engine here.
pub(super) async fn travel_names(engine: &Engine, images: &[String]) -> anyhow::Result<Vec<String>> {
    for image in images.iter().filter(|image| image.contains('@')) {
        let name = travel_name(image);
        let (repository, tag) = name.rsplit_once(':').unwrap_or((&name, "latest"));
        let options = TagImageOptionsBuilder::default().repo(repository).tag(tag).build();
        engine.docker.tag_image(image, Some(options)).await.with_context(|| format!("tagging {image}"))?;
    }
    Ok(images.iter().map(|image| travel_name(image)).collect())
}

/// Makes sure that the engine has an image: pulled once, for the engine's platform, if it has not.
///
/// # Errors
/// The registry's refusal, with what it said.
pub async fn ensure(engine: &Engine, image: &str, step: &Step) -> anyhow::Result<Outcome<()>> {
    match engine.docker.inspect_image(image).await {
        Ok(_) => return Ok(Outcome::unchanged(())),
        Err(error) if is_not_found(&error) => {}
        Err(error) => return Err(error).with_context(|| format!("looking for the image {image}")),
    }
    step.waiting("the image", &format!("pulling {image}"));
    let platform = format!("{}/{}", engine.facts.os, engine.facts.architecture);
    let options = CreateImageOptionsBuilder::default().from_image(&tagged(image)).platform(&platform).build();
    let folder = Surroundings::of_process().docker_config();
    let credentials = credentials::for_image(&folder, image).await;
    let mut progress = engine.docker.create_image(Some(options), None, credentials).boxed();
    while let Some(info) = progress.next().await {
        if let Err(error) = info {
            return Err(Error::environment(format!("the image {image} could not be pulled"))
                .evidence(engine::chain(&error))
                .hint(format!("see whether the engine can: docker pull --platform {platform} {image}"))
                .into());
        }
    }
    Ok(Outcome::changed(()))
}

/// Images on their way from the engine to nodes: each set that a node turns out to lack is exported once.
#[derive(Debug)]
pub struct Load {
    folder: PathBuf,
    images: Vec<String>,
    archives: Mutex<BTreeMap<Vec<String>, Archive>>,
}

/// An archive, made by the first node that needs it while the others wait.
type Archive = Arc<OnceCell<Arc<File>>>;

impl Load {
    /// For nodes that are to have these images. Archives are written to `folder`, without a name: however this
    /// process ends, nothing is left of them.
    pub fn new(folder: &Path, images: impl IntoIterator<Item = impl ToString>) -> Self {
        let images = images.into_iter().map(|image| image.to_string()).collect();
        Self { folder: folder.to_owned(), images, archives: Mutex::default() }
    }

    /// The images that a node's containerd lacks.
    ///
    /// # Errors
    /// The engine's or containerd's, with what they said.
    pub async fn missing_on(&self, engine: &Engine, name: &str) -> anyhow::Result<Vec<String>> {
        let list = node::run(engine, name, &[&CTR[..], &["ls", "-q"]].concat()).await?;
        let there = |image: &str| list.lines().any(|line| line == containerd_name(image));
        Ok(self.images.iter().filter(|image| !there(image)).cloned().collect())
    }

    /// Brings images that a node lacks from the engine, which has to have them.
    ///
    /// # Errors
    /// As those of [`Load::missing_on`].
    pub async fn bring(&self, engine: &Engine, name: &str, missing: Vec<String>) -> anyhow::Result<Outcome<()>> {
        if missing.is_empty() {
            return Ok(Outcome::unchanged(()));
        }
        let what = || format!("loading {} into node {name}", missing.join(", "));
        let archive = self.archives.lock().await.entry(missing.clone()).or_default().clone();
        let archive = archive.get_or_try_init(|| self.export(engine, &missing)).await.with_context(what)?;
        let snapshotter = snapshotter(engine, name).await.with_context(what)?;
        // `kind load` imports with --all-platforms, which fails where the engine has one platform only (kind#3795).
        let import = [&CTR[..], &["import", "--snapshotter", &snapshotter, "-"]].concat();
        node::run_with_input(engine, name, &import, read(archive.clone())).await.with_context(what)?;
        for (has, wanted) in names_by_digest(&missing) {
            let tag = [&CTR[..], &["tag", "--force", &has, &wanted]].concat();
            node::run(engine, name, &tag).await.with_context(what)?;
        }
        Ok(Outcome::changed(()))
    }

    async fn export(&self, engine: &Engine, images: &[String]) -> anyhow::Result<Arc<File>> {
        let names = travel_names(engine, images).await?;
        let what = || format!("exporting them from the engine to {}", self.folder.display());
        let archive = tempfile::tempfile_in(&self.folder).with_context(what)?;
        let mut file = tokio::fs::File::from_std(archive.try_clone().with_context(what)?);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut stream = std::pin::pin!(engine.docker.export_images(&names));
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.with_context(what)?;
            counts::exported(chunk.len());
            file.write_all(&chunk).await.with_context(what)?;
        }
        file.flush().await.with_context(what)?;
        Ok(Arc::new(archive))
    }
}

/// containerd's client, on the images that Kubernetes uses.
pub(super) const CTR: [&str; 4] = ["ctr", "--namespace", "k8s.io", "images"];

/// How much of an archive is read at once, in bytes.
const CHUNK: usize = 256 * 1024;

/// An archive from its beginning, whoever else reads it meanwhile: the file's own position is left alone.
fn read(archive: Arc<File>) -> impl Stream<Item = Result<Bytes, std::io::Error>> {
    futures::stream::try_unfold(0, move |offset: u64| {
        let archive = archive.clone();
        async move {
            let read = move || {
                let mut chunk = vec![0; CHUNK];
                let length = archive.read_at(&mut chunk, offset)?;
                chunk.truncate(length);
                Ok::<_, std::io::Error>(chunk)
            };
            let chunk = tokio::task::spawn_blocking(read).await.map_err(std::io::Error::other)??;
            let next = offset + chunk.len() as u64;
            Ok((!chunk.is_empty()).then(|| (Bytes::from(chunk), next)))
        }
    })
}

/// The snapshotter that Kubernetes uses on a node: kind chooses another where overlayfs does not work, and an image
/// unpacked into the wrong one could not be started.
async fn snapshotter(engine: &Engine, name: &str) -> anyhow::Result<String> {
    let config = node::run(engine, name, &["containerd", "config", "dump"]).await?;
    Ok(configured_snapshotter(&config).unwrap_or(DEFAULT_SNAPSHOTTER).to_owned())
}

/// containerd's own choice.
const DEFAULT_SNAPSHOTTER: &str = "overlayfs";

/// Finds the snapshotter of the Kubernetes plugin in containerd's configuration: in one table up to version 2 of the
/// configuration, in another since. Other plugins have settings of that name too.
pub fn configured_snapshotter(config: &str) -> Option<&str> {
    const TABLES: [&str; 2] =
        ["plugins.io.containerd.grpc.v1.cri.containerd", "plugins.io.containerd.cri.v1.images"];
    let unquoted = |text: &str| text.replace(['"', '\''], "");
    let mut ours = false;
    for line in config.lines().map(str::trim) {
        if let Some(table) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            ours = TABLES.contains(&unquoted(table).as_str());
        } else if let Some(("snapshotter", value)) = line.split_once('=').map(|(key, value)| (key.trim(), value)) {
            let value = value.trim().trim_matches(['"', '\'']);
            if ours && !value.is_empty() {
                return Some(value);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::TryStreamExt;

    #[test]
    fn the_snapshotter_of_kubernetes_is_found() {
        let version_2 = r#"version = 2
[plugins."io.containerd.transfer.v1.local"]
  snapshotter = "other"
[plugins."io.containerd.grpc.v1.cri".containerd]
  discard_unpacked_layers = true
  snapshotter = "fuse-overlayfs"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  snapshotter = ""
"#;
        let version_3 =
            "version = 3\n[plugins]\n  [plugins.'io.containerd.cri.v1.images']\n    snapshotter = 'native'\n";
        assert_eq!(configured_snapshotter(version_2), Some("fuse-overlayfs"));
        assert_eq!(configured_snapshotter(version_3), Some("native"));
        assert_eq!(configured_snapshotter("version = 3\n"), None);
    }

    #[tokio::test]
    async fn two_nodes_read_one_archive() {
        let mut archive = tempfile::tempfile().unwrap();
        let content: Vec<u8> = (0..CHUNK + 10).map(|n| n as u8).collect();
        std::io::Write::write_all(&mut archive, &content).unwrap();
        let archive = Arc::new(archive);
        let whole = || {
            read(archive.clone()).try_fold(Vec::new(), async |mut all, chunk| {
                all.extend_from_slice(&chunk);
                Ok(all)
            })
        };
        let (one, other) = futures::join!(whole(), whole());
        assert!(one.unwrap() == content && other.unwrap() == content);
    }
}
