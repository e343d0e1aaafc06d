//! Loads images of the local engine into nodes: a locally built image runs without a registry.

use std::path::Path;

use anyhow::Context;
use futures::future::try_join_all;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::base::blocking::elsewhere;
use crate::base::digest::hex;
use crate::base::error::Error;
use crate::host::docker::image::Load;
use crate::host::docker::{Engine, image_marks, sample_image};
use crate::plan::Cluster;
use crate::plan::image_names::reference::containerd_name;

/// The result for one image in one cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Loaded {
    /// The image, as requested.
    pub image: String,
    /// The cluster.
    pub cluster: String,
    /// Whether any of its nodes lacked it, or had an earlier one of that name.
    pub changed: bool,
}

/// Returns the image's identity in the engine.
///
/// # Errors
/// A usage error if the engine has no image of that name; otherwise the engine's errors.
pub async fn identity(engine: &Engine, image: &str) -> anyhow::Result<String> {
    let found = image_marks::in_engine(engine, image).await?;
    Ok(found.ok_or_else(|| {
        Error::usage(format!("the engine at {} has no image {image}", engine.endpoint.host))
            .hint(format!("build it: docker build --tag {image} DIRECTORY; or pull it: docker pull {image}"))
    })?)
}

/// The path of a program in an image that is built from it.
const PROGRAM: &str = "/program";

/// The label of an image that is built from a program, with the digest of its content.
const DIGEST: &str = "kindmesh.program";

/// Builds an image from a program and its shared libraries, for the engine's own platform: no Dockerfile, no base
/// image. An image of that name is replaced, unless it has the same content. Returns whether it was built.
///
/// # Errors
/// If the program cannot run or be read, or the engine rejects the image.
pub async fn of_program(engine: &Engine, image: &str, program: &Path) -> anyhow::Result<bool> {
    let folder = sample_image::root_folder(program, PROGRAM).await?;
    let (folder, digest) = elsewhere(move || {
        let digest = hex(&Sha256::digest(&folder));
        Ok((folder, digest))
    })
    .await?;
    if let Ok(found) = engine.docker.inspect_image(image).await {
        let labels = found.config.and_then(|config| config.labels).unwrap_or_default();
        if labels.get(DIGEST) == Some(&digest) {
            return Ok(false);
        }
    }
    let label = format!("LABEL org.opencontainers.image.title=made-by-kindmesh {DIGEST}={digest}");
    sample_image::import(engine, image, folder, PROGRAM, label).await?;
    Ok(true)
}

/// Loads images of the engine into every node of these clusters. A node that has the same image is skipped; an
/// earlier image of that name is replaced. Archives are unlinked files in `folder`.
///
/// # Errors
/// A usage error for an image that the engine lacks; otherwise errors of the engine or containerd.
pub async fn load(
    engine: &Engine,
    folder: &Path,
    clusters: &[&Cluster],
    images: &[&str],
) -> anyhow::Result<Vec<Loaded>> {
    let identities = try_join_all(images.iter().map(|image| identity(engine, image))).await?;
    let wanted: Vec<(&str, String)> = images.iter().copied().zip(identities).collect();
    let load = Load::new(folder, images);
    let in_cluster = async |cluster: &&Cluster| {
        let nodes = cluster.nodes().iter().map(|node| into_node(engine, &load, node, &wanted));
        let changed =
            try_join_all(nodes).await.with_context(|| format!("loading images into {}", cluster.name))?;
        let loaded = |image: &&str| Loaded {
            image: (*image).to_owned(),
            cluster: cluster.name.clone(),
            changed: changed.iter().flatten().any(|changed| changed == image),
        };
        anyhow::Ok(images.iter().map(loaded).collect::<Vec<_>>())
    };
    Ok(try_join_all(clusters.iter().map(in_cluster)).await?.concat())
}

/// Loads the images that a node lacks, and returns them.
async fn into_node(
    engine: &Engine,
    load: &Load,
    node: &str,
    wanted: &[(&str, String)],
) -> anyhow::Result<Vec<String>> {
    let there = image_marks::on_node(engine, node).await?;
    let is_there = |image: &str, identity: &str| {
        there.get(&containerd_name(image)).is_some_and(|mark| mark.as_deref() == Some(identity))
    };
    let missing: Vec<_> = wanted.iter().filter(|(image, identity)| !is_there(image, identity)).collect();
    let names: Vec<String> = missing.iter().map(|(image, _)| (*image).to_owned()).collect();
    load.bring(engine, node, names.clone()).await?;
    for (image, identity) in missing {
        image_marks::mark(engine, node, image, identity).await?;
    }
    Ok(names)
}
