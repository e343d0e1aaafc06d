//! Finds the command line tools that kindmesh runs, at the version it requires, or downloads them.
//!
//! In this order: an environment variable, the `PATH`, the cache, the publisher's release.

mod download;
mod fetch;
pub mod process;
mod release;
#[cfg(test)]
mod tests;
pub mod version;

use std::{
    env,
    ffi::{OsStr, OsString},
    fmt, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;

use crate::base::blocking::{StopOnDrop, elsewhere};
use crate::base::error::Error;
use crate::base::event::Step;
use fetch::{Fetch, Https};
use release::{Platform, Release};
use version::Versions;

/// The version of kind that kindmesh requires.
pub const KIND_VERSION: &str = "v0.33.0";

/// The cache directory of downloaded tools.
pub const FOLDER: &str = "tools";

/// Returns the cache directories of the tools for these versions of Istio, whether or not they exist.
pub fn kept<'a>(cache: &Path, istio_versions: impl IntoIterator<Item = &'a str>) -> Vec<PathBuf> {
    let platform = Platform::here();
    let releases = required(istio_versions)
        .filter_map(|(tool, version)| Release::new(tool, version, &platform, release::GITHUB).ok());
    releases.map(|release| release.directory(cache)).collect()
}

/// Returns the tools for these versions of Istio.
pub fn required<'a>(istio_versions: impl IntoIterator<Item = &'a str>) -> impl Iterator<Item = (Tool, &'a str)> {
    let istioctl = istio_versions.into_iter().map(|version| (Tool::Istioctl, version));
    std::iter::once((Tool::Kind, KIND_VERSION)).chain(istioctl)
}

/// The variable with the kind executable to use, whatever its version.
pub const KINDMESH_KIND: &str = "KINDMESH_KIND";

/// The variable with the istioctl executable to use, whatever its version. If it has several, separated by `:`, the first of the
/// required version is used; if none has it, the first.
pub const KINDMESH_ISTIOCTL: &str = "KINDMESH_ISTIOCTL";

/// A command line tool that kindmesh runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// Creates clusters. Required at `KIND_VERSION`.
    Kind,
    /// Renders Istio's manifests. Required at the version of the mesh.
    Istioctl,
}

impl Tool {
    /// Returns the executable's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kind => "kind",
            Self::Istioctl => "istioctl",
        }
    }

    /// Returns the environment variable for the executable.
    pub fn variable(self) -> &'static str {
        match self {
            Self::Kind => KINDMESH_KIND,
            Self::Istioctl => KINDMESH_ISTIOCTL,
        }
    }
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a tool was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The environment variable.
    Variable,
    /// A directory of the `PATH`.
    Path,
    /// The cache: downloaded by an earlier command.
    Cache,
    /// Downloaded now.
    Download,
}

/// A tool that can run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The executable, an absolute path.
    pub path: PathBuf,
    /// The version that it reports.
    pub version: String,
    /// Where it was found.
    pub source: Source,
    /// The warning if its version is not the required one; only [`Source::Variable`] allows that.
    pub warning: Option<String>,
}

/// Finds the tool at the version, downloading it into `cache_dir` (`$XDG_CACHE_HOME/kindmesh`) if necessary. The
/// version may begin with a `v` or not.
///
/// # Errors
/// A prerequisite error if the tool is neither found nor can be downloaded and verified, a usage error if the
/// version is invalid.
pub async fn find(tool: Tool, version: &str, cache_dir: &Path, step: &Step) -> anyhow::Result<Found> {
    Finder::of_process(tool, cache_dir).find(tool, version, step).await
}

/// Finds the tool like [`find`], as a program that can be copied to another host of this platform: not a script of
/// a version manager, and of exactly this version; otherwise it is downloaded.
///
/// # Errors
/// As for [`find`].
pub async fn portable(tool: Tool, version: &str, cache_dir: &Path, step: &Step) -> anyhow::Result<Found> {
    let mut finder = Finder::of_process(tool, cache_dir);
    let found = finder.find(tool, version, step).await?;
    if found.warning.is_none() && version::is_program(tool, &found.path) {
        return Ok(found);
    }
    finder.named = None;
    finder.path = OsString::new();
    finder.find(tool, version, step).await
}

/// Returns the path of a tool in the cache, whether or not it exists.
///
/// # Errors
/// A usage error if the version is invalid.
pub fn place(tool: Tool, version: &str, cache_dir: &Path) -> anyhow::Result<PathBuf> {
    Ok(Release::new(tool, version, &Platform::here(), release::GITHUB)?.executable(cache_dir))
}

/// Returns the platform of this host, as in names of releases: `linux-amd64`.
pub fn platform() -> String {
    Platform::here().to_string()
}

/// The search results for a tool on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Here {
    /// A usable one; without it, [`find`] downloads.
    pub found: Option<Found>,
    /// Earlier candidates that do not fit, each with its version or its error.
    pub passed_over: Vec<String>,
}

/// Looks for the tool like [`find`], without downloading or writing anything.
///
/// # Errors
/// A prerequisite error if the environment variable names an executable that cannot be used, a usage error if the
/// version is invalid.
pub async fn look(tool: Tool, version: &str, cache_dir: &Path) -> anyhow::Result<Here> {
    let finder = Finder::of_process(tool, cache_dir);
    let release = Release::new(tool, version, &finder.platform, &finder.base)?;
    finder.here(&release, &Versions::unremembered(&cache_dir.join(FOLDER))).await
}

