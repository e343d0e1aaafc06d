//! The images of an environment. This module decides every image name.
//!
//! | image | its name depends on |
//! |---|---|
//! | the node image | the spec |
//! | those of Istio (`istio`) | the input for istioctl: the spec's hub, the cluster's Istio version, and `mesh.values` |
//! | the sample image | the spec, or if kindmesh builds it, the executable |
//! | the built node image | the ids that the engine assigns to its images |
//! | the node image of an archive | the names of its images, since an engine without those images has no ids for them |
//!
//! The plan contains the first three. Clusters with the same node image have the same built one, with the images that any of them
//! needs. The built node image can be named only when the engine has the images in it.

use sha2::{Digest, Sha256};

use super::inventory::{EngineFacts, Executable};
use super::{Cluster, KindCluster, Plan};
use crate::base::digest;
use crate::base::error::Error;
use crate::spec::{Spec, distinct};

pub(super) mod istio;
pub mod reference;

/// The repository of the sample image that kindmesh builds; never pulled, so the host does not exist.
const SAMPLE_REPOSITORY: &str = "kindmesh.local/sample";
/// The repository of built node images; never pulled, so the host does not exist.
pub const BAKED_REPOSITORY: &str = "kindmesh.local/node";
/// The repository of node images from an archive; never pulled, so the host does not exist.
pub const ARCHIVE_REPOSITORY: &str = "kindmesh.local/offline";

/// The version of the build procedure. It is part of the digest, so that images built differently have other names.
const RECIPE: &str = "2";

impl Plan {
    /// Returns the node images, each once.
    pub fn node_images(&self) -> Vec<&str> {
        distinct(self.kind_clusters().map(|(_, kind)| kind.node_image.as_str()))
    }

    /// Returns the versions of Istio, each once.
    pub fn istio_versions(&self) -> Vec<&str> {
        distinct(self.clusters.iter().map(|cluster| cluster.istio_version.as_str()))
    }

    /// Returns the images that clusters with this node image need and that do not depend on the kindmesh executable: all except
    /// a sample image that kindmesh builds, which changes with every build of kindmesh.
    pub fn stable_images_on(&self, node_image: &str) -> Vec<String> {
        self.stable_images_of(|kind| kind.node_image == node_image)
    }

    /// Returns all images of clusters that kind creates that do not depend on the kindmesh executable.
    pub fn stable_images(&self) -> Vec<String> {
        self.stable_images_of(|_| true)
    }

    fn stable_images_of(&self, wanted: impl Fn(&KindCluster) -> bool) -> Vec<String> {
        let of_clusters = self.kind_clusters().filter(|(_, kind)| wanted(kind)).map(|(cluster, _)| cluster);
        let given = self.samples.iter().filter(|samples| !samples.build).map(|samples| &samples.image);
        let all = of_clusters.flat_map(|cluster| &cluster.istio_images).chain(given);
        distinct(all.map(String::as_str)).into_iter().map(str::to_owned).collect()
    }

    /// Returns every image that the nodes of a cluster need besides those of Kubernetes.
    pub fn images_of<'a>(&'a self, cluster: &'a Cluster) -> Vec<&'a str> {
        let samples = self.samples.iter().map(|samples| &samples.image);
        cluster.istio_images.iter().chain(samples).map(String::as_str).collect()
    }

    /// Returns every image that any node needs besides those of Kubernetes.
    pub fn images(&self) -> Vec<&str> {
        distinct(
            self.clusters
                .iter()
                .flat_map(|cluster| &cluster.istio_images)
                .map(String::as_str)
                .chain(self.samples.iter().map(|samples| samples.image.as_str())),
        )
    }

    /// Returns the images that the engine needs before nodes can be created, the node images first.
    pub fn pulled_images(&self) -> Vec<String> {
        self.node_images().into_iter().map(str::to_owned).chain(self.stable_images()).collect()
    }

    /// Returns the name of a node image with its stable images as loaded from an archive.
    pub fn archive_image(&self, node_image: &str) -> String {
        of_archive(node_image, &self.stable_images_on(node_image))
    }
}

/// Returns the sample image of a spec, and whether kindmesh builds it.
///
/// # Errors
/// A missing prerequisite if it must be built and cannot be.
pub(super) fn sample(
    spec: &Spec,
    executable: Option<&Executable>,
    engine: &EngineFacts,
) -> Result<(String, bool), Error> {
    if !spec.samples.image.is_empty() {
        return Ok((spec.samples.image.clone(), false));
    }
    let executable = executable.ok_or_else(|| {
        Error::prerequisite("cannot build the sample image: kindmesh executable not found")
            .hint("set KINDMESH_EXE to its path, or samples.image to an existing image")
    })?;
    if (&engine.os, &engine.architecture) != (&executable.os, &executable.architecture) {
        return Err(Error::prerequisite(format!(
            "cannot build the sample image: kindmesh is {}/{}, the engine is {}/{}",
            executable.os, executable.architecture, engine.os, engine.architecture
        ))
        .hint("set samples.image to the image published with the release"));
    }
    Ok((built_of(executable), true))
}

