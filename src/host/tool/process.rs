//! Runs child processes, with errors that show the command line for a shell.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read, Seek},
    process::{Output, Stdio},
    time::Duration,
};

use anyhow::Context;
use tokio::{
    io::AsyncReadExt,
    process::{Child, Command},
    time::{sleep, timeout},
};

use crate::base::counts;
use crate::base::error::Error;

/// How much of a child's output an error shows.
const EVIDENCE_LINES: usize = 20;

/// Runs the command to completion, without standard input; it is killed when the future is dropped.
///
/// # Errors
/// If it cannot be started or does not succeed: the command line for a shell, the exit status, and the last lines
/// of its output. Users see command lines and output: keep secrets out of both.
pub async fn run(command: &mut Command) -> anyhow::Result<Output> {
    run_for(command, None).await
}

/// Runs the command like [`run`], but kills it and fails if it takes longer than `limit`.
///
/// # Errors
/// As for [`run`].
pub async fn run_within(command: &mut Command, limit: Duration) -> anyhow::Result<Output> {
    run_for(command, Some(limit)).await
}

async fn run_for(command: &mut Command, limit: Option<Duration>) -> anyhow::Result<Output> {
    let line = command_line(command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = spawn(command).await.map_err(|error| not_started(&line, &error))?;

    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let finished = {
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let (mut out, mut err) = (out.context("no standard output")?, err.context("no standard error")?);
        let work =
            async { tokio::try_join!(child.wait(), out.read_to_end(&mut stdout), err.read_to_end(&mut stderr)) };
        match limit {
            Some(limit) => timeout(limit, work).await,
            None => Ok(work.await),
        }
    };
    let Ok(finished) = finished else {
        // It may have exited already. Its output says more than an error from killing it.
        let _ = child.kill().await;
        return Err(too_long(&line, limit.unwrap_or_default()).evidence(last_lines(&stdout, &stderr)).into());
    };
    let (status, ..) = finished.with_context(|| format!("failed to wait for `{line}`"))?;
    if !status.success() {
        return Err(failed(&line, status).evidence(last_lines(&stdout, &stderr)).into());
    }
    Ok(Output { status, stdout, stderr })
}

/// Runs a command that starts other processes, with all output going to `log`; it is killed if it takes longer
/// than `limit` or the future is dropped.
///
/// It has its own process group, so that a terminal's Ctrl-C does not reach the other processes: their requests to
/// the engine would be completed anyway, and their exit shows when they are ([`all`]).
///
/// # Errors
/// As for [`run`].
pub async fn run_apart(command: &mut Command, limit: Duration, mut log: File) -> anyhow::Result<()> {
    let line = command_line(command);
    let (stdout, stderr) = (log.try_clone()?, log.try_clone()?);
    command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).process_group(0).kill_on_drop(true);
    let mut child = spawn(command).await.map_err(|error| not_started(&line, &error))?;
    let error = match timeout(limit, child.wait()).await {
        Ok(status) => match status.with_context(|| format!("failed to wait for `{line}`"))? {
            status if status.success() => return Ok(()),
            status => failed(&line, status),
        },
        Err(_) => {
            // It may have exited already. Its output says more than an error from killing it.
            let _ = child.kill().await;
            too_long(&line, limit)
        }
    };
    let mut written = Vec::new();
    let _ = log.rewind().and_then(|()| log.read_to_end(&mut written));
    Err(error.evidence(last_lines(&written, &[])).into())
}

fn failed(line: &str, status: std::process::ExitStatus) -> Error {
    Error::environment(format!("`{line}` failed with {status}"))
}

fn too_long(line: &str, limit: Duration) -> Error {
    Error::environment(format!("`{line}` did not finish within {} s", limit.as_secs_f64()))
}

/// Starts the command. A newly written executable counts as open for writing while another thread is between fork and
/// exec, and cannot be started; that is temporary.
async fn spawn(command: &mut Command) -> io::Result<Child> {
    counts::process();
    for _ in 0..50 {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                sleep(Duration::from_millis(20)).await;
            }
            result => return result,
        }
    }
    command.spawn()
}

