//! An image as blobs: exported from an engine, and loaded into one.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use bollard::query_parameters::ImportImageOptionsBuilder;
use bytes::Bytes;
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use super::archive::{CHUNK, Part, Place, digest_of, places};
use super::layout::{self, Descriptor, Manifest, Platform};
use crate::base::event::Step;
use crate::host::docker::Engine;

/// An exported image: an unlinked file, and the position of each blob in it.
#[derive(Debug)]
pub(super) struct Exported {
    pub file: File,
    pub manifest: Manifest,
    places: Vec<Place>,
}

/// The file that describes an export; every engine writes it, whatever else its export contains.
const LIST: &str = "manifest.json";

/// An image in [`LIST`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Exports an image to an unnamed file in `folder`, which disappears when this process ends.
///
/// # Errors
/// Errors of the engine or the file system.
pub(super) async fn export(engine: &Engine, image: &str, folder: &Path, step: &Step) -> anyhow::Result<File> {
    let what = || format!("exporting {image} from the engine to {}", folder.display());
    let file = tempfile::tempfile_in(folder).with_context(what)?;
    let mut to = tokio::fs::File::from_std(file.try_clone().with_context(what)?);
    let mut stream = std::pin::pin!(engine.docker.export_image(image));
    let (mut bytes, mut told) = (0, 0);
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.with_context(what)?;
        to.write_all(&chunk).await.with_context(what)?;
        bytes += chunk.len() as u64;
        if bytes >> 27 > told {
            told = bytes >> 27;
            step.waiting("the image", &format!("{} MB read from the engine", bytes / 1_000_000));
        }
    }
    to.flush().await.with_context(what)?;
    Ok(file)
}

impl Exported {
    /// Reads the engine's export. Blocks.
    ///
    /// # Errors
    /// If it is not one complete image.
    pub(super) fn read(file: File) -> anyhow::Result<Self> {
        let places_of = places(&file).context("reading the engine's export")?;
        let place = |name: &str| {
            places_of.get(name).copied().with_context(|| format!("the engine's export has no {name}"))
        };
        let listed: Vec<Listed> =
            serde_json::from_reader(Part::new(&file, place(LIST)?)).context("reading the engine's export")?;
        let [image] = listed.as_slice() else {
            anyhow::bail!("the engine exported {} images, not one", listed.len())
        };
        let mut all = Vec::new();
        let mut descriptors = Vec::new();
        for (number, name) in std::iter::once(&image.config).chain(&image.layers).enumerate() {
            let place = place(name)?;
            let digest = digest_of(Part::new(&file, place)).with_context(|| format!("reading {name}"))?;
            let mut begins = [0; 4];
            let most = begins.len().min(usize::try_from(place.size).unwrap_or(usize::MAX));
            Part::new(&file, place).read_exact(&mut begins[..most])?;
            let media_type =
                if number == 0 { layout::IMAGE_CONFIG.into() } else { layout::layer_type(&begins[..most]) };
            descriptors.push(Descriptor::new(media_type, digest, place.size));
            all.push(place);
        }
        let config = descriptors.remove(0);
        Ok(Self { file, manifest: Manifest::new(None, config, descriptors), places: all })
    }

    /// Returns each blob and its content.
    pub(super) fn blobs(&self) -> impl Iterator<Item = (&Descriptor, Part<'_>)> {
        self.manifest.blobs().zip(self.places.iter().map(|place| Part::new(&self.file, *place)))
    }
}

/// Returns the platform in an image's configuration.
pub(super) fn platform(config: &[u8]) -> anyhow::Result<Platform> {
    serde_json::from_slice(config).context("reading the image's configuration")
}

/// An image to load: the positions of its blobs in a file.
#[derive(Debug)]
pub(super) struct Blobs {
    pub file: Arc<File>,
    pub manifest: Manifest,
    /// In the order of [`Manifest::blobs`].
    pub places: Vec<Place>,
}

/// Loads an image under a name, in the format that every engine reads.
///
/// # Errors
/// Errors of the engine or the file.
pub(super) async fn load(engine: &Engine, blobs: Blobs, name: &str, step: &Step) -> anyhow::Result<()> {
    let what = || format!("loading {name} into the engine");
    let (sender, receiver) = mpsc::channel(4);
    let total = blobs.places.iter().map(|place| place.size).sum::<u64>();
    let name_of = name.to_owned();
    let writing = tokio::task::spawn_blocking(move || {
        let failed = write(&blobs, &name_of, Channel(sender.clone())).err();
        // Without an error, the engine would accept a partial image as complete.
        if let Some(error) = failed {
            let _ = sender.blocking_send(Err(error));
        }
    });
    let mut sent = 0;
    let step_of = step.clone();
    let stream =
        futures::stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
    let stream = stream.inspect(move |chunk: &io::Result<Bytes>| {
        let before: u64 = sent >> 27;
        sent += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        if sent >> 27 > before {
            step_of.waiting("the image", &format!("{} of {} MB", sent / 1_000_000, total / 1_000_000));
        }
    });
    let options = ImportImageOptionsBuilder::default().quiet(true).build();
    let mut progress = std::pin::pin!(engine.docker.import_image_stream(options, stream, None));
    while let Some(info) = progress.next().await {
        info.with_context(what)?;
    }
    writing.await.with_context(what)?;
    Ok(())
}