/// Returns the sample image built from an executable.
pub fn built_of(executable: &Executable) -> String {
    format!("{SAMPLE_REPOSITORY}:{}", executable.digest)
}

/// Returns the digest of a set of images for a node: of the node image's id, and of the name and id of each image, in any
/// order.
pub fn set_of(node_image: &str, images: &[(String, String)]) -> String {
    let images = images.iter().map(|(name, identity)| format!("{} {identity}", reference::containerd_name(name)));
    digest(std::iter::once(node_image.to_owned()).chain(images))
}

/// Returns the name of the built node image for a set of images.
pub fn baked(set: &str) -> String {
    format!("{BAKED_REPOSITORY}:{set}")
}

/// Whether a node image was built by kindmesh, here or on the host that an archive comes from.
pub fn is_built(node_image: &str) -> bool {
    let of = |repository: &str| node_image.strip_prefix(repository).is_some_and(|tag| tag.starts_with(':'));
    of(BAKED_REPOSITORY) || of(ARCHIVE_REPOSITORY)
}

/// Returns the name of the node image with these images as loaded from an archive. It depends on their names alone.
pub fn of_archive(node_image: &str, images: &[String]) -> String {
    let node_image = format!("node {}", reference::tagged(node_image));
    let images = images.iter().map(|image| reference::containerd_name(image));
    format!("{ARCHIVE_REPOSITORY}:{}", digest(std::iter::once(node_image).chain(images)))
}

/// Returns the first 12 hexadecimal digits of the SHA-256 of some lines, in any order.
fn digest(lines: impl Iterator<Item = String>) -> String {
    let mut sorted: Vec<String> = lines.collect();
    sorted.sort_unstable();
    let mut digest = Sha256::new();
    digest.update(RECIPE);
    for line in sorted {
        digest.update([0]);
        digest.update(line);
    }
    digest::hex(&digest.finalize())[..12].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archive_image_name_depends_on_image_names() {
        let name = |node: &str, images: &[&str]| {
            of_archive(node, &images.iter().map(|image| (*image).to_owned()).collect::<Vec<_>>())
        };
        let one = name("kindest/node:v1", &["docker.io/istio/pilot:1", "docker.io/istio/proxyv2:1"]);
        assert_eq!(one.strip_prefix("kindmesh.local/offline:").map(str::len), Some(12));
        assert_eq!(one, name("kindest/node:v1", &["istio/proxyv2:1", "istio/pilot:1"]));
        assert_ne!(one, name("kindest/node:v2", &["istio/pilot:1", "istio/proxyv2:1"]));
        assert_ne!(one, name("kindest/node:v1", &["istio/pilot:1"]));
        assert_ne!(name("a", &["b"]), name("b", &["a"]));
    }

    #[test]
    fn built_image_name_ignores_order() {
        let set = |node: &str, images: &[(&str, &str)]| {
            let owned = images.iter().map(|(name, identity)| ((*name).to_owned(), (*identity).to_owned()));
            set_of(node, &owned.collect::<Vec<_>>())
        };
        let one = set("sha256:node", &[("a:1", "sha256:x"), ("b:1", "sha256:y")]);
        assert_eq!(one.len(), 12);
        assert_eq!(baked(&one), format!("kindmesh.local/node:{one}"));
        assert_eq!(one, set("sha256:node", &[("b:1", "sha256:y"), ("docker.io/library/a:1", "sha256:x")]));
        for other in [
            set("sha256:node2", &[("a:1", "sha256:x"), ("b:1", "sha256:y")]),
            set("sha256:node", &[("a:2", "sha256:x"), ("b:1", "sha256:y")]),
            set("sha256:node", &[("a:1", "sha256:z"), ("b:1", "sha256:y")]),
            set("sha256:node", &[("a:1", "sha256:x")]),
        ] {
            assert_ne!(one, other);
        }
    }

    /// Archives and built node images of released versions are found by these names.
    #[test]
    fn names_are_stable_across_versions() {
        let images = ["docker.io/istio/pilot:1.31.1".to_owned()];
        assert_eq!(of_archive("kindest/node:v1.36.4", &images), "kindmesh.local/offline:9d6e1574da20");
        assert_eq!(set_of("sha256:a", &[(images[0].clone(), "sha256:b".into())]), "44e6359fe453");
    }
}
