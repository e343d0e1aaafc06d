//! The publishers' names of releases, and their known checksums.

use std::{
    env, fmt,
    path::{Path, PathBuf},
};

use super::Tool;
use crate::base::error::Error;

/// The server of both publishers' releases.
pub(super) const GITHUB: &str = "https://github.com";

/// Tool, version, platform, and the SHA-256 of the published file: for istioctl that of the archive.
///
/// Their sources, since no download was possible when they were added (2026-11-23): kind's four are in several
/// independent public projects that pin the release; istioctl's two are each in the record of one public project
/// that had compared its download with the publisher's checksum file. A file must match both the value here and
/// the publisher's, so a wrong value can only cause a rejection.
const KNOWN: [(Tool, &str, &str, &str); 6] = [
    (Tool::Kind, "v0.33.0", "linux-amd64", "aee6151561422756b764a4ae28e7f44cda5af5a9eead3cc9985112b1de8d8e0d"),
    (Tool::Kind, "v0.33.0", "linux-arm64", "20022bee6cfcd5086cb7234d218e3454e6090022f2a8f55d1fa7fcf42c3867a2"),
    (Tool::Kind, "v0.33.0", "darwin-amd64", "5a99f26f57246dc9319dd294803313197a0f34d33c525b3ea8b655db5916ece0"),
    (Tool::Kind, "v0.33.0", "darwin-arm64", "0c8c7dbe5e23594a198b786c4bc13dacc101fa6196b0cb0b23a1ca44e61f4b4f"),
    (Tool::Istioctl, "1.31.1", "linux-amd64", "a44563904f22f2a8bf6ac4fff1b0bad9f718587c2be6aa807b83fe9049910639"),
    (Tool::Istioctl, "1.31.1", "darwin-arm64", "3f37edda91e51a5948d688681c9db64971ee3abb38cda65d797dec51f46fecd1"),
];

/// The operating system and the CPU architecture, as Rust names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Platform {
    pub(super) os: String,
    pub(super) arch: String,
}

impl Platform {
    /// Returns the platform of this host.
    pub(super) fn here() -> Self {
        Self { os: env::consts::OS.into(), arch: env::consts::ARCH.into() }
    }

    fn os(&self) -> &str {
        if self.os == "macos" { "darwin" } else { &self.os }
    }

    fn arch(&self) -> &str {
        match self.arch.as_str() {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        }
    }
}

impl fmt::Display for Platform {
    /// Writes Go's name of the platform, which both publishers use.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.os(), self.arch())
    }
}

/// A version of a tool for a platform, and where it is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Release {
    pub(super) tool: Tool,
    /// As the publisher writes it: kind's with a `v`, Istio's without.
    pub(super) version: String,
    /// The name of the published file.
    pub(super) asset: String,
    pub(super) url: String,
    /// The URL of its SHA-256.
    pub(super) checksum_url: String,
    /// Its SHA-256 in lower-case hexadecimal, if it is pinned.
    pub(super) known: Option<String>,
    platform: Platform,
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.tool, self.version)
    }
}

impl Release {
    pub(super) fn new(tool: Tool, version: &str, platform: &Platform, base: &str) -> anyhow::Result<Self> {
        let number = version.strip_prefix('v').unwrap_or(version);
        // It becomes part of paths and of a URL.
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-+".contains(c);
        if !number.starts_with(|c: char| c.is_ascii_digit()) || !number.chars().all(plain) {
            return Err(Error::usage(format!("{version:?} is not a version of {tool}")).into());
        }
        let (version, asset, url) = match tool {
            Tool::Kind => {
                let (version, asset) = (format!("v{number}"), format!("kind-{platform}"));
                let url = format!("{base}/kubernetes-sigs/kind/releases/download/{version}/{asset}");
                (version, asset, url)
            }
            Tool::Istioctl => {
                let os = if platform.os() == "darwin" { "osx" } else { platform.os() };
                let asset = format!("istioctl-{number}-{os}-{}.tar.gz", platform.arch());
                let url = format!("{base}/istio/istio/releases/download/{number}/{asset}");
                (number.to_owned(), asset, url)
            }
        };
        let checksum_url = match tool {
            Tool::Kind => format!("{url}.sha256sum"),
            Tool::Istioctl => format!("{url}.sha256"),
        };
        let here = platform.to_string();
        let known = KNOWN
            .iter()
            .find(|(of, at, on, _)| (*of, *at, *on) == (tool, version.as_str(), here.as_str()))
            .map(|(.., sha256)| (*sha256).to_owned());
        Ok(Self { tool, version, asset, url, checksum_url, known, platform: platform.clone() })
    }

