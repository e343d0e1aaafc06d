//! The built node image: kind's node image with the images that every node needs in its containerd. It is built
//! once for a set of images. Clusters that start from it need no images loaded into their nodes.

use anyhow::Context;
use bollard::models::{ContainerConfig, ContainerCreateBody, HostConfig, ImageInspect, ImageSummary};
use bollard::query_parameters::{
    CommitContainerOptionsBuilder, CreateContainerOptionsBuilder, ListImagesOptionsBuilder,
};

use super::node::{self, NodeFile};
use super::{Engine, image, is_not_found};
use crate::base::event::{Outcome, Step};
use crate::plan::image_names::{self, reference};

/// The label of every built node image, with the digest of its set.
pub const LABEL: &str = "kindmesh.node";
/// The label with the node image that it was built from, as in the spec.
pub const FROM_LABEL: &str = "kindmesh.node.from";
/// The label with the included images, separated by commas.
pub const IMAGES_LABEL: &str = "kindmesh.node.images";
/// The label of a build container, with the container's own name. Its image and the nodes created from that image
/// inherit the label, but have other names.
pub const CONTAINER_LABEL: &str = "kindmesh.bake";

/// The lifetime of a build container, in seconds. Then the engine removes it, even if kindmesh was killed.
const LIVES: &str = "600";

/// Changes to the manifests of a control plane, which kubeadm reads from the directory that `kind-configs/patches.yaml` names.
const PATCHES: [(&str, &str); 3] = [
    ("/kind/kindmesh-patches/etcd.yaml", include_str!("../../../kind-configs/patches/etcd.yaml")),
    (
        "/kind/kindmesh-patches/kube-apiserver.yaml",
        include_str!("../../../kind-configs/patches/kube-apiserver.yaml"),
    ),
    (
        "/kind/kindmesh-patches/kube-scheduler.yaml",
        include_str!("../../../kind-configs/patches/kube-scheduler.yaml"),
    ),
];

/// Runs only containerd, imports standard input and stops containerd, so that its database is complete. Images are
/// not unpacked, as when kind preloads images: unpacking requires a file system that supports overlayfs, so a volume,
/// and the image would not include the volume. Kubernetes unpacks an image when its first pod starts.
const IMPORT: &str = r#"
set -eu
log=/tmp/kindmesh-containerd.log
containerd </dev/null >$log 2>&1 &
daemon=$!
tries=0
until ctr version </dev/null >/dev/null 2>&1; do
  tries=$((tries + 1))
  if [ $tries -gt 300 ] || ! kill -0 $daemon 2>/dev/null; then
    echo "containerd does not respond:" >&2
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

/// Ensures that the engine has the node image with these images; returns its name. The engine must have all of
/// them. The name depends only on their identities and names, so an existing image is up to date.
///
/// # Errors
/// Errors of the engine, or of containerd with its message.
pub async fn ensure(
    engine: &Engine,
    node_image: &str,
    wanted: &[String],
    step: &Step,
) -> anyhow::Result<Outcome<String>> {
    let from = inspect(engine, node_image).await?;
    let digest = set_in(engine, &from, wanted).await?;
    let name = image_names::baked(&digest);
    match engine.docker.inspect_image(&name).await {
        Ok(_) => return Ok(Outcome::unchanged(name)),
        Err(error) if is_not_found(&error) => {}
        Err(error) => return Err(error).with_context(|| format!("looking for the image {name}")),
    }
    step.waiting("the node image", &format!("adding {} to {node_image}", wanted.join(", ")));
    let container = create(engine, node_image, &digest).await?;
    let baked = async {
        fill(engine, &container, wanted).await?;
        let labels = [(LABEL, digest.clone()), (FROM_LABEL, node_image.into()), (IMAGES_LABEL, wanted.join(","))];
        commit(engine, &container, &from, &labels, &digest).await
    };
    let baked = baked.await;
    let removed = node::remove(engine, &container).await;
    baked.with_context(|| format!("building a node image from {node_image} with {}", wanted.join(", ")))?;
    removed?;
    Ok(Outcome::changed(name))
}

/// Returns the name of the node image with these images, whether or not it was built; none if the engine lacks one
/// of them.
pub async fn name(engine: &Engine, node_image: &str, wanted: &[String]) -> Option<String> {
    let from = inspect(engine, node_image).await.ok()?;
    Some(image_names::baked(&set_in(engine, &from, wanted).await.ok()?))
}

/// Returns the node image with these images from an archive, if the engine has it and lacks any of its source
/// images.
///
/// # Errors
/// The engine's errors.
pub async fn from_archive(engine: &Engine, node_image: &str, wanted: &[String]) -> anyhow::Result<Option<String>> {
    if name(engine, node_image, wanted).await.is_some() {
        return Ok(None);
    }
    let brought = image_names::of_archive(node_image, wanted);
    Ok(set(engine, &brought).await?.map(|_| brought))
}

