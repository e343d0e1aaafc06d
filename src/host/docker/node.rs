//! Nodes: containers that kind created. Running commands, copying files, pausing, stopping and removing them.

use std::io::Write;
use std::pin::Pin;
use std::time::Duration;

use anyhow::Context;
use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecResults};
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder, StopContainerOptionsBuilder,
    UploadToContainerOptionsBuilder,
};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::{Engine, engine, is_not_found};
use crate::base::error::Error;
use crate::host::tool::process;
use crate::plan::inventory;

/// The result of a command in a node.
#[derive(Debug, Clone)]
pub struct Said {
    /// Its exit status.
    pub status: i64,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// How long a command without input may take: such commands read a file, query systemd or list images.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the engine is asked for the exit status of a command whose output has ended.
const EXIT_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Runs a command in a node and returns its result, whatever its exit status.
///
/// # Errors
/// The engine's errors, or that the command does not exit within 30 s.
pub async fn try_exec(engine: &Engine, node: &str, command: &[&str]) -> anyhow::Result<Said> {
    let nothing = None::<futures::stream::Empty<Result<Bytes, std::io::Error>>>;
    let work = exec(engine, node, command, nothing, None);
    tokio::time::timeout(COMMAND_TIMEOUT, work).await.map_err(|_| not_exited(node, command, COMMAND_TIMEOUT))?
}

fn not_exited(node: &str, command: &[&str], timeout: Duration) -> Error {
    Error::environment(format!("a command in node {node} did not exit within {} s", timeout.as_secs()))
        .evidence(shown(node, command))
        .hint(format!("check what keeps the node busy: docker top {node}"))
}

/// Runs a command in a node that must succeed; returns its standard output.
///
/// # Errors
/// The engine's errors, that the command does not exit within 30 s, or its exit status with its output.
pub async fn run(engine: &Engine, node: &str, command: &[&str]) -> anyhow::Result<String> {
    checked(node, command, try_exec(engine, node, command).await?)
}

/// Runs a command in a node that must succeed, with `input` as its standard input, without a timeout.
///
/// # Errors
/// Errors of the engine or the input, or the command's exit status with its output.
pub async fn run_with_input<E: std::error::Error + Send + Sync + 'static>(
    engine: &Engine,
    node: &str,
    command: &[&str],
    input: impl Stream<Item = Result<Bytes, E>>,
) -> anyhow::Result<String> {
    checked(node, command, exec(engine, node, command, Some(input), None).await?)
}

/// Runs a command in a node that must succeed, and writes its standard output to `sink`. The sink's writes block, so it
/// should be a file.
///
/// # Errors
/// Errors of the engine or the sink, that the command does not exit in time, or its exit status with its output.
pub async fn run_into(
    engine: &Engine,
    node: &str,
    command: &[&str],
    sink: &mut (dyn Write + Send),
    timeout: Duration,
) -> anyhow::Result<()> {
    let nothing = None::<futures::stream::Empty<Result<Bytes, std::io::Error>>>;
    let work = exec(engine, node, command, nothing, Some(sink));
    let said = tokio::time::timeout(timeout, work).await.map_err(|_| not_exited(node, command, timeout))??;
    checked(node, command, said).map(drop)
}

fn checked(node: &str, command: &[&str], said: Said) -> anyhow::Result<String> {
    if said.status == 0 {
        return Ok(said.stdout);
    }
    Err(Error::environment(format!("a command in node {node} failed with status {}", said.status))
        .evidence(shown(node, command))
        .evidence(said.stdout)
        .evidence(said.stderr)
        .into())
}

/// Returns the command line to paste into a shell.
fn shown(node: &str, command: &[&str]) -> String {
    process::command_line(tokio::process::Command::new("docker").args(["exec", node]).args(command))
}

async fn exec<E: std::error::Error + Send + Sync + 'static>(
    engine: &Engine,
    node: &str,
    command: &[&str],
    input: Option<impl Stream<Item = Result<Bytes, E>>>,
    mut sink: Option<&mut (dyn Write + Send)>,
) -> anyhow::Result<Said> {
    let what = || format!("running {} in node {node}", command.first().copied().unwrap_or_default());
    let options = CreateExecOptions {
        attach_stdin: Some(input.is_some()),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(command.to_vec()),
        ..CreateExecOptions::default()
    };
    let id = engine.docker.create_exec(node, options).await.with_context(what)?.id;
    let started = engine.docker.start_exec(&id, None).await.with_context(what)?;
    let StartExecResults::Attached { mut output, input: stdin } = started else {
        anyhow::bail!("the engine detached from a command in node {node}");
    };
    let read = async {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        while let Some(chunk) = output.next().await {
            match chunk? {
                LogOutput::StdErr { message } => stderr.extend_from_slice(&message),
                other => match &mut sink {
                    Some(sink) => sink.write_all(&other.into_bytes()).context("writing its output")?,
                    None => stdout.extend_from_slice(&other.into_bytes()),
                },
            }
        }
        anyhow::Ok((stdout, stderr))
    };
    let (fed, read) = match input {
        Some(input) => futures::join!(feed(stdin, input), read),
        None => (Ok(()), read.await),
    };
    let (stdout, stderr) = read.with_context(what)?;
    let status = exit_status(engine, &id).await.with_context(what)?;
    // With incomplete input, the command's exit status is meaningless.
    fed.with_context(what)?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Said { status, stdout: text(stdout), stderr: text(stderr) })
}

