//! Writes the support archive: the data to analyze a problem, without keys and tokens.
//!
//! ```text
//! inspect ─► parts: one file each, in parallel, each with a timeout ─► redact ─► tar.gz, mode 0600
//! ```
//!
//! The archive lists what could not be collected.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::base::error::Error;
use crate::base::event::{Events, Outcome};
use crate::cluster::environment;
use crate::host::state::Directories;

mod archive;
mod cluster;
mod engine;
mod look;
pub(crate) mod namespace;
mod pods;
mod redact;

use look::Look;
pub use redact::Redactor;

/// The timeouts of one part and of all parts. Measured: 4 s for all parts of a running environment.
const PART_TIMEOUT: Duration = Duration::from_secs(15);
const TOTAL_TIMEOUT: Duration = Duration::from_secs(90);
/// The number of parts collected in parallel.
const MAX_CONCURRENT: usize = 8;
/// The maximum size of a file, in bytes. Only its end is kept.
const FILE_BYTES: usize = 8 << 20;

/// A file of the archive, and the future that returns its content.
struct Part<'a> {
    path: String,
    work: BoxFuture<'a, anyhow::Result<Vec<u8>>>,
}

impl<'a> Part<'a> {
    fn new(
        path: impl Into<String>,
        work: impl Future<Output = anyhow::Result<impl Into<Vec<u8>>>> + Send + 'a,
    ) -> Self {
        Self { path: path.into(), work: Box::pin(async { work.await.map(Into::into) }) }
    }

    /// Returns a part with known content.
    fn json(path: impl Into<String>, value: impl Serialize + Send + 'a) -> Self {
        Self::new(path, async move { Ok(serde_json::to_vec_pretty(&value)?) })
    }
}

/// A written archive.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Written {
    /// The version of this format.
    pub schema_version: u8,
    /// The path of the archive.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// The number of its files.
    pub files: usize,
    /// What is missing, and why.
    pub missing: Vec<String>,
}

/// Writes the archive of an environment to a new file, or to one with a generated name in a directory. `failure`
/// is the error of a failed command.
///
/// # Errors
/// A usage error for an existing file, an environment error if the environment does not exist; otherwise the file
/// system's errors.
pub async fn bundle(
    folders: &Directories,
    name: &str,
    target: Option<&Path>,
    failure: Option<Value>,
    events: &Events,
) -> anyhow::Result<Written> {
    let time = Timestamp::now();
    let title = format!("kindmesh-{name}-{}", time.strftime("%Y%m%d-%H%M%S"));
    let path = file(target, &title)?;
    let look = Look::around(folders, name).await;
    if !look.any() {
        return Err(environment::absent(name).evidence(look.missing().join("\n")).into());
    }
    let step = events.step("bundle", None);
    step.run(async |step| {
        let mut redactor = Redactor::default();
        look.teach(&mut redactor).await;
        let mut parts = look.parts().await;
        parts.extend(failure.into_iter().map(|failure| Part::json("failure.json", failure)));
        step.waiting("the parts of the archive", &format!("collecting {} parts", parts.len()));
        let (mut files, mut missing) = collect(parts, PART_TIMEOUT).await;
        missing.extend(look.missing());
        missing.sort();
        files.sort();
        for (_, content) in &mut files {
            *content = redactor.redact(std::mem::take(content));
        }
        let missing: Vec<String> = missing.iter().map(|line| redactor.redact_text(line)).collect();
        let readme = readme(name, time, &files, &missing);
        files.insert(0, ("README.md".into(), readme.into_bytes()));
        let bytes = archive::write(&path, &title, time, &files)?;
        let path = std::path::absolute(&path).unwrap_or(path.clone());
        Ok(Outcome::changed(Written { schema_version: 1, path, bytes, files: files.len(), missing }))
    })
    .await
}

/// Returns the path of the archive.
fn file(target: Option<&Path>, title: &str) -> Result<PathBuf, Error> {
    let own = format!("{title}.tar.gz");
    let path = match target {
        None => PathBuf::from(own),
        Some(folder) if folder.is_dir() => folder.join(own),
        Some(path) => path.to_owned(),
    };
    if path.exists() {
        return Err(Error::usage(format!("{} already exists", path.display())).hint("choose another file name"));
    }
    Ok(path)
}