/// Returns the digest of a built node image's set, from its label; none for another image or a missing one.
///
/// # Errors
/// The engine's errors.
pub async fn set(engine: &Engine, name: &str) -> anyhow::Result<Option<String>> {
    match engine.docker.inspect_image(name).await {
        Ok(found) => Ok(found.config.and_then(|config| config.labels).and_then(|mut labels| labels.remove(LABEL))),
        Err(error) if is_not_found(&error) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("looking for the image {name}")),
    }
}

/// Returns the source node image of each loaded archive, with its included images, separated by commas.
///
/// # Errors
/// The engine's errors.
pub async fn archives(engine: &Engine) -> anyhow::Result<Vec<(String, String)>> {
    let filters = [("reference".to_owned(), vec![image_names::ARCHIVE_REPOSITORY.to_owned()])].into();
    let options = ListImagesOptionsBuilder::default().filters(&filters).build();
    let images = engine.docker.list_images(Some(options)).await.context("listing the engine's images")?;
    let label = |image: &ImageSummary, key: &str| image.labels.get(key).cloned().unwrap_or_default();
    Ok(images.iter().map(|image| (label(image, FROM_LABEL), label(image, IMAGES_LABEL))).collect())
}

async fn inspect(engine: &Engine, name: &str) -> anyhow::Result<ImageInspect> {
    engine.docker.inspect_image(name).await.with_context(|| format!("inspecting the image {name}"))
}

/// Returns the digest of the set: see [`images::set_of`].
async fn set_in(engine: &Engine, from: &ImageInspect, wanted: &[String]) -> anyhow::Result<String> {
    let identity = |image: &ImageInspect| image.id.clone().unwrap_or_default();
    let mut identities = Vec::new();
    for image in wanted {
        identities.push((image.clone(), identity(&inspect(engine, image).await?)));
    }
    Ok(image_names::set_of(&identity(from), &identities))
}

/// Returns the ID of the process that builds in a container; none if it is not a build container.
pub fn baker(name: &str, label: &str) -> Option<u32> {
    name.rsplit('-').next().filter(|_| name == label)?.parse().ok()
}

/// Starts an idle container of the node image. It is not a kind node: those have an anonymous
/// volume on `/var`, and a commit excludes volumes.
async fn create(engine: &Engine, node_image: &str, digest: &str) -> anyhow::Result<String> {
    let what = || format!("creating a container of {node_image}");
    // With the process ID: another process may be building the same set.
    let name = format!("kindmesh-bake-{digest}-{}", std::process::id());
    let options = CreateContainerOptionsBuilder::default().name(&name).build();
    engine.docker.create_container(Some(options), body(node_image, &name)).await.with_context(what)?;
    engine.docker.start_container(&name, None).await.with_context(what)?;
    Ok(name)
}

fn body(node_image: &str, name: &str) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(node_image.to_owned()),
        entrypoint: Some(vec!["sleep".into()]),
        cmd: Some(vec![LIVES.into()]),
        labels: Some([(CONTAINER_LABEL.to_owned(), name.to_owned())].into()),
        host_config: Some(HostConfig {
            network_mode: Some("none".into()),
            // As kind's nodes: with userns-remap, their files would have other owners.
            userns_mode: Some("host".into()),
            auto_remove: Some(true),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

/// Streams the images from the engine into the container's containerd, and copies the changes to manifests.
async fn fill(engine: &Engine, container: &str, wanted: &[String]) -> anyhow::Result<()> {
    let names = image::travel_names(engine, wanted).await?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let tags = reference::names_by_digest(wanted);
    let mut command = vec!["sh", "-c", IMPORT, "sh"];
    command.extend(tags.iter().flat_map(|(has, wanted)| [has.as_str(), wanted.as_str()]));
    node::run_with_input(engine, container, &command, engine.docker.export_images(&names)).await?;
    let patches = PATCHES.map(|(path, content)| NodeFile { path, content: content.into(), mode: 0o644 });
    node::copy_files(engine, container, &patches).await
}

/// Commits the container as an image that starts like the node image.
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
        .repo(image_names::BAKED_REPOSITORY)
        .tag(tag)
        .pause(false)
        .build();
    engine.docker.commit_container(options, config).await.context("committing the container as an image")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn build_container_has_the_users_of_kinds_nodes() {
        // kind#124
        let host = body("node:1", "kindmesh-bake-0123-77").host_config.unwrap();
        assert_eq!(host.userns_mode.as_deref(), Some("host"));
    }

    #[test]
    fn build_container_requires_matching_name_and_label() {
        assert_eq!(baker("kindmesh-bake-0123-77", "kindmesh-bake-0123-77"), Some(77));
        assert_eq!(baker("shop-cluster1-control-plane", "kindmesh-bake-0123-77"), None);
        assert_eq!(baker("shop-cluster1-worker", ""), None);
        assert_eq!(baker("shop", "shop"), None);
    }
}
