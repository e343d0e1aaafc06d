//! Images: in the engine, and from the engine into the nodes.

use anyhow::Context;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures::StreamExt;
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt;
use tokio::sync::OnceCell;
use tokio_util::io::ReaderStream;

use super::endpoint::Surroundings;
use super::{Engine, credentials, engine, is_not_found, node};
use crate::error::Error;
use crate::event::{Outcome, Step};

/// The registry of an image name, by the docker client's rule: the first part is one if it looks like a host.
pub(crate) fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        _ => "docker.io",
    }
}

/// The name under which containerd keeps an image: with its registry, and `library/` on Docker Hub.
pub(crate) fn containerd_name(image: &str) -> String {
    let path = image.strip_prefix(registry(image)).map_or(image, |rest| rest.trim_start_matches('/'));
    let registry = registry(image);
    let path = if registry == "docker.io" && !path.contains('/') { format!("library/{path}") } else { path.into() };
    let tagged = path.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
    format!("{registry}/{path}{}", if tagged { "" } else { ":latest" })
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
    let options = CreateImageOptionsBuilder::default().from_image(image).platform(&platform).build();
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

/// Images on their way from the engine to nodes: exported once, when the first node turns out to need them.
#[derive(Debug)]
pub struct Load {
    images: Vec<String>,
    archive: OnceCell<NamedTempFile>,
}

impl Load {
    /// For nodes that are to have these images.
    pub fn new(images: &[&str]) -> Self {
        Self { images: images.iter().map(|image| (*image).to_owned()).collect(), archive: OnceCell::new() }
    }

    /// Makes sure that a node's containerd has the images.
    ///
    /// # Errors
    /// The engine's or containerd's, with what they said.
    pub async fn ensure_on(&self, engine: &Engine, name: &str) -> anyhow::Result<Outcome<()>> {
        let list = node::run(engine, name, &["ctr", "--namespace", "k8s.io", "images", "ls", "-q"]).await?;
        let there = |image: &String| list.lines().any(|line| line == containerd_name(image));
        if self.images.iter().all(there) {
            return Ok(Outcome::unchanged(()));
        }
        let what = || format!("loading {} into node {name}", self.images.join(", "));
        let archive = self.archive.get_or_try_init(|| self.export(engine)).await?;
        let file = tokio::fs::File::open(archive.path()).await.with_context(what)?;
        // `kind load` imports with --all-platforms, which fails where the engine has one platform only (kind#3795).
        let import = ["ctr", "--namespace", "k8s.io", "images", "import", "-"];
        let stream = ReaderStream::with_capacity(file, CHUNK);
        node::run_with_input(engine, name, &import, stream).await.with_context(what)?;
        Ok(Outcome::changed(()))
    }

    async fn export(&self, engine: &Engine) -> anyhow::Result<NamedTempFile> {
        let what = || format!("exporting {} from the engine", self.images.join(", "));
        let archive = NamedTempFile::new().with_context(what)?;
        let mut file = tokio::fs::File::from_std(archive.reopen().with_context(what)?);
        let names: Vec<&str> = self.images.iter().map(String::as_str).collect();
        let mut stream = std::pin::pin!(engine.docker.export_images(&names));
        while let Some(chunk) = stream.next().await {
            file.write_all(&chunk.with_context(what)?).await.with_context(what)?;
        }
        file.flush().await.with_context(what)?;
        Ok(archive)
    }
}

/// How much of an archive is read at once, in bytes.
const CHUNK: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_containerd_keeps_them() {
        for (image, name) in [
            ("docker.io/istio/pilot:1.31.1", "docker.io/istio/pilot:1.31.1"),
            ("istio/pilot:1.31.1", "docker.io/istio/pilot:1.31.1"),
            ("alpine", "docker.io/library/alpine:latest"),
            ("localhost:5000/a/b:1", "localhost:5000/a/b:1"),
            ("kindmesh.lab/pilot:1.31.0", "kindmesh.lab/pilot:1.31.0"),
            ("registry.example/a", "registry.example/a:latest"),
        ] {
            assert_eq!(containerd_name(image), name);
        }
    }
}
