use std::{
    collections::{BTreeSet, HashMap},
    io::{Cursor, Read},
    sync::Mutex,
    sync::atomic::{AtomicBool, Ordering},
};

use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::{
    fetch::{Body, FetchError},
    *,
};
use crate::base::error::{self, Kind};
use crate::base::event::Events;

const BASE: &str = "https://releases.test";

/// Recorded responses, by URL; everything else is not found. Records the requests.
#[derive(Default)]
struct Recorded {
    answers: HashMap<String, Vec<u8>>,
    asked: Mutex<Vec<String>>,
    offline: bool,
}

impl Fetch for Recorded {
    fn open(&self, url: &str) -> Result<Body, FetchError> {
        self.asked.lock().unwrap().push(url.into());
        if self.offline {
            return Err(FetchError::NoAnswer("failed to lookup address information".into()));
        }
        let content = self.answers.get(url).cloned().ok_or(FetchError::Status(404))?;
        Ok(Body { length: Some(content.len() as u64), reader: Box::new(Cursor::new(content)) })
    }
}

struct Lab {
    dir: TempDir,
    finder: Finder,
}

impl Lab {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let finder = Finder {
            named: None,
            path: OsString::new(),
            cache: dir.path().join("cache"),
            platform: Platform { os: "linux".into(), arch: "x86_64".into() },
            base: BASE.into(),
            fetch: Arc::new(Recorded::default()),
        };
        Self { dir, finder }
    }

    fn with_answers(answers: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let mut lab = Self::new();
        lab.answer(answers);
        lab
    }

    fn answer(&mut self, answers: impl IntoIterator<Item = (String, Vec<u8>)>) {
        let answers = answers.into_iter().collect();
        self.finder.fetch = Arc::new(Recorded { answers, ..Recorded::default() });
    }

    /// Creates a tool in its own directory and returns its path.
    fn tool(&self, directory: &str, tool: Tool, content: &[u8]) -> PathBuf {
        let directory = self.dir.path().join(directory);
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join(tool.name());
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn search(&mut self, directories: &[&str]) {
        self.finder.path = env::join_paths(directories.iter().map(|name| self.dir.path().join(name))).unwrap();
    }

    async fn find(&self, tool: Tool, version: &str) -> anyhow::Result<Found> {
        self.finder.find(tool, version, &Events::silent().step("tools", None)).await
    }

    /// Asserts that a prerequisite is missing, with a hint.
    async fn refused(&self, tool: Tool, version: &str) -> Error {
        let error = self.find(tool, version).await.unwrap_err();
        let error = error.downcast::<Error>().expect("a kindmesh error");
        assert_eq!(error.kind, Kind::Prerequisite, "{error}");
        assert!(error.hint.is_some(), "{error}");
        error
    }

    /// Returns all files in the cache.
    fn cached(&self) -> BTreeSet<String> {
        fn walk(directory: &Path, found: &mut BTreeSet<String>) {
            for entry in fs::read_dir(directory).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, found);
                } else {
                    found.insert(path.file_name().unwrap().to_string_lossy().into_owned());
                }
            }
        }
        let mut found = BTreeSet::new();
        walk(&self.finder.cache, &mut found);
        found
    }
}

/// Returns a script that claims to be kind, and counts its runs in a `.runs` file next to it.
fn kind(version: &str) -> Vec<u8> {
    format!("#!/bin/sh\necho run >>\"$0.runs\"\necho \"kind {version} go1.26.8 linux/amd64\"\nexit\n").into_bytes()
}

fn istioctl(version: &str) -> Vec<u8> {
    format!("#!/bin/sh\necho '{{\"clientVersion\": {{\"version\": \"{version}\"}}}}'\n").into_bytes()
}

fn runs(path: &Path) -> usize {
    let runs = path.with_file_name(format!("{}.runs", path.file_name().unwrap().to_str().unwrap()));
    fs::read_to_string(runs).unwrap_or_default().lines().count()
}

