//! The baked node image: kind's node image with the images that every node needs already in its containerd. Made once
//! for a set of images, then every cluster starts from it, and nothing has to be loaded into nodes.

use anyhow::Context;
use bollard::models::{ContainerConfig, ContainerCreateBody, HostConfig, ImageInspect, ImageSummary};
use bollard::query_parameters::{
    CommitContainerOptionsBuilder, CreateContainerOptionsBuilder, ListImagesOptionsBuilder,
};
use sha2::{Digest, Sha256};

use super::{Engine, image, is_not_found, node, reference};
use crate::base::digest;
use crate::base::event::{Outcome, Step};

/// The repository of baked node images; never pulled, so the name resolves nowhere.
pub const REPOSITORY: &str = "kindmesh.local/node";
/// The label of every baked node image, with the digest of its set: how it is found again.
pub const LABEL: &str = "kindmesh.node";
/// The label with the node image that it was made from, as the spec names it.
pub const FROM_LABEL: &str = "kindmesh.node.from";
/// The label with the images in it, separated by commas.
pub const IMAGES_LABEL: &str = "kindmesh.node.images";
/// The label of the container in which one is being made, with that container's own name: its image, and so every node
/// made from it, inherits the label, and is called otherwise.
pub const CONTAINER_LABEL: &str = "kindmesh.bake";

/// How baking is done: counts into the digest, so that images baked another way are not taken for these.
const RECIPE: &str = "1";
/// How long the container of a bake lives, in seconds. The engine removes it then, whatever became of us.
const LIVES: &str = "600";

/// Runs containerd alone, imports what comes by standard input and ends containerd, so that its database is whole.
/// Not unpacked, as kind itself preloads images: that would need a file system which overlayfs can be put on, a
/// volume, and what is on a volume is not in the image. Kubernetes unpacks an image when its first pod starts.
const IMPORT: &str = r#"
set -eu
log=/tmp/kindmesh-containerd.log
containerd </dev/null >$log 2>&1 &
daemon=$!
tries=0
until ctr version </dev/null >/dev/null 2>&1; do
  tries=$((tries + 1))
  if [ $tries -gt 300 ] || ! kill -0 $daemon 2>/dev/null; then
    echo "containerd does not answer:" >&2
    tail -n 10 $log >&2
    exit 1
  fi
  sleep 0.1