/// Writes an image like `docker save`. Blocks.
fn write(blobs: &Blobs, name: &str, to: impl Write) -> io::Result<()> {
    let mut tar = tar::Builder::new(io::BufWriter::with_capacity(CHUNK, to));
    let mut file = |path: &str, size: u64, content: &mut dyn Read| {
        let mut header = tar::Header::new_ustar();
        header.set_size(size);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, content)
    };
    let paths: Vec<String> = blobs.manifest.blobs().map(|blob| layout::blob_path(&blob.digest)).collect();
    let (config, layers) = paths.split_first().ok_or(io::ErrorKind::InvalidData)?;
    let listed =
        Listed { config: config.clone(), repo_tags: Some(vec![name.to_owned()]), layers: layers.to_vec() };
    let listed = serde_json::to_vec(&[listed])?;
    file(LIST, listed.len() as u64, &mut listed.as_slice())?;
    for (number, (path, place)) in paths.iter().zip(&blobs.places).enumerate() {
        // Identical layers are one file.
        if !paths[..number].contains(path) {
            file(path, place.size, &mut Part::new(&blobs.file, *place))?;
        }
    }
    tar.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok(())
}

/// Passes written data to an asynchronous reader.
struct Channel(mpsc::Sender<io::Result<Bytes>>);

impl Write for Channel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::io::Seek;

    /// An engine's export of an image with three layers, two of them identical.
    pub fn exported(config: &str) -> File {
        let mut tar = tar::Builder::new(tempfile::tempfile().unwrap());
        let mut add = |path: &str, content: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, path, content).unwrap();
        };
        add("one/layer.tar", b"first");
        add("two.tar.gz", &[0x1f, 0x8b, 8, 0, 1]);
        add("config.json", config.as_bytes());
        let layers = ["one/layer.tar", "two.tar.gz", "one/layer.tar"];
        let list = serde_json::json!([{"Config": "config.json", "RepoTags": ["a:1"], "Layers": layers}]);
        add(LIST, list.to_string().as_bytes());
        let mut file = tar.into_inner().unwrap();
        file.rewind().unwrap();
        file
    }

    #[test]
    fn export_round_trips_through_blobs() {
        let config = r#"{"architecture":"arm64","os":"linux","rootfs":{}}"#;
        let image = Exported::read(exported(config)).unwrap();
        let layers: Vec<_> = image.manifest.layers.iter().map(|layer| layer.media_type.as_str()).collect();
        let gzip = format!("{}+gzip", layout::LAYER);
        assert_eq!(layers, [layout::LAYER, &gzip, layout::LAYER]);
        assert_eq!(image.manifest.config, Descriptor::of(layout::IMAGE_CONFIG, config.as_bytes()));
        assert_eq!(image.manifest.layers[0], Descriptor::of(layout::LAYER, b"first"));
        assert_eq!(
            platform(config.as_bytes()).unwrap(),
            Platform { architecture: "arm64".into(), os: "linux".into() }
        );

        let mut again = tempfile::tempfile().unwrap();
        let Exported { file, manifest, places } = image;
        let blobs = Blobs { file: Arc::new(file), manifest, places };
        write(&blobs, "b:2", again.try_clone().unwrap()).unwrap();
        again.rewind().unwrap();
        let listed: Vec<Listed> = {
            let place = super::places(&again).unwrap()[LIST];
            serde_json::from_reader(Part::new(&again, place)).unwrap()
        };
        assert_eq!(listed[0].repo_tags.as_deref(), Some(["b:2".to_owned()].as_slice()));
        let image = Exported::read(again).unwrap();
        assert_eq!(image.manifest, blobs.manifest);
        for (of, mut content) in image.blobs() {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes).unwrap();
            assert_eq!(layout::digest(&bytes), of.digest);
        }
    }

    #[test]
    fn incomplete_export_is_rejected() {
        let mut tar = tar::Builder::new(tempfile::tempfile().unwrap());
        let list = br#"[{"Config":"absent.json","RepoTags":null,"Layers":[]}]"#;
        let mut header = tar::Header::new_gnu();
        header.set_size(list.len() as u64);
        tar.append_data(&mut header, LIST, list.as_slice()).unwrap();
        let error = Exported::read(tar.into_inner().unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "the engine's export has no absent.json");
        assert!(Exported::read(tempfile::tempfile().unwrap()).is_err());
    }
}