fn not_started(line: &str, error: &io::Error) -> Error {
    let message = format!("`{line}` cannot be started: {error}");
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => Error::prerequisite(message),
        _ => Error::environment(message),
    }
}

/// A process on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its ID, which is reused some time after it has exited.
    pub pid: u32,
    /// Its command line. If only its text is available, it is split at every space.
    pub arguments: Vec<String>,
}

/// Returns the running processes on this host, as far as they are visible.
pub fn all() -> Vec<Process> {
    if cfg!(target_os = "linux") {
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        return entries.filter_map(|entry| look(entry.file_name().to_str()?.parse().ok()?)).collect();
    }
    let output = std::process::Command::new("ps").args(["-A", "-ww", "-o", "pid=", "-o", "args="]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let words = text.lines().map(|line| line.split_whitespace().map(str::to_owned));
    words
        .filter_map(|mut words| Some(Process { pid: words.next()?.parse().ok()?, arguments: words.collect() }))
        .collect()
}

/// Returns a process, unless it is a zombie, which has no command line.
fn look(pid: u32) -> Option<Process> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok().filter(|line| !line.is_empty())?;
    let line = line.strip_suffix(b"\0").unwrap_or(&line);
    let arguments = line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    Some(Process { pid, arguments })
}

/// Kills a process. An exited process is not an error.
pub fn kill(pid: u32) {
    // The shell's own `kill`: without unsafe code and without another dependency.
    let command = format!("kill -s KILL {pid}");
    let _ = std::process::Command::new("sh").args(["-c", &command]).stderr(Stdio::null()).status();
}

/// Returns the last lines of standard error, or else of standard output.
fn last_lines(stdout: &[u8], stderr: &[u8]) -> String {
    let text = [stderr, stdout]
        .into_iter()
        .map(|output| String::from_utf8_lossy(output).trim_end().to_owned())
        .find(|text| !text.is_empty())
        .unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(EVIDENCE_LINES)..].join("\n")
}

/// Returns the command line to paste into a shell, with its variables and its directory.
pub fn command_line(command: &Command) -> String {
    let command = command.as_std();
    let mut words = Vec::new();
    if let Some(directory) = command.get_current_dir() {
        words.extend(["cd".to_owned(), quote(directory.as_os_str()), "&&".to_owned()]);
    }
    if command.get_envs().any(|(_, value)| value.is_none()) {
        words.push("env".to_owned());
        let removed = command.get_envs().filter(|(_, value)| value.is_none());
        words.extend(removed.flat_map(|(name, _)| ["-u".to_owned(), quote(name)]));
    }
    let set = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
    words.extend(set.map(|(name, value)| format!("{}={}", name.to_string_lossy(), quote(value))));
    words.push(quote(command.get_program()));
    words.extend(command.get_args().map(quote));
    words.join(" ")
}

