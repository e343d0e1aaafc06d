//! Nodes: containers that kind made. Commands in them, files into them, and their removal.

use anyhow::Context;
use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecResults};
use bollard::query_parameters::{RemoveContainerOptionsBuilder, UploadToContainerOptionsBuilder};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::io::AsyncWriteExt;

use super::{Engine, engine, is_not_found};
use crate::error::Error;

/// What a command in a node said.
#[derive(Debug, Clone)]
pub struct Said {
    /// Its exit status.
    pub status: i64,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// Runs a command in a node and gives what it said, whatever its exit status.
///
/// # Errors
/// The engine's own.
pub async fn try_exec(engine: &Engine, node: &str, command: &[&str]) -> anyhow::Result<Said> {
    let (said, fed) = exec(engine, node, command, futures::stream::empty::<Result<Bytes, std::io::Error>>()).await?;
    fed?;
    Ok(said)
}

/// Runs a command in a node that must succeed; gives its standard output.
///
/// # Errors
/// The engine's own, or the command's exit status with what it said.
pub async fn run(engine: &Engine, node: &str, command: &[&str]) -> anyhow::Result<String> {
    checked(node, command, try_exec(engine, node, command).await?)
}

/// Runs a command in a node that must succeed, with `input` as its standard input.
///
/// # Errors
/// The engine's own, the input's, or the command's exit status with what it said.
pub async fn run_with_input<E: std::error::Error + Send + Sync + 'static>(
    engine: &Engine,
    node: &str,
    command: &[&str],
    input: impl Stream<Item = Result<Bytes, E>>,
) -> anyhow::Result<String> {
    let (said, fed) = exec(engine, node, command, input).await?;
    // A command that fails closes its input: its own words come first.
    let out = checked(node, command, said)?;
    fed?;
    Ok(out)
}

fn checked(node: &str, command: &[&str], said: Said) -> anyhow::Result<String> {
    if said.status == 0 {
        return Ok(said.stdout);
    }
    Err(Error::environment(format!("a command in node {node} failed with status {}", said.status))
        .evidence(format!("docker exec {node} {}", command.join(" ")))
        .evidence(format!("{}{}", said.stdout, said.stderr))
        .into())
}

async fn exec<E: std::error::Error + Send + Sync + 'static>(
    engine: &Engine,
    node: &str,
    command: &[&str],
    input: impl Stream<Item = Result<Bytes, E>>,
) -> anyhow::Result<(Said, anyhow::Result<()>)> {
    let what = || format!("running {} in node {node}", command.first().copied().unwrap_or_default());
    let options = CreateExecOptions {
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(command.to_vec()),
        ..CreateExecOptions::default()
    };
    let id = engine.docker.create_exec(node, options).await.with_context(what)?.id;
    let started = engine.docker.start_exec(&id, None).await.with_context(what)?;
    let StartExecResults::Attached { mut output, input: mut stdin } = started else {
        anyhow::bail!("the engine detached from a command in node {node}");
    };
    let feed = async {
        let mut input = std::pin::pin!(input);
        while let Some(chunk) = input.next().await {
            stdin.write_all(&chunk?).await?;
        }
        stdin.shutdown().await?;
        anyhow::Ok(())
    };
    let read = async {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        while let Some(chunk) = output.next().await {
            match chunk? {
                LogOutput::StdErr { message } => stderr.extend_from_slice(&message),
                other => stdout.extend_from_slice(&other.into_bytes()),
            }
        }
        anyhow::Ok((stdout, stderr))
    };
    let (fed, read) = futures::join!(feed, read);
    let (stdout, stderr) = read.with_context(what)?;
    let status = engine.docker.inspect_exec(&id).await.with_context(what)?.exit_code.unwrap_or_default();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let said = Said { status, stdout: text(stdout), stderr: text(stderr) };
    Ok((said, fed.with_context(what)))
}

/// A file to be put on a node.
#[derive(Debug, Clone)]
pub struct NodeFile {
    /// Its absolute path.
    pub path: &'static str,
    /// Its content.
    pub content: Vec<u8>,
    /// Its permissions.
    pub mode: u32,
}

/// Puts files on a node, owned by root, missing folders included.
///
/// # Errors
/// The engine's own.
pub async fn put(engine: &Engine, node: &str, files: &[NodeFile]) -> anyhow::Result<()> {
    let mut archive = tar::Builder::new(Vec::new());
    for file in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(file.content.len() as u64);
        header.set_mode(file.mode);
        header.set_uid(0);
        header.set_gid(0);
        archive.append_data(&mut header, file.path.trim_start_matches('/'), file.content.as_slice())?;
    }
    let options = UploadToContainerOptionsBuilder::default().path("/").build();
    let body = bollard::body_full(archive.into_inner()?.into());
    engine
        .docker
        .upload_to_container(node, Some(options), body)
        .await
        .with_context(|| format!("putting files on node {node}"))
}

/// Removes a node with its anonymous volumes, running or not; one that is gone is fine.
///
/// # Errors
/// The engine's own.
pub async fn remove(engine: &Engine, node: &str) -> anyhow::Result<()> {
    let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    match engine.docker.remove_container(node, Some(options)).await {
        Err(error) if !is_not_found(&error) => {
            Err(Error::environment(format!("node {node} could not be removed"))
                .evidence(engine::chain(&error))
                .hint(format!("docker rm -fv {node}"))
                .into())
        }
        _ => Ok(()),
    }
}
