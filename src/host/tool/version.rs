//! The version of an executable: queried once, and stored until the file changes.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Write,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::{Tool, process};

/// How long an executable may take to report its version.
const LIMIT: Duration = Duration::from_secs(20);

/// Smaller files are scripts of a version manager: what they run can change while they do not.
const MIN_BINARY_SIZE: u64 = 1 << 20;

/// Stored versions, by path.
type Remembered = BTreeMap<String, Entry>;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    size: u64,
    /// Modification time: seconds since 1970, and nanoseconds.
    modified: (i64, i64),
    version: String,
}

/// Determines versions. The stored ones are only an optimization: they may be missing, broken or impossible to
/// write.
#[derive(Debug)]
pub(super) struct Versions {
    file: PathBuf,
    /// Whether new versions are stored.
    remembers: bool,
}

impl Versions {
    /// Stores versions in `versions.json` in that directory.
    pub(super) fn new(directory: &Path) -> Self {
        Self { file: directory.join("versions.json"), remembers: true }
    }

    /// Reads the versions stored there, and stores none.
    pub(super) fn unremembered(directory: &Path) -> Self {
        Self { remembers: false, ..Self::new(directory) }
    }

    /// Returns the version that the executable reports.
    pub(super) async fn of(&self, tool: Tool, path: &Path) -> anyhow::Result<String> {
        let key = identity(tool, path);
        if let Some((name, size, modified)) = &key
            && let Some(entry) = self.remembered().remove(name)
            && (entry.size, entry.modified) == (*size, *modified)
        {
            return Ok(entry.version);
        }
        let version = ask(tool, path).await?;
        if let Some((name, size, modified)) = key.filter(|_| self.remembers) {
            // If it cannot be stored, the next command queries it again.
            let _ = self.remember(name, Entry { size, modified, version: version.clone() });
        }
        Ok(version)
    }

    fn remembered(&self) -> Remembered {
        fs::read(&self.file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    fn remember(&self, name: String, entry: Entry) -> io::Result<()> {
        let directory = self.file.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(directory)?;
        let mut all = self.remembered();
        all.retain(|name, _| Path::new(name).exists());
        all.insert(name, entry);
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(&serde_json::to_vec_pretty(&all)?)?;
        file.persist(&self.file)?;
        Ok(())
    }
}

/// Whether the file is the program itself, and not a script that runs one.
pub(super) fn is_program(tool: Tool, path: &Path) -> bool {
    identity(tool, path).is_some()
}

/// Returns the file's path, size and time; none if its version must be queried every time.
fn identity(tool: Tool, path: &Path) -> Option<(String, u64, (i64, i64))> {
    let real = fs::canonicalize(path).ok()?;
    let metadata = fs::metadata(&real).ok()?;
    // A version manager's link points to the manager itself.
    let is_tool = real.file_name()?.to_str()?.starts_with(tool.name());
    (is_tool && metadata.size() >= MIN_BINARY_SIZE)
        .then(|| Some((real.to_str()?.to_owned(), metadata.size(), (metadata.mtime(), metadata.mtime_nsec()))))?
}

async fn ask(tool: Tool, path: &Path) -> anyhow::Result<String> {
    let mut command = Command::new(path);
    match tool {
        Tool::Kind => command.arg("version"),
        // Does not contact a cluster.
        Tool::Istioctl => command.args(["version", "--remote=false", "--output=json"]),
    };
    let output = process::run_within(&mut command, LIMIT).await?;
    let text = String::from_utf8_lossy(&output.stdout);
    parse(tool, &text).with_context(|| format!("`{}` printed {:?}", process::command_line(&command), text.trim()))
}

/// Parses the version in a tool's output.
///
/// # Errors
/// If the output contains no version.
pub fn parse(tool: Tool, text: &str) -> anyhow::Result<String> {
    let version = match tool {
        // kind v0.33.0 go1.26.8 linux/amd64
        Tool::Kind => {
            text.strip_prefix("kind ").and_then(|rest| rest.split_whitespace().next()).map(str::to_owned)
        }
        Tool::Istioctl => {
            let answer: serde_json::Value = serde_json::from_str(text).context("its output is not JSON")?;
            answer["clientVersion"]["version"].as_str().map(str::to_owned)
        }
    };
    version.filter(|version| !version.is_empty()).context("its output contains no version")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_parsed_from_tool_output() {
        let kind = |text| parse(Tool::Kind, text).ok();
        assert_eq!(kind("kind v0.33.0 go1.26.8 linux/amd64\n").as_deref(), Some("v0.33.0"));
        assert_eq!(kind("kind "), None);
        assert_eq!(kind("v0.33.0"), None);
        let istioctl = |text| parse(Tool::Istioctl, text).ok();
        let recorded = r#"{"clientVersion": {"version": "1.31.1", "revision": "x", "status": "Clean"}}"#;
        assert_eq!(istioctl(recorded).as_deref(), Some("1.31.1"));
        assert_eq!(istioctl("{}"), None);
        assert_eq!(istioctl("client version: 1.31.1"), None);
    }
}