fn quote(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::{self, Kind};

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn output_is_kept() {
        let output = run(&mut shell("echo out; echo err >&2; cat")).await.unwrap();
        assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
    }

    #[tokio::test]
    async fn a_failure_shows_what_happened() {
        let error = run(&mut shell("seq 100 >&2; exit 3")).await.unwrap_err();
        let error = error::find(&error).unwrap();
        assert_eq!(error.kind, Kind::Environment);
        assert_eq!(error.message, "`sh -c 'seq 100 >&2; exit 3'` failed with exit status: 3");
        assert_eq!(error.evidence.len(), EVIDENCE_LINES);
        assert_eq!(error.evidence.last().unwrap(), "100");

        let error = run(&mut shell("echo only here; kill -9 $$")).await.unwrap_err();
        let error = error::find(&error).unwrap();
        assert!(error.message.contains("SIGKILL"), "{}", error.message);
        assert_eq!(error.evidence, ["only here"]);
    }

    #[tokio::test]
    async fn missing_engine_is_a_prerequisite() {
        let error = run(&mut Command::new("/nonexistent/kind")).await.unwrap_err();
        assert_eq!(error::exit_code(&error), 4);
        assert!(error.to_string().contains("/nonexistent/kind"), "{error}");
    }

    #[tokio::test]
    async fn timed_out_command_is_killed_and_its_output_shown() {
        // `read` from a pipe without a writer: it waits forever without a sleep.
        let script = "mkfifo \"$1\"; echo stuck >&2; exec cat \"$1\"";
        let dir = tempfile::tempdir().unwrap();
        let mut command = shell(script);
        command.arg("sh").arg(dir.path().join("pipe"));
        let error = run_within(&mut command, Duration::from_secs(2)).await.unwrap_err();
        let error = error::find(&error).unwrap();
        assert!(error.message.ends_with("did not finish within 2 s"), "{}", error.message);
        assert_eq!(error.evidence, ["stuck"]);
    }

    const LONG: Duration = Duration::from_secs(60);

    async fn found(argument: &str) -> Process {
        loop {
            match all().into_iter().find(|process| process.arguments.iter().any(|word| word == argument)) {
                Some(process) => return process,
                None => sleep(Duration::from_millis(5)).await,
            }
        }
    }

    async fn gone(pid: u32) {
        while all().iter().any(|process| process.pid == pid) {
            sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn process_is_found_by_argument_and_killed() {
        // `read` from a pipe without a writer: it waits forever without a sleep.
        let dir = tempfile::tempdir().unwrap();
        let mut command = shell("mkfifo \"$2\"; read line <\"$2\"");
        command.args(["sh", "--of-this-test=killed"]).arg(dir.path().join("pipe"));
        let end = async { kill(found("--of-this-test=killed").await.pid) };
        let (result, ()) = tokio::join!(run_apart(&mut command, LONG, tempfile::tempfile().unwrap()), end);
        let error = result.unwrap_err();
        assert!(error.to_string().contains("SIGKILL"), "{error}");
    }

    #[tokio::test]
    async fn separate_command_ends_with_its_future_but_its_children_may_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut command =
            shell("mkfifo \"$2/pipe\"; sh -c 'read line <\"$1/pipe\"' sh \"$2\" --of-this-test=child & wait");
        command.args(["sh", "--of-this-test=parent"]).arg(dir.path());
        let run = run_apart(&mut command, LONG, tempfile::tempfile().unwrap());
        let (parent, child) = tokio::select! {
            _ = run => panic!("it exited by itself"),
            both = async { (found("--of-this-test=parent").await, found("--of-this-test=child").await) } => both,
        };
        gone(parent.pid).await;
        assert!(all().contains(&child));
        kill(child.pid);
        gone(child.pid).await;
    }

    #[tokio::test]
    async fn separate_command_shows_both_outputs_in_order() {
        let script = "echo one; echo two >&2; echo three; exit 3";
        let error = run_apart(&mut shell(script), LONG, tempfile::tempfile().unwrap()).await.unwrap_err();
        assert!(error.to_string().ends_with("failed with exit status: 3"), "{error}");
        assert_eq!(error::find(&error).unwrap().evidence, ["one", "two", "three"]);

        let dir = tempfile::tempdir().unwrap();
        let mut command = shell("mkfifo \"$1\"; echo stuck; exec cat \"$1\"");
        command.arg("sh").arg(dir.path().join("pipe"));
        let run = run_apart(&mut command, Duration::from_secs(1), tempfile::tempfile().unwrap());
        let error = run.await.unwrap_err();
        assert!(error.to_string().ends_with("did not finish within 1 s"), "{error}");
        assert_eq!(error::find(&error).unwrap().evidence, ["stuck"]);
    }

    #[test]
    fn command_lines_can_be_pasted() {
        let mut command = Command::new("/opt/my tools/kind");
        command.args(["create", "--name=a", "", "it's"]).env("KUBECONFIG", "/tmp/k c").current_dir("/tmp");
        let line = r"cd /tmp && KUBECONFIG='/tmp/k c' '/opt/my tools/kind' create --name=a '' 'it'\''s'";
        assert_eq!(command_line(&command), line);
        let mut command = Command::new("kind");
        command.env_remove("DOCKER_CONTEXT").env("A", "b");
        assert_eq!(command_line(&command), "env -u DOCKER_CONTEXT A=b kind");
    }
}