/// Writes a command's standard input and closes it, also after an error: otherwise the command would wait forever,
/// since dropping one half of the connection does not close it. If the command itself stops reading (a tar reader
/// stops at the end marker), that is not an error; its exit status shows whether it received enough.
async fn feed<E: std::error::Error + Send + Sync + 'static>(
    mut stdin: Pin<Box<dyn AsyncWrite + Send>>,
    input: impl Stream<Item = Result<Bytes, E>>,
) -> anyhow::Result<()> {
    let write = async {
        let mut input = std::pin::pin!(input);
        while let Some(chunk) = input.next().await {
            let chunk = chunk.context("reading its input")?;
            if let Err(error) = stdin.write_all(&chunk).await {
                return accept_closed(error);
            }
        }
        anyhow::Ok(())
    };
    let written = write.await;
    let closed = stdin.shutdown().await.or_else(accept_closed);
    written.and(closed)
}

fn accept_closed<E: From<std::io::Error>>(error: std::io::Error) -> Result<(), E> {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected};
    match error.kind() {
        BrokenPipe | ConnectionReset | NotConnected => Ok(()),
        _ => Err(error.into()),
    }
}

/// Returns the exit status of a command whose output has ended: the engine may record it slightly later.
async fn exit_status(engine: &Engine, id: &str) -> anyhow::Result<i64> {
    loop {
        let command = engine.docker.inspect_exec(id).await?;
        match (command.running, command.exit_code) {
            (Some(true), _) => tokio::time::sleep(EXIT_POLL_INTERVAL).await,
            (_, Some(status)) => return Ok(status),
            (_, None) => anyhow::bail!("the engine did not report its exit status"),
        }
    }
}

/// A file to copy to a node.
#[derive(Debug, Clone)]
pub struct NodeFile {
    /// Its absolute path.
    pub path: &'static str,
    /// Its content.
    pub content: Vec<u8>,
    /// Its permissions.
    pub mode: u32,
}

/// Copies files to a node, owned by root, and creates missing directories.
///
/// # Errors
/// The engine's errors.
pub async fn copy_files(engine: &Engine, node: &str, files: &[NodeFile]) -> anyhow::Result<()> {
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
        .with_context(|| format!("copying files to node {node}"))
}

/// Copies one large file of `size` bytes to a node as `path`, readable by root only.
///
/// # Errors
/// Errors of the engine or the file system.
pub async fn copy_file(
    engine: &Engine,
    node: &str,
    path: &str,
    size: u64,
    content: impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static,
) -> anyhow::Result<()> {
    let what = || format!("copying {path} to node {node}");
    let mut header = tar::Header::new_gnu();
    header.set_path(path.trim_start_matches('/')).with_context(what)?;
    header.set_size(size);
    header.set_mode(0o600);
    header.set_cksum();
    // Content is padded to whole blocks, and two empty blocks end the archive.
    let padding = usize::try_from(size.next_multiple_of(TAR_BLOCK) - size).unwrap_or_default();
    let end = vec![0; padding + 2 * TAR_BLOCK as usize];
    let part = |bytes: Vec<u8>| futures::stream::iter([Ok(Bytes::from(bytes))]);
    let archive = part(header.as_bytes().to_vec()).chain(content).chain(part(end));
    extract(engine, node, archive).await.with_context(what)
}

/// The size of a block in a tar archive, in bytes.
const TAR_BLOCK: u64 = 512;

/// Extracts a tar archive in the root directory of a node, which need not run. Its volumes are mounted.
///
/// # Errors
/// Errors of the engine or of the archive's source.
pub async fn extract(
    engine: &Engine,
    node: &str,
    archive: impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static,
) -> anyhow::Result<()> {
    let options = UploadToContainerOptionsBuilder::default().path("/").build();
    let body = bollard::body_try_stream(archive);
    engine.docker.upload_to_container(node, Some(options), body).await.context("extracting an archive")
}

/// Creates a container for a node, without starting it.
///
/// # Errors
/// The engine's errors.
pub async fn create(engine: &Engine, name: &str, body: ContainerCreateBody) -> anyhow::Result<()> {
    let options = CreateContainerOptionsBuilder::default().name(name).build();
    let created = engine.docker.create_container(Some(options), body).await;
    created.map(drop).with_context(|| format!("creating node {name}"))
}

/// How long reading a node's output may take.
const LOG_TIMEOUT: Duration = Duration::from_secs(5);