    /// Whether an executable that reports `version` is this one.
    pub(super) fn is(&self, version: &str) -> bool {
        let number = |text: &str| text.strip_prefix('v').unwrap_or(text).to_owned();
        number(version) == number(&self.version)
    }

    /// Returns the cache directory of the executable and its metadata.
    pub(super) fn directory(&self, cache: &Path) -> PathBuf {
        cache.join(super::FOLDER).join(format!("{}-{}-{}", self.tool, self.version, self.platform))
    }

    /// Returns the path of the executable.
    pub(super) fn executable(&self, cache: &Path) -> PathBuf {
        self.directory(cache).join(self.tool.name())
    }

    /// Whether it is published for the platform.
    pub(super) fn is_published(&self) -> bool {
        matches!(self.platform.os(), "linux" | "darwin") && matches!(self.platform.arch(), "amd64" | "arm64")
    }

    /// Returns the hint for a release that cannot be downloaded.
    pub(super) fn hint(&self) -> String {
        format!(
            "install {self} and set {variable} to its path, for example: \
             export {variable}=$HOME/bin/{tool}; behind a proxy, set HTTPS_PROXY",
            variable = self.tool.variable(),
            tool = self.tool,
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn release(tool: Tool, version: &str, os: &str, arch: &str) -> Release {
        Release::new(tool, version, &Platform { os: os.into(), arch: arch.into() }, GITHUB).unwrap()
    }

    #[test]
    fn release_names_match_the_publishers() {
        let kind = release(Tool::Kind, "0.33.0", "macos", "aarch64");
        let url = "https://github.com/kubernetes-sigs/kind/releases/download/v0.33.0/kind-darwin-arm64";
        assert_eq!((kind.url.as_str(), &kind.checksum_url), (url, &format!("{url}.sha256sum")));
        assert_eq!(kind.directory(Path::new("/c")), Path::new("/c/tools/kind-v0.33.0-darwin-arm64"));
        assert!(kind.is("v0.33.0") && kind.is("0.33.0") && !kind.is("v0.33.1"));

        let linux = release(Tool::Istioctl, "1.31.1", "linux", "x86_64");
        let url = "https://github.com/istio/istio/releases/download/1.31.1/istioctl-1.31.1-linux-amd64.tar.gz";
        assert_eq!((linux.url.as_str(), &linux.checksum_url), (url, &format!("{url}.sha256")));
        let mac = release(Tool::Istioctl, "1.31.1", "macos", "x86_64");
        assert_eq!(mac.asset, "istioctl-1.31.1-osx-amd64.tar.gz");
        assert!(mac.is_published() && !release(Tool::Kind, "1.0.0", "linux", "riscv64").is_published());
    }

    #[test]
    fn pinned_checksums_apply_to_their_release_only() {
        for (tool, version, os, arch, begins) in [
            (Tool::Kind, "v0.33.0", "linux", "x86_64", "aee61515"),
            (Tool::Kind, "0.33.0", "linux", "aarch64", "20022bee"),
            (Tool::Kind, "v0.33.0", "macos", "x86_64", "5a99f26f"),
            (Tool::Kind, "v0.33.0", "macos", "aarch64", "0c8c7dbe"),
            (Tool::Istioctl, "1.31.1", "linux", "x86_64", "a4456390"),
            (Tool::Istioctl, "1.31.1", "macos", "aarch64", "3f37edda"),
        ] {
            let known = release(tool, version, os, arch).known.unwrap();
            assert_eq!(known[..8], *begins, "{tool:?} {version} for {os} {arch}");
        }
        let checksums: BTreeSet<&str> = KNOWN.iter().map(|(_, _, _, sha256)| *sha256).collect();
        assert_eq!(checksums.len(), KNOWN.len(), "two files have the same checksum");
        for sha256 in checksums {
            assert!(sha256.len() == 64 && sha256.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f')));
        }
        assert_eq!(release(Tool::Kind, "v0.32.0", "linux", "x86_64").known, None);
        assert_eq!(release(Tool::Istioctl, "1.31.1", "linux", "aarch64").known, None);
    }

    #[test]
    fn version_cannot_escape_the_cache() {
        for version in ["", "v", "../1", "1/..", "1.0 ", "1.0?x", "latest"] {
            let error = Release::new(Tool::Kind, version, &Platform::here(), GITHUB).unwrap_err();
            assert_eq!(crate::base::error::exit_code(&error), 2, "{version}");
        }
    }
}
