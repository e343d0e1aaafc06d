//! Images in the engine, and loading them from the engine into the nodes.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::Context;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::{CreateImageOptionsBuilder, TagImageOptionsBuilder};
use futures::future::try_join_all;
use futures::{Stream, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::sync::{Mutex, OnceCell};
use tokio::time::Instant;

use super::endpoint::Surroundings;
use super::file;
use super::pull::{Pulls, REPORT_INTERVAL, STALL_TIMEOUT};
use super::{Engine, credentials, engine, is_not_found, node};
use crate::base::counts;
use crate::base::error::Error;
use crate::base::event::{Outcome, Step};
use crate::plan::image_names::reference::{containerd_name, names_by_digest, tagged, travel_name};

/// Returns the names under which images are loaded; images with a digest as their name get a tag in the engine
/// here.
pub(super) async fn travel_names(engine: &Engine, images: &[String]) -> anyhow::Result<Vec<String>> {
    for image in images.iter().filter(|image| image.contains('@')) {
        let name = travel_name(image);
        let (repository, tag) = name.rsplit_once(':').unwrap_or((&name, "latest"));
        let options = TagImageOptionsBuilder::default().repo(repository).tag(tag).build();
        engine.docker.tag_image(image, Some(options)).await.with_context(|| format!("tagging {image}"))?;
    }
    Ok(images.iter().map(|image| travel_name(image)).collect())
}

/// Ensures that the engine has these images: missing ones are pulled in parallel, for its platform.
///
/// # Errors
/// The registry's error, with its message; or that a pull stalled.
pub async fn ensure(
    engine: &Engine,
    images: impl IntoIterator<Item = &String>,
    step: &Step,
) -> anyhow::Result<Outcome<()>> {
    let pulls = std::sync::Mutex::default();
    let each = images.into_iter().map(|image| ensure_one(engine, image, &pulls, step));
    let changed = try_join_all(each).await?.contains(&true);
    Ok(Outcome { value: (), changed })
}

/// Returns whether the image had to be pulled.
async fn ensure_one(
    engine: &Engine,
    image: &str,
    pulls: &std::sync::Mutex<Pulls>,
    step: &Step,
) -> anyhow::Result<bool> {
    match engine.docker.inspect_image(image).await {
        Ok(_) => return Ok(false),
        Err(error) if is_not_found(&error) => {}
        Err(error) => return Err(error).with_context(|| format!("looking for the image {image}")),
    }
    step.waiting("the image", &format!("pulling {image}"));
    let platform = engine.facts.platform();
    let options = CreateImageOptionsBuilder::default().from_image(&tagged(image)).platform(&platform).build();
    let folder = Surroundings::of_process().docker_config();
    let credentials = credentials::for_image(&folder, image).await;
    let progress = engine.docker.create_image(Some(options), None, credentials);
    let pulled = follow(progress, image, pulls, STALL_TIMEOUT, step).await;
    let hint = || format!("check whether the engine can pull it: docker pull --platform {platform} {image}");
    pulled.map_err(|error| error.hint(hint()))?;
    Ok(true)
}

/// Follows a pull to its end, and reports the progress of all pulls.
async fn follow(
    progress: impl Stream<Item = Result<CreateImageInfo, bollard::errors::Error>>,
    image: &str,
    pulls: &std::sync::Mutex<Pulls>,
    stalled_after: Duration,
    step: &Step,
) -> Result<(), Error> {
    let pulls = || pulls.lock().unwrap_or_else(PoisonError::into_inner);
    let mut progress = std::pin::pin!(progress);
    let started = Instant::now();
    loop {
        let stalled_at = pulls().moved_since(started) + stalled_after;
        // Progress that came too early after a report is reported later, even if nothing follows.
        let until = stalled_at.min(Instant::now() + REPORT_INTERVAL);
        let info = match tokio::time::timeout_at(until, progress.next()).await {
            Ok(Some(Ok(info))) => info,
            Ok(None) => break,
            Ok(Some(Err(error))) => {
                return Err(Error::environment(format!("the image {image} could not be pulled"))
                    .evidence(engine::chain(&error)));
            }
            // Another pull may have made progress in the meantime.
            Err(_) if Instant::now() < pulls().moved_since(started) + stalled_after => {
                if let Some(news) = pulls().news(Instant::now()) {
                    step.waiting("the image", &news);
                }
                continue;
            }
            Err(_) => {
                let (message, seconds) = (format!("the pull of {image} stalled"), stalled_after.as_secs_f32());
                let seen = pulls().describe(image).unwrap_or_else(|| "nothing".into());
                return Err(Error::environment(format!("{message}: no data for {seconds} s"))
                    .evidence(format!("before that: {seen}")));
            }
        };
        let mut pulls = pulls();
        pulls.take(image, &info, Instant::now());
        if let Some(news) = pulls.news(Instant::now()) {
            step.waiting("the image", &news);
        }
    }
    pulls().end(image);
    Ok(())
}

/// Images to load from the engine into nodes: each set that a node lacks is exported once.
#[derive(Debug)]
pub struct Load {
    folder: PathBuf,
    images: Vec<String>,
    archives: Mutex<BTreeMap<Vec<String>, Archive>>,
}

/// An archive, written by the first node that needs it while the others wait.
type Archive = Arc<OnceCell<Arc<File>>>;

impl Load {
    /// Creates a load of these images. Archives are unlinked files in `folder`, so that nothing is left however
    /// this process ends.
    pub fn new(folder: &Path, images: impl IntoIterator<Item = impl ToString>) -> Self {
        let images = images.into_iter().map(|image| image.to_string()).collect();
        Self { folder: folder.to_owned(), images, archives: Mutex::default() }
    }

    /// Returns the images that a node's containerd lacks.
    ///
    /// # Errors
    /// Errors of the engine or containerd, with their message.
    pub async fn missing_on(&self, engine: &Engine, name: &str) -> anyhow::Result<Vec<String>> {
        let list = node::run(engine, name, &[&CTR[..], &["ls", "-q"]].concat()).await?;
        let there = |image: &str| list.lines().any(|line| line == containerd_name(image));
        Ok(self.images.iter().filter(|image| !there(image)).cloned().collect())
    }

    /// Loads images that a node lacks from the engine, which must have them.
    ///
    /// # Errors
    /// As for [`Load::missing_on`].
    pub async fn bring(&self, engine: &Engine, name: &str, missing: Vec<String>) -> anyhow::Result<Outcome<()>> {
        if missing.is_empty() {
            return Ok(Outcome::unchanged(()));
        }
        let what = || format!("loading {} into node {name}", missing.join(", "));
        let archive = self.archive(engine, &missing).await.with_context(what)?;
        let snapshotter = snapshotter(engine, name).await.with_context(what)?;
        // `kind load` imports with --all-platforms, which fails if the engine has only one platform (kind#3795).
        let import = [&CTR[..], &["import", "--snapshotter", &snapshotter, "-"]].concat();
        node::run_with_input(engine, name, &import, file::read(archive)).await.with_context(what)?;
        for (has, wanted) in names_by_digest(&missing) {
            let tag = [&CTR[..], &["tag", "--force", &has, &wanted]].concat();
            node::run(engine, name, &tag).await.with_context(what)?;
        }
        Ok(Outcome::changed(()))
    }

    /// Returns an archive of images, which the engine must have; it is written once.
    ///
    /// # Errors
    /// Errors of the engine or the file system.
    pub async fn archive(&self, engine: &Engine, images: &[String]) -> anyhow::Result<Arc<File>> {
        let archive = self.archives.lock().await.entry(images.to_vec()).or_default().clone();
        archive.get_or_try_init(|| self.export(engine, images)).await.cloned()
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

/// containerd's client, for the images of Kubernetes.
pub const CTR: [&str; 4] = ["ctr", "--namespace", "k8s.io", "images"];

/// Returns the snapshotter of Kubernetes on a node: kind chooses another one if overlayfs does not work, and an
/// image unpacked into the wrong one cannot start.
async fn snapshotter(engine: &Engine, name: &str) -> anyhow::Result<String> {
    let config = node::run(engine, name, &["containerd", "config", "dump"]).await?;
    Ok(configured_snapshotter(&config).unwrap_or(DEFAULT_SNAPSHOTTER).to_owned())
}

/// containerd's default.
const DEFAULT_SNAPSHOTTER: &str = "overlayfs";

/// Finds the snapshotter of the Kubernetes plugin in containerd's configuration: in one table up to version 2 of
/// the configuration, in another one since. Other plugins have settings of that name too.
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
    use crate::base::event::{Event, Events};
    use futures::stream;

    #[tokio::test]
    async fn pull_reports_progress_and_fails_when_stalled() {
        let (events, mut happened) = Events::channel();
        let step = events.step("pull", None);
        let line = |current| {
            let line = format!(
                r#"{{"status":"Downloading","progressDetail":{{"current":{current},"total":128000000}},"id":"a"}}"#
            );
            Ok(serde_json::from_str::<CreateImageInfo>(&line).unwrap())
        };
        let pulls = std::sync::Mutex::default();
        let soon = Duration::from_secs(1);
        // An engine that repeats itself reports no progress.
        let stalls = stream::iter([line(1), line(34_000_000)]).chain(stream::repeat_with(|| line(34_000_000)));
        let paced = stalls.then(|line| async {
            tokio::task::yield_now().await;
            line
        });
        let error = follow(paced, "istio/pilot:1", &pulls, soon, &step).await.unwrap_err();
        assert_eq!(error.message, "the pull of istio/pilot:1 stalled: no data for 1 s");
        assert_eq!(error.evidence, ["before that: 34 of 128 MB"]);
        let error = follow(stream::pending(), "istio/proxyv2:1", &pulls, soon, &step).await.unwrap_err();
        assert_eq!(error.evidence, ["before that: nothing"]);
        follow(stream::iter([line(64_000_000)]), "istio/pilot:1", &pulls, soon, &step).await.unwrap();

        events.end();
        let mut told = Vec::new();
        while let Some(event) = happened.recv().await {
            if let Event::Waiting { last, .. } = event {
                told.push(last);
            }
        }
        // The newest replaces those that were not read.
        assert!(
            matches!(told.as_slice(), [last] if last.starts_with("pilot ") && last.ends_with(" of 128 MB")),
            "{told:?}"
        );
    }

    #[test]
    fn kubernetes_snapshotter_is_found() {
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
}
