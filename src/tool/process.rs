//! Runs child processes so that a failure can be understood, and typed again.

use std::{
    ffi::OsStr,
    io,
    process::{Output, Stdio},
    time::Duration,
};

use anyhow::Context;
use tokio::{
    io::AsyncReadExt,
    process::{Child, Command},
    time::{sleep, timeout},
};

use crate::error::Error;

/// How much of a child's output an error shows.
const EVIDENCE_LINES: usize = 20;

/// Runs the command to its end, with nothing on its standard input; it is killed when the future is dropped.
///
/// # Errors
/// When it cannot be started or does not succeed: the command line as a shell takes it, the exit status, and
/// the last lines it wrote. Command lines and output are shown to the user: keep secrets out of both.
pub async fn run(command: &mut Command) -> anyhow::Result<Output> {
    run_for(command, None, |_| Ok(())).await
}

/// The same, and `record` is told the process's number as soon as it runs. A command that is killed leaves
/// its child behind, and the next command can end it: see [`start_time`] and [`kill`].
///
/// # Errors
/// As [`run`], and `record`'s own, after which the child is killed.
pub async fn run_recorded(
    command: &mut Command,
    record: impl FnOnce(u32) -> anyhow::Result<()>,
) -> anyhow::Result<Output> {
    run_for(command, None, record).await
}

/// The same, but it is killed and counts as failed when it takes longer than `limit`.
///
/// # Errors
/// As [`run`].
pub async fn run_within(command: &mut Command, limit: Duration) -> anyhow::Result<Output> {
    run_for(command, Some(limit), |_| Ok(())).await
}

async fn run_for(
    command: &mut Command,
    limit: Option<Duration>,
    record: impl FnOnce(u32) -> anyhow::Result<()>,
) -> anyhow::Result<Output> {
    let line = command_line(command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = spawn(command).await.map_err(|error| not_started(&line, &error))?;
    if let Some(pid) = child.id() {
        record(pid)?;
    }

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
        // It may be gone already; and what it wrote so far says more than a failure to kill it.
        let _ = child.kill().await;
        let limit = limit.unwrap_or_default().as_secs_f64();
        return Err(Error::environment(format!("`{line}` did not finish within {limit} seconds"))
            .evidence(last_lines(&stdout, &stderr))
            .into());
    };
    let (status, ..) = finished.with_context(|| format!("failed to wait for `{line}`"))?;
    if !status.success() {
        return Err(Error::environment(format!("`{line}` failed with {status}"))
            .evidence(last_lines(&stdout, &stderr))
            .into());
    }
    Ok(Output { status, stdout, stderr })
}

/// An executable that was written a moment ago counts as open for writing while another thread is between
/// fork and exec, and cannot be started; that passes.
async fn spawn(command: &mut Command) -> io::Result<Child> {
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

/// When a process began, in a form that only serves to compare; none if there is no such process. Numbers of
/// processes are used again: only both together name one.
pub fn start_time(pid: u32) -> Option<String> {
    if cfg!(target_os = "linux") {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name before it, in parentheses, may hold anything; the start time is the 22nd field, in ticks
        // since the machine began.
        let (_, fields) = stat.rsplit_once(')')?;
        return fields.split_whitespace().nth(19).map(str::to_owned);
    }
    let output = std::process::Command::new("ps").args(["-o", "lstart=", "-p", &pid.to_string()]).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned()).filter(|text| !text.is_empty())
}

/// Kills a process. One that is gone already is as well.
pub fn kill(pid: u32) {
    // The shell's own `kill`: without unsafe code and without another dependency.
    let command = format!("kill -KILL {pid}");
    let _ = std::process::Command::new("sh").args(["-c", &command]).stderr(Stdio::null()).status();
}

/// The end of what it said about the failure: on standard error, or where it said anything at all.
fn last_lines(stdout: &[u8], stderr: &[u8]) -> String {
    let text = [stderr, stdout]
        .into_iter()
        .map(|output| String::from_utf8_lossy(output).trim_end().to_owned())
        .find(|text| !text.is_empty())
        .unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(EVIDENCE_LINES)..].join("\n")
}

/// The command as one can paste it into a shell, with the variables and the directory that were set for it.
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
    use crate::error::{self, Kind};

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
    async fn what_is_missing_is_a_prerequisite() {
        let error = run(&mut Command::new("/nonexistent/kind")).await.unwrap_err();
        assert_eq!(error::exit_code(&error), 4);
        assert!(error.to_string().contains("/nonexistent/kind"), "{error}");
    }

    #[tokio::test]
    async fn what_takes_too_long_is_killed_and_shows_what_it_wrote() {
        // `read` from a pipe that nobody writes to: it waits for ever without a sleep.
        let script = "mkfifo \"$1\"; echo stuck >&2; exec cat \"$1\"";
        let dir = tempfile::tempdir().unwrap();
        let mut command = shell(script);
        command.arg("sh").arg(dir.path().join("pipe"));
        let error = run_within(&mut command, Duration::from_secs(2)).await.unwrap_err();
        let error = error::find(&error).unwrap();
        assert!(error.message.ends_with("did not finish within 2 seconds"), "{}", error.message);
        assert_eq!(error.evidence, ["stuck"]);
    }

    #[tokio::test]
    async fn a_recorded_process_can_be_ended_by_another() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = shell("mkfifo \"$1\"; exec cat \"$1\"");
        command.arg("sh").arg(dir.path().join("pipe"));
        let mut seen = None;
        let error = run_recorded(&mut command, |pid| {
            seen = start_time(pid);
            kill(pid);
            Ok(())
        })
        .await
        .unwrap_err();
        assert!(seen.is_some_and(|time| !time.is_empty()));
        assert!(error.to_string().contains("SIGKILL"), "{error}");

        let own = std::process::id();
        assert_eq!(start_time(own), start_time(own));
        assert_eq!(start_time(u32::MAX), None);
    }

    #[tokio::test]
    async fn what_cannot_be_recorded_does_not_run_on() {
        let record = |_| anyhow::bail!("no space left");
        let error = run_recorded(&mut shell("read line"), record).await.unwrap_err();
        assert_eq!(error.to_string(), "no space left");
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