pub(crate) type Files = Vec<(String, Vec<u8>)>;

/// Runs all parts. Returns the files, and what is missing.
async fn collect(parts: Vec<Part<'_>>, each_within: Duration) -> (Files, Vec<String>) {
    let started = Instant::now();
    let works = parts.into_iter().map(|part| async move {
        let left = TOTAL_TIMEOUT.saturating_sub(started.elapsed()).min(each_within);
        let result = match tokio::time::timeout(left, part.work).await {
            Ok(result) => result,
            Err(_) => Err(anyhow::anyhow!("no response within {:.1} s", left.as_secs_f64())),
        };
        (part.path, result)
    });
    let mut works = std::pin::pin!(futures::stream::iter(works).buffer_unordered(MAX_CONCURRENT));
    let (mut files, mut missing) = (Vec::new(), Vec::new());
    while let Some((path, result)) = works.next().await {
        match result {
            Ok(content) => files.push((path, end_of(content))),
            Err(error) => missing.push(format!("{path}: {error:#}").replace('\n', " ")),
        }
    }
    (files, missing)
}

fn end_of(mut content: Vec<u8>) -> Vec<u8> {
    if content.len() > FILE_BYTES {
        content.drain(..content.len() - FILE_BYTES);
        content.splice(..0, *b"(beginning omitted)\n");
    }
    content
}

fn readme(name: &str, time: Timestamp, files: &Files, missing: &[String]) -> String {
    let mut text = format!(
        "# kindmesh {name}, {time:.0}\n\n\
        Written by kindmesh {} (`kindmesh bundle`). It contains no private keys, tokens, passwords, registry credentials or\n\
        content of Secrets: whatever looks like one is replaced by `{}`. It does contain names, addresses, labels and\n\
        the logs of your workloads: review it before you share it.\n\n\
        | file | bytes |\n|---|---|\n",
        env!("CARGO_PKG_VERSION"),
        redact::REMOVED
    );
    for (path, content) in files {
        // Writing to a String does not fail.
        let _ = writeln!(text, "| {path} | {} |", content.len());
    }
    text.push_str("\n## Missing\n\n");
    match missing {
        [] => text.push_str("Nothing is missing.\n"),
        _ => missing.iter().for_each(|line| text.push_str(&format!("- {line}\n"))),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn failed_parts_are_listed_and_others_kept() {
        let parts = vec![
            Part::json("a.json", 1),
            Part::new("b.txt", async {
                anyhow::bail!("no response\nfrom the engine");
                #[expect(unreachable_code)]
                Ok("")
            }),
            Part::new("c.txt", async { Ok("text") }),
        ];
        let (mut files, missing) = collect(parts, PART_TIMEOUT).await;
        files.sort();
        let files: Vec<_> = files.iter().map(|(path, content)| (path.as_str(), content.as_slice())).collect();
        assert_eq!(files, [("a.json", &b"1"[..]), ("c.txt", b"text")]);
        assert_eq!(missing, ["b.txt: no response from the engine"]);
    }

    #[tokio::test]
    async fn hanging_commands_time_out() {
        let hangs = Part::new("a", async { std::future::pending::<anyhow::Result<String>>().await });
        let (files, missing) = collect(vec![hangs], Duration::from_millis(10)).await;
        assert!(files.is_empty());
        assert_eq!(missing, ["a: no response within 0.0 s"]);
    }

    #[test]
    fn existing_file_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(file(Some(folder.path()), "x").unwrap(), folder.path().join("x.tar.gz"));
        let path = folder.path().join("mine");
        std::fs::write(&path, "").unwrap();
        assert_eq!(file(Some(&path), "x").unwrap_err().kind, crate::base::error::Kind::Usage);
        assert_eq!(file(None, "x").unwrap(), Path::new("x.tar.gz"));
    }
}