/// Returns the content padded to the size of a binary.
fn padded(mut content: Vec<u8>) -> Vec<u8> {
    content.resize(2 << 20, b'#');
    content
}

fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn archive(name: &str, content: &[u8]) -> Vec<u8> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o755);
    archive.append_data(&mut header, name, content).unwrap();
    archive.into_inner().unwrap().finish().unwrap()
}

fn kind_url(version: &str) -> String {
    format!("{BASE}/kubernetes-sigs/kind/releases/download/{version}/kind-linux-amd64")
}

fn istioctl_url(version: &str) -> String {
    format!("{BASE}/istio/istio/releases/download/{version}/istioctl-{version}-linux-amd64.tar.gz")
}

/// Returns a release of kind as published.
fn published_kind(version: &str, content: &[u8]) -> [(String, Vec<u8>); 2] {
    let (url, sum) = (kind_url(version), format!("{}  kind-linux-amd64\n", sha256(content)));
    [(format!("{url}.sha256sum"), sum.into_bytes()), (url, content.to_vec())]
}

fn published_istioctl(version: &str, archive: &[u8]) -> [(String, Vec<u8>); 2] {
    let url = istioctl_url(version);
    let sum = format!("{}  {}\n", sha256(archive), url.rsplit('/').next().unwrap());
    [(format!("{url}.sha256"), sum.into_bytes()), (url, archive.to_vec())]
}

#[tokio::test]
async fn variable_overrides_path_and_version_difference_is_reported() {
    let mut lab = Lab::new();
    lab.tool("bin", Tool::Kind, &kind("v0.33.0"));
    lab.search(&["bin"]);
    let own = lab.tool("own", Tool::Kind, &kind("v0.30.0"));
    lab.finder.named = Some(own.clone().into());
    let found = lab.find(Tool::Kind, KIND_VERSION).await.unwrap();
    assert_eq!((found.path, found.source, found.version.as_str()), (own, Source::Variable, "v0.30.0"));
    let warning = found.warning.unwrap();
    assert_eq!(warning, "KINDMESH_KIND is set to kind v0.30.0, but kindmesh requires kind v0.33.0");

    lab.finder.named = Some("".into());
    let found = lab.find(Tool::Kind, KIND_VERSION).await.unwrap();
    assert_eq!((found.source, found.warning), (Source::Path, None));
}

#[tokio::test]
async fn the_variable_must_name_a_tool() {
    let mut lab = Lab::new();
    lab.finder.named = Some("/nonexistent/istioctl".into());
    let error = lab.refused(Tool::Istioctl, "1.31.1").await;
    assert_eq!(error.message, "KINDMESH_ISTIOCTL is set to /nonexistent/istioctl, which does not exist");

    let path = lab.tool("own", Tool::Istioctl, b"#!/bin/sh\necho broken >&2\nexit 7\n");
    lab.finder.named = Some(path.clone().into());
    let error = lab.refused(Tool::Istioctl, "1.31.1").await;
    assert!(error.evidence[0].contains("exit status: 7") && error.evidence[1] == "broken", "{error:?}");

    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let error = lab.refused(Tool::Istioctl, "1.31.1").await;
    assert!(error.message.ends_with("is not an executable file"), "{error}");
}

#[tokio::test]
async fn the_variable_may_name_tools_of_several_versions() {
    let mut lab = Lab::new();
    let paths = ["1.30.4", "1.31.1"].map(|version| lab.tool(version, Tool::Istioctl, &istioctl(version)));
    lab.finder.named = Some(env::join_paths(&paths).unwrap());
    for (version, path) in [("1.30.4", &paths[0]), ("1.31.1", &paths[1])] {
        let found = lab.find(Tool::Istioctl, version).await.unwrap();
        assert_eq!((&found.path, found.warning), (path, None));
    }
    let other = lab.find(Tool::Istioctl, "1.31.0").await.unwrap();
    assert_eq!(other.path, paths[0]);
    assert!(other.warning.unwrap().contains("1.30.4, but kindmesh requires istioctl 1.31.0"));
}