done
ctr --namespace k8s.io images import --no-unpack - >/dev/null
while [ $# != 0 ]; do
  ctr --namespace k8s.io images tag --force "$1" "$2" >/dev/null
  shift 2
done
kill $daemon
wait $daemon || true
rm -f $log
"#;

/// Makes sure that the engine has the node image with these images in it; gives its name. All of them have to be in
/// the engine. The name depends on nothing but their identities and names, so one that is there is the right one.
///
/// # Errors
/// The engine's, or containerd's with what it said.
pub async fn ensure(
    engine: &Engine,
    node_image: &str,
    images: &[String],
    step: &Step,
) -> anyhow::Result<Outcome<String>> {
    let from = inspect(engine, node_image).await?;
    let digest = digest_of(engine, &from, images).await?;
    let name = format!("{REPOSITORY}:{digest}");
    match engine.docker.inspect_image(&name).await {
        Ok(_) => return Ok(Outcome::unchanged(name)),
        Err(error) if is_not_found(&error) => {}
        Err(error) => return Err(error).with_context(|| format!("looking for the image {name}")),
    }
    step.waiting("the node image", &format!("putting {} into {node_image}", images.join(", ")));
    let container = create(engine, node_image, &digest).await?;
    let baked = async {
        fill(engine, &container, images).await?;
        let labels = [(LABEL, digest.clone()), (FROM_LABEL, node_image.into()), (IMAGES_LABEL, images.join(","))];
        commit(engine, &container, &from, &labels, &digest).await
    };
    let baked = baked.await;
    let removed = node::remove(engine, &container).await;
    baked.with_context(|| format!("baking {} into {node_image}", images.join(", ")))?;
    removed?;
    Ok(Outcome::changed(name))
}

/// The name of the node image with these images in it, whether or not it was made; none when the engine lacks one of
/// them.
pub async fn name(engine: &Engine, node_image: &str, images: &[String]) -> Option<String> {
    let from = inspect(engine, node_image).await.ok()?;
    Some(format!("{REPOSITORY}:{}", digest_of(engine, &from, images).await.ok()?))
}

/// The repository of node images that came in an archive; never pulled, so the name resolves nowhere.
pub const OFFLINE_REPOSITORY: &str = "kindmesh.local/offline";

/// The name of the node image with these images in it that came in an archive: by their names alone, since an engine that
/// has none of them does not know their identities.
pub fn offline_name(node_image: &str, images: &[String]) -> String {
    let node_image = std::iter::once(format!("node {}", reference::tagged(node_image)));
    let names: Vec<String> =
        node_image.chain(images.iter().map(|image| reference::containerd_name(image))).collect();
    format!("{OFFLINE_REPOSITORY}:{}", digest(&names))
}

/// The node image with these images in it that came in an archive, where the engine has it and lacks any of those that
/// it was made of.
///
/// # Errors
/// The engine's.
pub async fn brought(engine: &Engine, node_image: &str, images: &[String]) -> anyhow::Result<Option<String>> {
    if name(engine, node_image, images).await.is_some() {
        return Ok(None);
    }
    let offline = offline_name(node_image, images);
    Ok(set(engine, &offline).await?.map(|_| offline))
}

/// The set that a baked node image was made for, as its label says; none for another image, and where there is none.
///
/// # Errors
/// The engine's.
pub async fn set(engine: &Engine, name: &str) -> anyhow::Result<Option<String>> {
    match engine.docker.inspect_image(name).await {
        Ok(found) => Ok(found.config.and_then(|config| config.labels).and_then(|mut labels| labels.remove(LABEL))),
        Err(error) if is_not_found(&error) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("looking for the image {name}")),
    }
}

/// What the archives that were loaded are for: each the node image, and the images in it, separated by commas.
///
/// # Errors
/// The engine's.
pub async fn archives(engine: &Engine) -> anyhow::Result<Vec<(String, String)>> {
    let filters = [("reference".to_owned(), vec![OFFLINE_REPOSITORY.to_owned()])].into();
    let options = ListImagesOptionsBuilder::default().filters(&filters).build();
    let images = engine.docker.list_images(Some(options)).await.context("listing the engine's images")?;
    let label = |image: &ImageSummary, key: &str| image.labels.get(key).cloned().unwrap_or_default();
    Ok(images.iter().map(|image| (label(image, FROM_LABEL), label(image, IMAGES_LABEL))).collect())
}

async fn inspect(engine: &Engine, name: &str) -> anyhow::Result<ImageInspect> {
    engine.docker.inspect_image(name).await.with_context(|| format!("looking at the image {name}"))
}

async fn digest_of(engine: &Engine, from: &ImageInspect, images: &[String]) -> anyhow::Result<String> {
    let identity = |image: &ImageInspect| image.id.clone().unwrap_or_default();
    let mut identities = vec![identity(from)];
    for image in images {
        let found = inspect(engine, image).await?;
        identities.push(format!("{} {}", reference::containerd_name(image), identity(&found)));
    }
    Ok(digest(&identities))
}

/// Of the node image's identity and, for each image, its name and identity, in any order.
fn digest(identities: &[String]) -> String {
    let mut sorted: Vec<&str> = identities.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    let mut digest = Sha256::new();
    digest.update(RECIPE);
    for identity in sorted {
        digest.update([0]);
        digest.update(identity);
    }
    digest::hex(&digest.finalize())[..12].to_owned()
}

/// The process that bakes in a container, if that is what the container is for.
pub fn baker(name: &str, label: &str) -> Option<u32> {
    name.rsplit('-').next().filter(|_| name == label)?.parse().ok()
}

