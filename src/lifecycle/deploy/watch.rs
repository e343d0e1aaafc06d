//! Notices that something was saved or built: files of a directory of manifests, and images of the engine.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptionsBuilder;
use futures::future::ready;
use futures::{Stream, StreamExt};
use notify::event::{EventKind, MetadataKind, ModifyKind};
use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::Instant;

use super::whole;
use crate::base::error::Error;
use crate::host::docker::Engine;

/// How long to wait for further files of the same save or checkout.
const QUIET: Duration = Duration::from_millis(100);
/// The longest time to wait for them.
const LONGEST_SAVE: Duration = Duration::from_secs(2);
/// The engine's events that give a name to an image.
const NAMED: [&str; 4] = ["import", "load", "pull", "tag"];

type Names = Pin<Box<dyn Stream<Item = String>>>;

/// What is watched.
pub struct Watch {
    /// Ends the watching of files when it is dropped.
    _watcher: Box<dyn Watcher>,
    files: UnboundedReceiver<notify::Result<notify::Event>>,
    images: Names,
    folder: PathBuf,
    /// What has changed, and was not returned yet.
    changed: Vec<String>,
}

impl Watch {
    /// Starts to watch a directory with everything below it, or a file, and the images of an engine.
    ///
    /// # Errors
    /// An environment error if the files cannot be watched.
    pub fn start(folder: &Path, engine: Option<&Engine>) -> Result<Self, Error> {
        let folder = whole(folder);
        let (sender, files) = unbounded_channel();
        let failed = |error: notify::Error| {
            let hint = match error.kind {
                notify::ErrorKind::MaxFilesWatch => {
                    "raise the limit of watched files: fs.inotify.max_user_watches"
                }
                _ => "check the path",
            };
            let failed = Error::environment(format!("{} cannot be watched", folder.display()));
            failed.evidence(error.to_string()).hint(hint)
        };
        let watcher = notify::recommended_watcher(move |event| {
            // Without a receiver, the watch has ended.
            let _ = sender.send(event);
        });
        let mut watcher = Box::new(watcher.map_err(failed)?);
        // An editor replaces a file, so its directory is watched.
        let (watched, mode) = match (folder.is_dir(), folder.parent()) {
            (false, Some(parent)) => (parent, RecursiveMode::NonRecursive),
            _ => (folder.as_path(), RecursiveMode::Recursive),
        };
        watcher.watch(watched, mode).map_err(failed)?;
        Ok(Self { _watcher: watcher, files, images: engine.map_or_else(none, named), folder, changed: Vec::new() })
    }

    /// Waits for a change and returns what changed: file names, or the name of an image. Nothing is lost if it is canceled.
    ///
    /// # Errors
    /// An environment error if the files are no longer watched.
    pub async fn changed(&mut self) -> Result<Vec<String>, Error> {
        while self.changed.is_empty() {
            self.more().await?;
        }
        let end = Instant::now() + LONGEST_SAVE;
        while Instant::now() < end
            && let Ok(more) = tokio::time::timeout(QUIET, self.more()).await
        {
            more?;
        }
        let mut changed = std::mem::take(&mut self.changed);
        changed.sort();
        changed.dedup();
        Ok(changed)
    }

    async fn more(&mut self) -> Result<(), Error> {
        tokio::select! {
            event = self.files.recv() => match event {
                Some(Ok(event)) => self.changed.extend(files(&event, &self.folder)),
                ended => {
                    let why = ended.and_then(Result::err).map(|error| error.to_string()).unwrap_or_default();
                    let error = Error::environment(format!("{} is no longer watched", self.folder.display()));
                    return Err(error.evidence(why).hint("run the command again"));
                }
            },
            image = self.images.next() => match image {
                Some(name) => self.changed.push(format!("image {name}")),
                // The engine is gone, so nothing is built.
                None => self.images = none(),
            },
        }
        Ok(())
    }
}

fn none() -> Names {
    futures::stream::pending().boxed_local()
}

/// Returns the names of images, as the engine gets them.
fn named(engine: &Engine) -> Names {
    let filters = HashMap::from([("type", vec!["image"]), ("event", NAMED.to_vec())]);
    let options = EventsOptionsBuilder::default().filters(&filters).build();
    let name = |event: EventMessage| event.actor?.attributes?.remove("name");
    let events = engine.docker.events(Some(options));
    events.filter_map(move |event| ready(event.ok().and_then(name))).boxed_local()
}

/// Returns the files of an event that may be manifests, below or at `folder`. Those that an editor or a version control system uses
/// are not: their names begin with a dot or end with a tilde.
fn files(event: &notify::Event, folder: &Path) -> Vec<String> {
    let is_change = match event.kind {
        EventKind::Access(_) => false,
        EventKind::Modify(ModifyKind::Metadata(kind)) => kind == MetadataKind::Any,
        _ => true,
    };
    let named = |path: &PathBuf| {
        let name = match path.strip_prefix(folder) {
            Ok(name) if name.as_os_str().is_empty() => PathBuf::from(path.file_name()?),
            Ok(name) => name.to_owned(),
            Err(_) => return None,
        };
        let is_hidden = |part: &str| part.starts_with('.') || part.ends_with('~');
        let hidden = name.components().any(|part| is_hidden(&part.as_os_str().to_string_lossy()));
        (!hidden).then(|| name.display().to_string())
    };
    if is_change { event.paths.iter().filter_map(named).collect() } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use notify::event::{AccessKind, CreateKind};

    use super::*;

    #[test]
    fn only_changes_of_files_that_people_write_count() {
        let event = |kind, path: &str| notify::Event::new(kind).add_path(format!("/k8s/{path}").into());
        let created = EventKind::Create(CreateKind::File);
        let of = |event: notify::Event| files(&event, Path::new("/k8s"));
        assert_eq!(of(event(created, "templates/web.yaml")), ["templates/web.yaml"]);
        for ignored in [".web.yaml.swp", "web.yaml~", ".git/index", "a/.b/c"] {
            assert_eq!(of(event(created, ignored)), [""; 0], "{ignored}");
        }
        assert_eq!(of(event(EventKind::Access(AccessKind::Read), "web.yaml")), [""; 0]);
        let permissions = EventKind::Modify(ModifyKind::Metadata(MetadataKind::Permissions));
        assert_eq!(of(event(permissions, "web.yaml")), [""; 0]);
        // Of a single file.
        let other = notify::Event::new(created).add_path("/k8s/other.yaml".into());
        assert_eq!(files(&other, Path::new("/k8s/web.yaml")), [""; 0]);
        let same = notify::Event::new(created).add_path("/k8s/web.yaml".into());
        assert_eq!(files(&same, Path::new("/k8s/web.yaml")), ["web.yaml"]);
    }

    #[tokio::test]
    async fn saved_file_is_noticed_once() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("web.yaml");
        std::fs::write(&file, "kind: Service\n").unwrap();
        let mut watch = Watch::start(directory.path(), None).unwrap();
        let mut open = std::fs::OpenOptions::new().append(true).open(&file).unwrap();
        open.write_all(b"a: 1\n").unwrap();
        open.write_all(b"b: 2\n").unwrap();
        assert_eq!(watch.changed().await.unwrap(), ["web.yaml"]);
        // As editors save: to another file, which replaces the first.
        std::fs::write(directory.path().join(".new"), "kind: Pod\n").unwrap();
        std::fs::rename(directory.path().join(".new"), &file).unwrap();
        assert_eq!(watch.changed().await.unwrap(), ["web.yaml"]);
    }
}
