//! The sample image: the kindmesh executable with its shared libraries, built through the engine's API. No
//! registry, no Dockerfile.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context;
use bollard::query_parameters::CreateImageOptionsBuilder;
use bytes::Bytes;
use futures::StreamExt;
use sha2::{Digest, Sha256};

use super::{Engine, is_not_found};
use crate::base::blocking::elsewhere;
use crate::base::digest;
use crate::base::error::Error;
use crate::base::event::Outcome;
use crate::plan;
use crate::plan::admission::foreign_image;
use crate::plan::inventory::Executable;

/// The path of the executable in the image.
pub const ENTRYPOINT: &str = "/kindmesh";
/// The user of the samples' processes.
pub const USER: u32 = 1000;
/// The label of every sample image, to find those of earlier executables.
pub const LABEL: &str = "kindmesh.sample";

/// Returns the kindmesh executable for a sample image: `KINDMESH_EXE`, else this one if it is kindmesh, else a
/// kindmesh of the same version on PATH (a test binary contains no samples).
pub async fn executable() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("KINDMESH_EXE").filter(|named| !named.is_empty()) {
        return Some(PathBuf::from(named));
    }
    let running = std::env::current_exe().ok()?;
    if running.file_stem().is_some_and(|stem| stem == "kindmesh") {
        return Some(running);
    }
    for folder in std::env::split_paths(&std::env::var_os("PATH")?) {
        let candidate = folder.join("kindmesh");
        let Ok(output) = tokio::process::Command::new(&candidate).arg("--version").output().await else {
            continue;
        };
        let said = String::from_utf8_lossy(&output.stdout);
        if said.trim() == concat!("kindmesh ", env!("CARGO_PKG_VERSION")) {
            return Some(candidate);
        }
    }
    None
}

/// Returns the facts about the executable that a plan needs.
///
/// # Errors
/// If the file cannot be read.
pub async fn describe(path: &Path) -> anyhow::Result<Executable> {
    let path = path.to_owned();
    elsewhere(move || Ok(read(&path)?)).await
}

/// Reads the whole file. Blocks.
fn read(path: &Path) -> Result<Executable, Error> {
    let content = std::fs::read(path).map_err(|error| {
        Error::prerequisite(format!("the kindmesh executable {} cannot be read: {error}", path.display()))
            .hint("set KINDMESH_EXE to a kindmesh executable")
    })?;
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let os = match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    };
    let digest = digest::hex(&Sha256::digest(&content));
    Ok(Executable { os: os.into(), architecture: architecture.into(), digest: digest[..12].into() })
}

/// What an engine has under the name of a sample image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A sample image.
    Ours,
    /// An image that kindmesh did not create.
    Unlabeled,
}

/// Looks for a sample image of that name.
///
/// # Errors
/// The engine's errors.
pub async fn look(engine: &Engine, image: &str) -> anyhow::Result<Found> {
    let found = match engine.docker.inspect_image(image).await {
        Ok(found) => found,
        Err(error) if is_not_found(&error) => return Ok(Found::Nothing),
        Err(error) => return Err(error).context("looking for the sample image"),
    };
    let labels = found.config.and_then(|config| config.labels).unwrap_or_default();
    Ok(if labels.contains_key(LABEL) { Found::Ours } else { Found::Unlabeled })
}

/// Builds the sample image unless the engine has it. Its tag is the executable's digest, so an existing one is
/// up to date.
///
/// # Errors
/// A usage error if kindmesh did not create an image of that name; or if the executable or its libraries cannot be
/// read, or the engine rejects the image.
pub async fn ensure(engine: &Engine, samples: &plan::Samples, executable: &Path) -> anyhow::Result<Outcome<()>> {
    ensure_named(engine, &samples.image, executable).await
}

/// Builds a sample image like [`ensure`], under a name that ends with the executable's digest.
///
/// # Errors
/// As for [`ensure`].
pub async fn ensure_named(engine: &Engine, image: &str, executable: &Path) -> anyhow::Result<Outcome<()>> {
    match look(engine, image).await? {
        Found::Ours => return Ok(Outcome::unchanged(())),
        Found::Unlabeled => return Err(foreign_image(image).into()),
        Found::Nothing => {}
    }
    let labels = format!("LABEL org.opencontainers.image.title=kindmesh-sample {LABEL}=true");
    import(engine, image, root_folder(executable, ENTRYPOINT).await?, ENTRYPOINT, labels).await?;
    Ok(Outcome::changed(()))
}

/// Creates an image from the archive of a root directory. Its process runs as an unprivileged user.
pub(crate) async fn import(
    engine: &Engine,
    image: &str,
    archive: Vec<u8>,
    entrypoint: &str,
    labels: String,
) -> anyhow::Result<()> {
    let (repository, tag) = image.rsplit_once(':').unwrap_or((image, "latest"));
    let changes = vec![format!("ENTRYPOINT [\"{entrypoint}\"]"), format!("USER {USER}:{USER}"), labels];
    let platform = engine.facts.platform();
    let options = CreateImageOptionsBuilder::default()
        .from_src("-")
        .repo(repository)
        .tag(tag)
        .changes(changes)
        .platform(&platform)
        .build();
    let mut progress =
        engine.docker.create_image(Some(options), Some(bollard::body_full(Bytes::from(archive))), None).boxed();
    while let Some(info) = progress.next().await {
        info.with_context(|| format!("building the image {image}"))?;
    }
    Ok(())
}