/// Starts a container of the node image in which nothing runs yet. It is no kind node: those have an anonymous volume
/// on `/var`, and a commit leaves volumes out.
async fn create(engine: &Engine, node_image: &str, digest: &str) -> anyhow::Result<String> {
    let what = || format!("making a container of {node_image}");
    // The process in the name: another one may be baking the same set just now.
    let name = format!("kindmesh-bake-{digest}-{}", std::process::id());
    let options = CreateContainerOptionsBuilder::default().name(&name).build();
    let body = ContainerCreateBody {
        image: Some(node_image.to_owned()),
        entrypoint: Some(vec!["sleep".into()]),
        cmd: Some(vec![LIVES.into()]),
        labels: Some([(CONTAINER_LABEL.to_owned(), name.clone())].into()),
        host_config: Some(HostConfig {
            network_mode: Some("none".into()),
            auto_remove: Some(true),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    engine.docker.create_container(Some(options), body).await.with_context(what)?;
    engine.docker.start_container(&name, None).await.with_context(what)?;
    Ok(name)
}

/// Streams the images from the engine into the container's containerd.
async fn fill(engine: &Engine, container: &str, images: &[String]) -> anyhow::Result<()> {
    let names = image::travel_names(engine, images).await?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let tags = reference::names_by_digest(images);
    let mut command = vec!["sh", "-c", IMPORT, "sh"];
    command.extend(tags.iter().flat_map(|(has, wanted)| [has.as_str(), wanted.as_str()]));
    node::run_with_input(engine, container, &command, engine.docker.export_images(&names)).await?;
    Ok(())
}

/// Keeps the container as an image that starts the way the node image does.
async fn commit(
    engine: &Engine,
    container: &str,
    from: &ImageInspect,
    labels: &[(&str, String)],
    tag: &str,
) -> anyhow::Result<()> {
    let starts = from.config.clone().unwrap_or_default();
    let config = ContainerConfig {
        entrypoint: starts.entrypoint,
        cmd: starts.cmd,
        labels: Some(labels.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()),
        ..ContainerConfig::default()
    };
    let options = CommitContainerOptionsBuilder::default()
        .container(container)
        .repo(REPOSITORY)
        .tag(tag)
        .pause(false)
        .build();
    engine.docker.commit_container(options, config).await.context("keeping it as an image")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_container_called_as_its_label_says_is_a_bakes() {
        assert_eq!(baker("kindmesh-bake-0123-77", "kindmesh-bake-0123-77"), Some(77));
        assert_eq!(baker("shop-cluster1-control-plane", "kindmesh-bake-0123-77"), None);
        assert_eq!(baker("shop-cluster1-worker", ""), None);
        assert_eq!(baker("shop", "shop"), None);
    }

    #[test]
    fn the_name_of_what_came_in_an_archive_follows_the_names() {
        let name = |node: &str, images: &[&str]| {
            offline_name(node, &images.iter().map(|image| (*image).to_owned()).collect::<Vec<_>>())
        };
        let one = name("kindest/node:v1", &["docker.io/istio/pilot:1", "docker.io/istio/proxyv2:1"]);
        assert_eq!(one.strip_prefix("kindmesh.local/offline:").map(str::len), Some(12));
        assert_eq!(one, name("kindest/node:v1", &["istio/proxyv2:1", "istio/pilot:1"]));
        assert_ne!(one, name("kindest/node:v2", &["istio/pilot:1", "istio/proxyv2:1"]));
        assert_ne!(one, name("kindest/node:v1", &["istio/pilot:1"]));
        assert_ne!(name("a", &["b"]), name("b", &["a"]));
    }

    #[test]
    fn the_name_follows_the_set_and_not_its_order() {
        let ids = |ids: &[&str]| digest(&ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>());
        let one = ids(&["sha256:node", "a:1 sha256:x", "b:1 sha256:y"]);
        assert_eq!(one.len(), 12);
        assert_eq!(one, ids(&["sha256:node", "b:1 sha256:y", "a:1 sha256:x"]));
        for other in [
            ids(&["sha256:node2", "a:1 sha256:x", "b:1 sha256:y"]),
            ids(&["sha256:node", "a:2 sha256:x", "b:1 sha256:y"]),
            ids(&["sha256:node", "a:1 sha256:z", "b:1 sha256:y"]),
            ids(&["sha256:node", "a:1 sha256:x"]),
        ] {
            assert_ne!(one, other);
        }
    }
}