/// Returns the last lines of a node's output; none if the node does not exist, or no output arrives.
pub async fn log(engine: &Engine, node: &str, lines: usize) -> Vec<String> {
    let options = LogsOptionsBuilder::default().stdout(true).stderr(true).tail(&lines.to_string()).build();
    let mut log = engine.docker.logs(node, Some(options));
    let mut text = Vec::new();
    let read = async {
        while let Some(Ok(part)) = log.next().await {
            text.extend_from_slice(&part.into_bytes());
        }
    };
    // On timeout, what has arrived is returned.
    let _ = tokio::time::timeout(LOG_TIMEOUT, read).await;
    let text = String::from_utf8_lossy(&text);
    let said: Vec<_> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    said[said.len().saturating_sub(lines)..].iter().map(|line| (*line).to_owned()).collect()
}

/// Pauses a running node.
///
/// # Errors
/// The engine's errors.
pub async fn pause(engine: &Engine, node: &str) -> anyhow::Result<()> {
    let paused = engine.docker.pause_container(node).await;
    paused.map_err(|error| refused(node, "be paused", &error, format!("check why: docker pause {node}")).into())
}

/// Stops a node, paused or not. Its pods are killed after ten seconds.
///
/// # Errors
/// The engine's errors.
pub async fn stop(engine: &Engine, node: &str) -> anyhow::Result<()> {
    let options = StopContainerOptionsBuilder::default().t(STOP_TIMEOUT).build();
    let stopped = engine.docker.stop_container(node, Some(options)).await;
    stopped.map_err(|error| refused(node, "be stopped", &error, format!("check why: docker stop {node}")).into())
}

/// How long a node may take to exit before it is killed, in seconds: Docker's default.
const STOP_TIMEOUT: i32 = 10;

/// Kills a node: its processes get no time to end, as when a machine loses its power.
///
/// # Errors
/// The engine's errors.
pub async fn kill(engine: &Engine, node: &str) -> anyhow::Result<()> {
    let killed = engine.docker.kill_container(node, None).await;
    killed.map_err(|error| refused(node, "be killed", &error, format!("check why: docker kill {node}")).into())
}

/// Whether a node runs, as far as the engine reports it.
pub async fn is_running(engine: &Engine, node: &str) -> bool {
    let found = engine.docker.inspect_container(node, None).await.ok().and_then(|found| found.state);
    found.is_some_and(|state| state.running == Some(true) && state.paused != Some(true))
}

/// Starts a paused or stopped node; returns whether that was necessary. `remedy` is the hint if it cannot start.
///
/// # Errors
/// The engine's errors.
pub async fn start(engine: &Engine, node: &inventory::Node, remedy: &str) -> anyhow::Result<bool> {
    let revived = match node.state.as_str() {
        "running" => return Ok(false),
        "paused" => engine.docker.unpause_container(&node.name).await,
        _ => engine.docker.start_container(&node.name, None).await,
    };
    let hint = || format!("check why: docker logs --tail 20 {}; or {remedy}", node.name);
    match revived {
        Ok(()) => Ok(true),
        Err(error) => {
            Err(refused(&node.name, &format!("be started: it is {}", node.state), &error, hint()).into())
        }
    }
}

/// Returns how long ago a node was started, if the engine reports it.
pub async fn runs_for(engine: &Engine, node: &str) -> Option<Duration> {
    let state = engine.docker.inspect_container(node, None).await.ok()?.state?;
    let started = state.started_at?.parse::<jiff::Timestamp>().ok()?;
    // The engine's clock may be ahead of the host's.
    Some(Duration::try_from(jiff::Timestamp::now().duration_since(started)).unwrap_or_default())
}

fn refused(node: &str, what: &str, error: &bollard::errors::Error, hint: String) -> Error {
    Error::environment(format!("node {node} cannot {what}")).evidence(engine::chain(error)).hint(hint)
}

/// Removes a node with its anonymous volumes, running or not; a missing node is not an error.
///
/// # Errors
/// The engine's errors.
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

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;
    use std::io;
    use tokio::io::AsyncReadExt;

    fn chunks(items: Vec<Result<&'static str, io::Error>>) -> impl Stream<Item = Result<Bytes, io::Error>> {
        stream::iter(items.into_iter().map(|item| item.map(Bytes::from)))
    }

    #[tokio::test]
    async fn command_input_is_closed_after_a_failure() {
        let (ours, mut commands) = tokio::io::duplex(64);
        let input = chunks(vec![Ok("begin "), Err(io::Error::other("disk gone")), Ok("end")]);
        let mut got = String::new();
        // The other half stays open, as the one for output does: only a shutdown ends the input.
        let (_output, stdin) = tokio::io::split(ours);
        let (fed, read) = futures::join!(feed(Box::pin(stdin), input), commands.read_to_string(&mut got));
        read.unwrap();
        assert_eq!(got, "begin ");
        assert!(format!("{:#}", fed.unwrap_err()).contains("disk gone"));
    }

    #[tokio::test]
    async fn a_command_may_stop_reading() {
        let (ours, commands) = tokio::io::duplex(64);
        drop(commands);
        feed(Box::pin(ours), chunks(vec![Ok("a"), Ok("b")])).await.unwrap();
    }
}
