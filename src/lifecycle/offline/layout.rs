//! The parts of an OCI image layout that an archive uses: descriptors, manifests and the index, as in the OCI
//! image specification 1.1.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::base::digest::hex;

/// Media types of the specification.
pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const IMAGE_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(super) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// The artifact next to the image: a manifest of this type, with a [`super::Contents`] as its configuration.
pub(super) const ARTIFACT: &str = "application/vnd.kindmesh.offline.v2";
pub(super) const CONTENTS: &str = "application/vnd.kindmesh.offline.config.v2+json";
/// A snapshot: a manifest of this type, with a [`super::snapshot::Contents`] as its configuration, and files as its layers.
pub(super) const SNAPSHOT: &str = "application/vnd.kindmesh.snapshot.v1";
pub(super) const SNAPSHOT_CONTENTS: &str = "application/vnd.kindmesh.snapshot.config.v1+json";
/// A file of the cache directory or a snapshot, with its path in [`TITLE`].
pub(super) const FILE: &str = "application/vnd.kindmesh.offline.file.v1";
pub(super) const TITLE: &str = "org.opencontainers.image.title";
/// The annotation with an image's name, as tools for OCI layouts read it.
pub(super) const REFERENCE: &str = "org.opencontainers.image.ref.name";

/// The files of a layout other than blobs.
pub(super) const VERSION_FILE: &str = "oci-layout";
pub(super) const VERSION: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
pub(super) const INDEX_FILE: &str = "index.json";
const BLOBS: &str = "blobs/sha256/";
const SHA256: &str = "sha256:";

/// Returns the digest of content: `sha256:` and 64 hexadecimal digits.
pub(super) fn digest(content: &[u8]) -> String {
    of_hex(&hex(&Sha256::digest(content)))
}

/// Returns the digest of a SHA-256 in hexadecimal.
pub(super) fn of_hex(sha256: &str) -> String {
    format!("{SHA256}{sha256}")
}

/// Returns the path of the blob with a digest.
pub(super) fn blob_path(digest: &str) -> String {
    format!("{BLOBS}{}", digest.trim_start_matches(SHA256))
}

/// Returns the digest of the blob at a path, if it is the path of a blob.
pub(super) fn blob_digest(path: &str) -> Option<String> {
    let name = path.strip_prefix(BLOBS)?;
    let is_sha256 = name.len() == 64 && name.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
    is_sha256.then(|| format!("{SHA256}{name}"))
}

/// Returns the media type of a layer, from its first bytes.
pub(super) fn layer_type(begins: &[u8]) -> String {
    let compression = match begins {
        [0x1f, 0x8b, ..] => "+gzip",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "+zstd",
        _ => "",
    };
    format!("{LAYER}{compression}")
}

/// A reference to a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub media_type: String,
    pub digest: String,
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    pub(super) fn new(media_type: impl Into<String>, digest: impl Into<String>, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest: digest.into(),
            size,
            artifact_type: None,
            platform: None,
            annotations: BTreeMap::new(),
        }
    }

    pub(super) fn of(media_type: &str, content: &[u8]) -> Self {
        Self::new(media_type, digest(content), content.len() as u64)
    }

    pub(super) fn annotated(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.to_owned(), value.to_owned());
        self
    }
}

/// The platform of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Platform {
    pub architecture: String,
    pub os: String,
}

/// A manifest of an image or an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    pub schema_version: u8,
    pub media_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
}

impl Manifest {
    pub(super) fn new(artifact_type: Option<&str>, config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: MANIFEST.into(),
            artifact_type: artifact_type.map(str::to_owned),
            config,
            layers,
        }
    }

    pub(super) fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        std::iter::once(&self.config).chain(&self.layers)
    }
}

/// The index of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Index {
    pub schema_version: u8,
    pub media_type: String,
    pub manifests: Vec<Descriptor>,
}

impl Index {
    pub(super) fn new(manifests: Vec<Descriptor>) -> Self {
        Self { schema_version: 2, media_type: INDEX.into(), manifests }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blob_paths_follow_digests() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(digest(b""), empty);
        assert_eq!(blob_digest(&blob_path(empty)).as_deref(), Some(empty));
        for other in ["blobs/sha256/", "blobs/sha256/../../x", "blobs/sha512/00", "index.json"] {
            assert_eq!(blob_digest(other), None, "{other}");
        }
    }

    #[test]
    fn layer_type_follows_its_first_bytes() {
        assert_eq!(layer_type(&[0x1f, 0x8b, 8]), format!("{LAYER}+gzip"));
        assert_eq!(layer_type(&[0x28, 0xb5, 0x2f, 0xfd]), format!("{LAYER}+zstd"));
        assert_eq!(layer_type(b"etc/"), LAYER);
        assert_eq!(layer_type(b""), LAYER);
    }

    #[test]
    fn missing_evidence_is_omitted() {
        let manifest = Manifest::new(None, Descriptor::of(IMAGE_CONFIG, b"{}"), Vec::new());
        let text = serde_json::to_string(&manifest).unwrap();
        assert!(!text.contains("null") && !text.contains("annotations"), "{text}");
        assert_eq!(serde_json::from_str::<Manifest>(&text).unwrap(), manifest);
    }
}
