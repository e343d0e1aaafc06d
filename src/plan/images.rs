//! Which images an environment runs: every name of an image is decided here.
//!
//! | image | its name follows from |
//! |---|---|
//! | the node image | the spec |
//! | `pilot`, `proxyv2` | the spec's hub and Istio version |
//! | the sample image | the spec; one that is built here: the executable |
//! | the baked node image | the identities that the engine gives to what is in it |
//! | the node image of an archive | the names of what is in it, since an engine without them knows no identities |
//!
//! The plan has the first three. What a node starts from can be told only when the engine has what is baked into it.

use sha2::{Digest, Sha256};

use super::Plan;
use super::inventory::{EngineFacts, Executable};
use crate::base::digest;
use crate::base::error::Error;
use crate::spec::Spec;

pub mod reference;

/// The repository of the sample image that is built here; never pulled, so the name resolves nowhere.
const SAMPLE_REPOSITORY: &str = "kindmesh.local/sample";
/// The repository of baked node images; never pulled, so the name resolves nowhere.
pub const BAKED_REPOSITORY: &str = "kindmesh.local/node";
/// The repository of node images that came in an archive; never pulled, so the name resolves nowhere.
pub const ARCHIVE_REPOSITORY: &str = "kindmesh.local/offline";

/// How baking is done: counts into the digest, so that images baked another way are not taken for these.
const RECIPE: &str = "1";

impl Plan {
    /// The images that every environment like this one needs, whatever kindmesh it is made by: all but the sample
    /// image that is built here, which is another one after every build.
    pub fn stable_images(&self) -> Vec<String> {
        let given = self.samples.iter().filter(|samples| !samples.build).map(|samples| &samples.image);
        self.mesh.images.iter().chain(given).cloned().collect()
    }

    /// Every image that the nodes need beside Kubernetes' own.
    pub fn images(&self) -> Vec<&str> {
        let samples = self.samples.iter().map(|samples| samples.image.as_str());
        self.mesh.images.iter().map(String::as_str).chain(samples).collect()
    }

    /// What the engine has to have before nodes can be made: the node image first.
    pub fn pulled_images(&self) -> Vec<String> {
        std::iter::once(self.kubernetes.node_image.clone()).chain(self.stable_images()).collect()
    }

    /// The name that the node image with all stable images in it has when it came in an archive.
    pub fn archive_image(&self) -> String {
        of_archive(&self.kubernetes.node_image, &self.stable_images())
    }
}

/// Istio's images.
pub(super) fn mesh(spec: &Spec) -> Vec<String> {
    let mesh = &spec.mesh;
    ["pilot", "proxyv2"].map(|image| format!("{}/{image}:{}", mesh.hub, mesh.version)).to_vec()
}

/// The sample image of a spec, and whether it is built here.
///
/// # Errors
/// A missing prerequisite when it is to be built and cannot be.
pub(super) fn sample(
    spec: &Spec,
    executable: Option<&Executable>,
    engine: &EngineFacts,
) -> Result<(String, bool), Error> {
    if !spec.samples.image.is_empty() {
        return Ok((spec.samples.image.clone(), false));
    }
    let executable = executable.ok_or_else(|| {
        Error::prerequisite("the sample image cannot be built here: there is no kindmesh executable")
            .hint("name one with KINDMESH_EXE, or an image with samples.image")
    })?;
    if (&engine.os, &engine.architecture) != (&executable.os, &executable.architecture) {
        return Err(Error::prerequisite(format!(
            "the sample image cannot be built here: kindmesh is {}/{}, the engine {}/{}",
            executable.os, executable.architecture, engine.os, engine.architecture
        ))
        .hint("name the image published with the release in samples.image"));
    }
    Ok((built_of(executable), true))
}

/// The sample image that is built of an executable.
pub fn built_of(executable: &Executable) -> String {
    format!("{SAMPLE_REPOSITORY}:{}", executable.digest)
}

/// The digest of a set of images for a node: of the node image's identity, and of the name and identity of each image,
/// in any order.
pub fn set_of(node_image: &str, images: &[(String, String)]) -> String {
    let images = images.iter().map(|(name, identity)| format!("{} {identity}", reference::containerd_name(name)));
    digest(std::iter::once(node_image.to_owned()).chain(images))
}

/// The node image that is baked for a set of images.
pub fn baked(set: &str) -> String {
    format!("{BAKED_REPOSITORY}:{set}")
}

/// The node image with these images in it that came in an archive, by their names alone.
pub fn of_archive(node_image: &str, images: &[String]) -> String {
    let node_image = format!("node {}", reference::tagged(node_image));
    let images = images.iter().map(|image| reference::containerd_name(image));
    format!("{ARCHIVE_REPOSITORY}:{}", digest(std::iter::once(node_image).chain(images)))
}

/// The beginning of the SHA-256 of some lines, in any order: 12 hexadecimal digits.
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
    fn the_name_of_what_came_in_an_archive_follows_the_names() {
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
    fn the_name_follows_the_set_and_not_its_order() {
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

    /// Archives and baked images of released versions are found by these.
    #[test]
    fn names_stay_from_version_to_version() {
        let images = ["docker.io/istio/pilot:1.31.1".to_owned()];
        assert_eq!(of_archive("kindest/node:v1.36.4", &images), "kindmesh.local/offline:b9e29d5772e8");
        assert_eq!(set_of("sha256:a", &[(images[0].clone(), "sha256:b".into())]), "edae001f2fd0");
    }
}