/// Everything that the search depends on.
struct Finder {
    /// The value of the tool's environment variable.
    named: Option<OsString>,
    /// The value of `PATH`.
    path: OsString,
    /// The cache directory of kindmesh.
    cache: PathBuf,
    platform: Platform,
    /// The URL of the releases, without a slash at the end.
    base: String,
    fetch: Arc<dyn Fetch>,
}

impl Finder {
    fn of_process(tool: Tool, cache_dir: &Path) -> Self {
        Self {
            named: env::var_os(tool.variable()),
            path: env::var_os("PATH").unwrap_or_default(),
            cache: cache_dir.to_owned(),
            platform: Platform::here(),
            base: release::GITHUB.into(),
            fetch: Arc::new(Https),
        }
    }

    async fn find(&self, tool: Tool, version: &str, step: &Step) -> anyhow::Result<Found> {
        let release = Release::new(tool, version, &self.platform, &self.base)?;
        let versions = Versions::new(&self.cache.join(FOLDER));
        let Here { found: here, passed_over } = self.here(&release, &versions).await?;
        if let Some(here) = here {
            return Ok(here);
        }

        // The result of the search comes before the error.
        let path = self.download(&release, step).await.map_err(|error| {
            if passed_over.is_empty() {
                return error;
            }
            error.context(format!("kindmesh requires {release}, but {}", passed_over.join(", ")))
        })?;
        let version = versions.of(tool, &path).await.map_err(|error| {
            Error::prerequisite(format!("the downloaded {release} does not run on this host"))
                .evidence(format!("{error:#}"))
                .hint(release.hint())
        })?;
        if !release.is(&version) {
            return Err(Error::prerequisite(format!("the downloaded {release} reports version {version}"))
                .evidence(path.display().to_string())
                .hint(release.hint())
                .into());
        }
        Ok(found(path, version, Source::Download))
    }

    /// Finds the tool without a download.
    async fn here(&self, release: &Release, versions: &Versions) -> anyhow::Result<Here> {
        let tool = release.tool;
        let mut passed_over = Vec::new();
        if let Some(named) = self.named.as_deref().filter(|value| !value.is_empty()) {
            let mut first = None;
            for path in env::split_paths(named) {
                let found = named_tool(release, &path, versions).await?;
                if found.warning.is_none() {
                    return Ok(Here { found: Some(found), passed_over });
                }
                first.get_or_insert(found);
            }
            return Ok(Here { found: first, passed_over });
        }
        let on_path = on_path(&self.path, tool.name()).map(|path| (path, Source::Path));
        let cached = Some(release.executable(&self.cache)).filter(|path| is_executable(path));
        for (path, source) in on_path.chain(cached.map(|path| (path, Source::Cache))) {
            match versions.of(tool, &path).await {
                Ok(version) if release.is(&version) => {
                    return Ok(Here { found: Some(found(path, version, source)), passed_over });
                }
                Ok(version) => passed_over.push(format!("{} is {version}", path.display())),
                Err(error) => passed_over.push(format!("{} does not run: {error:#}", path.display())),
            }
        }
        Ok(Here { found: None, passed_over })
    }

    async fn download(&self, release: &Release, step: &Step) -> anyhow::Result<PathBuf> {
        let cancelled = StopOnDrop::default();
        let (fetch, cache, release) = (self.fetch.clone(), self.cache.clone(), release.clone());
        let (step, flag) = (step.clone(), cancelled.0.clone());
        let what = format!("the download of {release}");
        elsewhere(move || {
            let progress = |last: &str| step.waiting(&what, last);
            download::download(&release, &cache, fetch.as_ref(), &progress, &flag)
        })
        .await
    }
}

fn found(path: PathBuf, version: String, source: Source) -> Found {
    Found { path, version, source, warning: None }
}

/// An executable from the environment variable may have any version.
async fn named_tool(release: &Release, named: &Path, versions: &Versions) -> anyhow::Result<Found> {
    let variable = release.tool.variable();
    let path = std::path::absolute(named).with_context(|| format!("failed to read the path in {variable}"))?;
    let refused = |why: &str| {
        Error::prerequisite(format!("{variable} is set to {}, which {why}", path.display()))
            .hint(format!("set {variable} to an executable of {release}, or unset it"))
    };
    if !path.exists() {
        return Err(refused("does not exist").into());
    }
    if !is_executable(&path) {
        return Err(refused("is not an executable file").into());
    }
    let version = versions
        .of(release.tool, &path)
        .await
        .map_err(|error| refused("does not report its version").evidence(evidence_of(&error)))?;
    let warning = (!release.is(&version))
        .then(|| format!("{variable} is set to {} {version}, but kindmesh requires {release}", release.tool));
    Ok(Found { path, version, source: Source::Variable, warning })
}

/// Turns an error and its evidence into evidence for another error.
fn evidence_of(error: &anyhow::Error) -> String {
    let mut lines = vec![format!("{error:#}")];
    lines.extend(crate::base::error::find(error).into_iter().flat_map(|error| error.evidence.clone()));
    lines.join("\n")
}

/// Returns the executables of that name on the `PATH`. Relative entries are skipped: they depend on the working
/// directory.
fn on_path(path: &OsStr, name: &str) -> impl Iterator<Item = PathBuf> {
    let directories: Vec<PathBuf> = env::split_paths(path).collect();
    directories
        .into_iter()
        .filter(|directory| directory.is_absolute())
        .map(move |directory| directory.join(name))
        .filter(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}