#[tokio::test]
async fn path_is_searched_for_the_required_version() {
    let mut lab = Lab::new();
    lab.tool("old", Tool::Istioctl, &istioctl("1.30.0"));
    lab.tool("broken", Tool::Istioctl, b"#!/bin/sh\nexit 1\n");
    let right = lab.tool("right", Tool::Istioctl, &istioctl("1.31.1"));
    lab.search(&["missing", "old", "broken", "right"]);
    let found = lab.find(Tool::Istioctl, "v1.31.1").await.unwrap();
    assert_eq!((found.path, found.source, found.warning), (right, Source::Path, None));
}

#[tokio::test]
async fn relative_path_entries_are_skipped() {
    assert_eq!(on_path(OsStr::new(":.:bin"), "sh").count(), 0);
    assert!(on_path(OsStr::new("/nonexistent:/bin"), "sh").next().is_some());
}

#[tokio::test]
async fn download_is_verified_cached_and_found() {
    let content = padded(kind("v9.0.0"));
    let mut lab = Lab::with_answers(published_kind("v9.0.0", &content));
    let found = lab.find(Tool::Kind, "v9.0.0").await.unwrap();
    assert_eq!(found.source, Source::Download);
    assert_eq!(found.path, lab.finder.cache.join("tools/kind-v9.0.0-linux-amd64/kind"));
    assert_eq!(fs::metadata(&found.path).unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(fs::read(&found.path).unwrap(), content);

    lab.answer([]);
    let again = lab.find(Tool::Kind, "9.0.0").await.unwrap();
    assert_eq!((again.source, &again.path), (Source::Cache, &found.path));
    assert_eq!(runs(&found.path), 1, "its version is stored");
    let expected = ["kind", "kind-linux-amd64.sha256", "kind.runs", "versions.json"];
    assert_eq!(lab.cached(), expected.map(str::to_owned).into());
}

#[tokio::test]
async fn an_archive_is_unpacked() {
    let content = istioctl("9.0.0");
    let lab = Lab::with_answers(published_istioctl("9.0.0", &archive("istioctl", &content)));
    let found = lab.find(Tool::Istioctl, "9.0.0").await.unwrap();
    assert_eq!((found.source, found.version.as_str()), (Source::Download, "9.0.0"));
    assert_eq!(fs::read(&found.path).unwrap(), content);
}

#[tokio::test]
async fn archive_without_the_tool_leaves_nothing() {
    let lab = Lab::with_answers(published_istioctl("9.0.0", &archive("README", b"hello")));
    let error = lab.refused(Tool::Istioctl, "9.0.0").await;
    assert_eq!(error.message, "the archive of istioctl 9.0.0 contains no istioctl");
    assert_eq!(lab.cached(), BTreeSet::new());

    let lab = Lab::with_answers(published_istioctl("9.0.0", b"no archive"));
    let error = lab.refused(Tool::Istioctl, "9.0.0").await;
    assert!(error.message.contains("cannot be read"), "{error}");
    assert_eq!(lab.cached(), BTreeSet::new());
}

#[tokio::test]
async fn wrong_checksum_is_an_error_and_leaves_nothing() {
    let mut answers = published_kind("v9.0.0", &kind("v9.0.0"));
    answers[1].1.push(b'\n');
    let lab = Lab::with_answers(answers);
    let error = lab.refused(Tool::Kind, "v9.0.0").await;
    assert!(error.message.contains("does not match"), "{error}");
    assert!(error.evidence.contains(&kind_url("v9.0.0")), "{error:?}");
    assert_eq!(lab.cached(), BTreeSet::new());
}

#[tokio::test]
async fn pinned_checksum_overrides_the_publishers() {
    let content = kind("v0.33.0");
    let mut lab = Lab::with_answers(published_kind("v0.33.0", &content));
    let error = lab.refused(Tool::Kind, "v0.33.0").await;
    assert!(error.message.contains("does not match"), "{error}");
    assert_eq!(lab.cached(), BTreeSet::new());
    // It also applies if the publisher has none.
    lab.answer([(kind_url("v0.33.0"), content)]);
    let error = lab.refused(Tool::Kind, "v0.33.0").await;
    assert!(error.evidence.iter().any(|line| line.starts_with("expected sha256 aee61515")), "{error:?}");
    assert_eq!(lab.cached(), BTreeSet::new());
}

#[tokio::test]
async fn nothing_is_downloaded_without_a_checksum() {
    let lab = Lab::with_answers([(kind_url("v9.0.0"), kind("v9.0.0"))]);
    let error = lab.refused(Tool::Kind, "v9.0.0").await;
    assert!(error.message.contains("no published checksum"), "{error}");
    assert_eq!(lab.cached(), BTreeSet::new());

    let page = (format!("{}.sha256sum", kind_url("v9.0.0")), b"<html>sign in</html>".to_vec());
    let lab = Lab::with_answers([(kind_url("v9.0.0"), kind("v9.0.0")), page]);
    let error = lab.refused(Tool::Kind, "v9.0.0").await;
    assert_eq!(error.evidence, ["<html>sign in</html>"]);
    assert_eq!(lab.cached(), BTreeSet::new());
}

#[tokio::test]
async fn changed_release_is_rejected() {
    let mut lab = Lab::with_answers(published_kind("v9.0.0", &kind("v9.0.0")));
    let found = lab.find(Tool::Kind, "v9.0.0").await.unwrap();
    fs::remove_file(&found.path).unwrap();
    let mut changed = kind("v9.0.0");
    changed.extend(b"# changed\n");
    lab.answer(published_kind("v9.0.0", &changed));
    let error = lab.refused(Tool::Kind, "v9.0.0").await;
    assert_eq!(error.message, "the published kind v9.0.0 has changed");
    assert!(!found.path.exists());

    lab.answer(published_kind("v9.0.0", &kind("v9.0.0")));
    assert_eq!(lab.find(Tool::Kind, "v9.0.0").await.unwrap().source, Source::Download);
}

#[tokio::test]
async fn broken_cached_copy_is_downloaded_again() {
    let lab = Lab::with_answers(published_kind("v9.0.0", &kind("v9.0.0")));
    let found = lab.find(Tool::Kind, "v9.0.0").await.unwrap();
    fs::write(&found.path, "").unwrap();
    let found = lab.find(Tool::Kind, "v9.0.0").await.unwrap();
    assert_eq!(found.source, Source::Download);
}

#[tokio::test]
async fn download_of_another_version_is_rejected() {
    let lab = Lab::with_answers(published_kind("v9.0.0", &kind("v8.0.0")));
    let error = lab.refused(Tool::Kind, "v9.0.0").await;
    assert_eq!(error.message, "the downloaded kind v9.0.0 reports version v8.0.0");
}

#[tokio::test]
async fn without_a_network_the_error_has_a_hint() {
    let mut lab = Lab::new();
    lab.finder.fetch = Arc::new(Recorded { offline: true, ..Recorded::default() });
    let old = lab.tool("old", Tool::Kind, &kind("v0.30.0"));
    lab.search(&["old"]);
    let error = lab.find(Tool::Kind, KIND_VERSION).await.unwrap_err();
    assert_eq!(error::exit_code(&error), 4);
    let shown = format!("{error:#}");
    assert!(shown.contains(&format!("{} is v0.30.0", old.display())), "{shown}");
    assert!(shown.contains("failed to lookup address information"), "{shown}");
    let error = error::find(&error).unwrap();
    assert_eq!(error.evidence, [format!("{}.sha256sum", kind_url(KIND_VERSION))]);
    let hint = error.hint.as_deref().unwrap();
    assert!(hint.contains("KINDMESH_KIND=") && hint.contains("HTTPS_PROXY"), "{hint}");
}

#[tokio::test]
async fn no_request_if_the_tool_exists() {
    let mut lab = Lab::new();
    let fetch = Arc::new(Recorded::default());
    lab.finder.fetch = fetch.clone();
    lab.tool("bin", Tool::Kind, &kind("v0.33.0"));
    lab.search(&["bin"]);
    lab.find(Tool::Kind, KIND_VERSION).await.unwrap();
    assert!(fetch.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn unknown_platform_is_reported() {
    let mut lab = Lab::new();
    lab.finder.platform = Platform { os: "linux".into(), arch: "riscv64".into() };
    let error = lab.refused(Tool::Kind, KIND_VERSION).await;
    assert!(error.message.contains("is not published for this platform"), "{error}");
}

#[tokio::test]
async fn versions_are_stored_until_the_file_changes() {
    let lab = Lab::new();
    let versions = Versions::new(&lab.finder.cache);
    let path = lab.tool("bin", Tool::Kind, &padded(kind("v1.0.0")));
    for _ in 0..3 {
        assert_eq!(versions.of(Tool::Kind, &path).await.unwrap(), "v1.0.0");
    }
    assert_eq!(runs(&path), 1);

    let mut changed = padded(kind("v1.0.1"));
    changed.push(b'#');
    fs::write(&path, changed).unwrap();
    assert_eq!(versions.of(Tool::Kind, &path).await.unwrap(), "v1.0.1");
    assert_eq!(runs(&path), 2);

    fs::write(lab.finder.cache.join("versions.json"), "{ broken").unwrap();
    assert_eq!(versions.of(Tool::Kind, &path).await.unwrap(), "v1.0.1");
    assert_eq!(versions.of(Tool::Kind, &path).await.unwrap(), "v1.0.1");
    assert_eq!(runs(&path), 3);
}

#[tokio::test]
async fn scripts_are_asked_for_their_version_every_time() {
    let lab = Lab::new();
    let versions = Versions::new(&lab.finder.cache);
    let script = lab.tool("bin", Tool::Kind, &kind("v1.0.0"));
    for _ in 0..2 {
        versions.of(Tool::Kind, &script).await.unwrap();
    }
    assert_eq!(runs(&script), 2);

    let manager = lab.tool("manager", Tool::Istioctl, &padded(kind("v1.0.0")));
    let link = lab.dir.path().join("kind");
    std::os::unix::fs::symlink(&manager, &link).unwrap();
    for _ in 0..2 {
        versions.of(Tool::Kind, &link).await.unwrap();
    }
    assert_eq!(runs(&link), 2);
}

#[tokio::test]
async fn unwritable_cache_is_ignored() {
    let mut lab = Lab::new();
    lab.finder.cache = lab.tool("bin", Tool::Kind, &padded(kind("v0.33.0")));
    lab.search(&["bin"]);
    assert_eq!(lab.find(Tool::Kind, KIND_VERSION).await.unwrap().source, Source::Path);
}

/// Sets the flag at the first byte, like an interrupt during the download.
struct Interrupting(Arc<AtomicBool>);

impl Fetch for Interrupting {
    fn open(&self, url: &str) -> Result<Body, FetchError> {
        if url.ends_with("sum") {
            let sum = format!("{}  kind-linux-amd64\n", "0".repeat(64)).into_bytes();
            return Ok(Body { length: None, reader: Box::new(Cursor::new(sum)) });
        }
        self.0.store(true, Ordering::Relaxed);
        Ok(Body { length: None, reader: Box::new(std::io::repeat(0).take(u64::MAX)) })
    }
}

#[test]
fn interrupted_download_leaves_nothing() {
    let lab = Lab::new();
    let release = Release::new(Tool::Kind, "v9.0.0", &lab.finder.platform, BASE).unwrap();
    let flag = Arc::new(AtomicBool::new(false));
    let fetch = Interrupting(flag.clone());
    let error = download::download(&release, &lab.finder.cache, &fetch, &|_| {}, &flag).unwrap_err();
    assert!(error.to_string().contains("interrupted"), "{error}");
    assert_eq!(lab.cached(), BTreeSet::new());
}