/// Returns an image's root directory as a tar archive: the executable at its path, and its shared libraries.
///
/// # Errors
/// If the executable cannot run, or a file cannot be read.
pub async fn root_folder(executable: &Path, entrypoint: &str) -> anyhow::Result<Vec<u8>> {
    let mut libraries = libraries(executable).await?;
    libraries.extend(name_lookup(&libraries));
    let (executable, entrypoint) = (executable.to_owned(), entrypoint.to_owned());
    elsewhere(move || {
        archive(&executable, &entrypoint, &libraries).with_context(|| format!("packing {}", executable.display()))
    })
    .await
}

/// Returns the shared libraries of an executable, including the loader: the loader lists them instead of running the
/// executable. A static executable runs with `--version` and lists none.
async fn libraries(executable: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let output = tokio::process::Command::new(executable)
        .arg("--version")
        .env("LD_TRACE_LOADED_OBJECTS", "1")
        .output()
        .await
        .with_context(|| format!("listing the libraries of {}", executable.display()))?;
    if !output.status.success() {
        return Err(Error::prerequisite(format!("{} cannot run: {}", executable.display(), output.status))
            .evidence(String::from_utf8_lossy(&output.stderr))
            .hint("set KINDMESH_EXE to a kindmesh executable for this host")
            .into());
    }
    Ok(listed(&String::from_utf8_lossy(&output.stdout)))
}

/// Parses `name => /path (address)` and `/path (address)` lines; each path once.
pub fn listed(said: &str) -> Vec<PathBuf> {
    let paths: BTreeSet<PathBuf> = said
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(PathBuf::from)
        .collect();
    paths.into_iter().collect()
}

/// Returns the libraries that the C library uses to resolve host names. glibc before 2.34 loads them only at that
/// time, so the loader does not list them. A static executable contains its own.
fn name_lookup(listed: &[PathBuf]) -> Vec<PathBuf> {
    let c_library = listed.iter().find(|path| path.file_name().is_some_and(|name| name == "libc.so.6"));
    let Some(folder) = c_library.and_then(|path| path.parent()) else { return Vec::new() };
    ["libnss_dns.so.2", "libnss_files.so.2", "libresolv.so.2"]
        .map(|name| folder.join(name))
        .into_iter()
        .filter(|path| !listed.contains(path) && path.exists())
        .collect()
}

/// Returns the archive of these files. Blocks.
fn archive(executable: &Path, entrypoint: &str, libraries: &[PathBuf]) -> anyhow::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |path: &str, from: &Path| -> anyhow::Result<()> {
        let content = std::fs::read(from).with_context(|| from.display().to_string())?;
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        archive.append_data(&mut header, path.trim_start_matches('/'), content.as_slice())?;
        Ok(())
    };
    add(entrypoint, executable)?;
    for library in libraries {
        add(&library.to_string_lossy(), library)?;
    }
    Ok(archive.into_inner()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::blocking::waits_for_a_thread;

    #[test]
    fn reading_an_executable_does_not_block_the_runtime() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kindmesh");
        std::fs::write(&path, "kindmesh").unwrap();
        let described = waits_for_a_thread(describe(&path)).unwrap();
        assert_eq!(described.digest, digest::hex(&Sha256::digest("kindmesh"))[..12]);
        let error = waits_for_a_thread(describe(&folder.path().join("absent"))).unwrap_err();
        assert_eq!(crate::base::error::exit_code(&error), 4);
    }

    #[test]
    fn the_loaders_list_is_read() {
        let said = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x7f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x7f)\n";
        let paths =
            [PathBuf::from("/lib/x86_64-linux-gnu/libc.so.6"), PathBuf::from("/lib64/ld-linux-x86-64.so.2")];
        assert_eq!(listed(said), paths);
        assert!(listed("kindmesh 0.1.0\n").is_empty());
    }

    #[test]
    fn resolver_libraries_are_included() {
        let folder = tempfile::tempdir().unwrap();
        let [c, dns, resolver, files] = ["libc.so.6", "libnss_dns.so.2", "libresolv.so.2", "libnss_files.so.2"]
            .map(|name| folder.path().join(name));
        for there in [&c, &dns, &resolver] {
            std::fs::write(there, "").unwrap();
        }
        assert_eq!(name_lookup(&[c.clone(), resolver.clone()]), std::slice::from_ref(&dns));
        std::fs::write(&files, "").unwrap();
        assert_eq!(name_lookup(&[c]), [dns, files, resolver]);
        assert!(name_lookup(&[]).is_empty());
    }
}
