//! Versions of Kubernetes and Istio, and which combinations are supported.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// A version: `MAJOR.MINOR.PATCH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The major version.
    pub major: u32,
    /// The minor version.
    pub minor: u32,
    /// The patch version.
    pub patch: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| {
            let canonical = part == "0" || !part.starts_with('0');
            let digits = part.chars().all(|c| c.is_ascii_digit());
            (canonical && digits).then(|| part.parse().ok()).flatten()
        };
        match text.split('.').map(number).collect::<Option<Vec<u32>>>().as_deref() {
            Some(&[major, minor, patch]) => Ok(Self { major, minor, patch }),
            _ => Err(format!("{text:?} is not a MAJOR.MINOR.PATCH version such as 1.31.1")),
        }
    }
}

/// The supported minor versions of Istio, newest first, each with its lowest patch version and its supported Kubernetes minor
/// versions. Below 1.30.4, istiod may lose gateways or endpoints when a remote secret changes (istio#60612, #60920, #61043).
///
/// From <https://istio.io/latest/docs/releases/supported-releases/>, "Support status of Istio releases", and
/// the announcement of 1.30.0 ("1.32 to 1.36"); 1.31: 1.32 to 1.36. 1.29 ended on 2026-10-15.
const SUPPORTED: [(u32, u32, RangeInclusive<u32>); 2] = [(31, 0, 32..=36), (30, 4, 32..=36)];

/// Returns the Kubernetes minor versions that a version of Istio supports; `None` if that Istio is not supported.
pub fn kubernetes_minors(istio: Version) -> Option<RangeInclusive<u32>> {
    let is =
        |(minor, patch, _): &(u32, u32, _)| istio.major == 1 && istio.minor == *minor && istio.patch >= *patch;
    SUPPORTED.into_iter().find(is).map(|(_, _, kubernetes)| kubernetes)
}

/// Returns two versions of Istio that may not be in one mesh, the older one first: their minor versions differ by more than
/// one. Istio supports one minor version between control plane and proxies, and during an upgrade of a mesh its control planes
/// differ by as much: <https://istio.io/latest/docs/releases/supported-releases/>, "Control Plane/Data Plane Skew".
pub fn skew(versions: impl IntoIterator<Item = Version> + Clone) -> Option<(Version, Version)> {
    let oldest = versions.clone().into_iter().min()?;
    let newest = versions.into_iter().max()?;
    let apart = oldest.major != newest.major || newest.minor - oldest.minor > 1;
    apart.then_some((oldest, newest))
}

/// The node images in kind v0.33.0's release notes that a supported Istio version supports, newest first.
const NODE_IMAGES: [(u32, &str); 3] = [
    (36, super::DEFAULT_NODE_IMAGE),
    (35, "kindest/node:v1.35.8@sha256:07b2536e30b803ed61d1677a79df6115f798ce64c80f9e22f6ed45afd09323c0"),
    (34, "kindest/node:v1.34.11@sha256:44e222ee2132dab25ff87301682f89eb82c7880ea3a1bf543bfe9708fd08d67d"),
];

/// Returns the newest known node image with one of these Kubernetes minor versions.
pub fn known_node_image(minors: &RangeInclusive<u32>) -> Option<&'static str> {
    NODE_IMAGES.iter().find(|(minor, _)| minors.contains(minor)).map(|(_, image)| *image)
}

/// Returns the supported versions of Istio as text: `1.31, 1.30 from 1.30.4`.
pub fn supported_istio() -> String {
    let text = |(minor, patch, _): &(u32, u32, _)| match patch {
        0 => format!("1.{minor}"),
        _ => format!("1.{minor} from 1.{minor}.{patch}"),
    };
    SUPPORTED.iter().map(text).collect::<Vec<_>>().join(", ")
}

/// Returns the Kubernetes version in a node image's tag: that of `kindest/node:v1.36.4@sha256:…` is 1.36.4.
///
/// `None` if the tag is not a version, or there is no tag.
pub fn kubernetes_version(node_image: &str) -> Option<Version> {
    let name = node_image.split_once('@').map_or(node_image, |(name, _)| name);
    // A colon before the last slash belongs to the registry's port.
    let last = name.rsplit('/').next()?;
    let (_, tag) = last.split_once(':')?;
    let version = tag.strip_prefix('v').unwrap_or(tag);
    version.split(['-', '_', '+']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_tag_is_the_version() {
        let of = |image: &str| kubernetes_version(image).map(|version| version.to_string());
        assert_eq!(of("kindest/node:v1.36.4@sha256:0123").as_deref(), Some("1.36.4"));
        assert_eq!(of("localhost:5000/kindest/node:v1.35.0").as_deref(), Some("1.35.0"));
        assert_eq!(of("node:1.34.11").as_deref(), Some("1.34.11"));
        assert_eq!(of("node:v1.37.0-rc.1").as_deref(), Some("1.37.0"));
        assert_eq!(of("localhost:5000/node"), None);
        assert_eq!(of("node:latest"), None);
        assert_eq!(of("node:v1.36"), None);
        assert_eq!(of("node@sha256:0123"), None);
        assert_eq!(of(super::super::DEFAULT_NODE_IMAGE).as_deref(), Some("1.36.4"));
    }

    #[test]
    fn minor_versions_may_differ_by_one() {
        let skew = |versions: &[&str]| {
            let versions: Vec<Version> = versions.iter().map(|version| version.parse().unwrap()).collect();
            skew(versions).map(|(old, new)| format!("{old} {new}"))
        };
        assert_eq!(skew(&[]), None);
        assert_eq!(skew(&["1.31.1", "1.30.4", "1.31.0"]), None);
        assert_eq!(skew(&["1.31.1", "1.29.9", "1.30.4"]).as_deref(), Some("1.29.9 1.31.1"));
        assert_eq!(skew(&["2.30.0", "1.30.4"]).as_deref(), Some("1.30.4 2.30.0"));
    }

    #[test]
    fn a_version_is_three_plain_numbers() {
        for wrong in ["", "1", "1.31", "v1.31.1", "1.31.1.0", "1.31.x", "1.31.1-rc.1", "1.031.1", "1..1", "+1.3.1"]
        {
            assert!(wrong.parse::<Version>().is_err(), "{wrong}");
        }
        assert!("1.31.0".parse::<Version>().is_ok());
    }
}
