//! Runs child processes so that a failure can be understood, and typed again.

use std::{
    ffi::OsStr,
    fmt,
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

use crate::error::Error;

/// How much of a child's output an error shows.
const EVIDENCE_LINES: usize = 20;

/// Runs the command to its end, with nothing on its standard input; it is killed when the future is dropped.
///
/// # Errors
/// When it cannot be started or does not succeed: the command line as a shell takes it, the exit status, and
/// the last lines it wrote. Command lines and output are shown to the user: keep secrets out of both.
pub async fn run(command: &mut Command) -> anyhow::Result<Output> {
    run_for(command, None).await
}

/// The same, but it is killed and counts as failed when it takes longer than `limit`.
///
/// # Errors
/// As [`run`].
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
        // It may be gone already; and what it wrote so far says more than a failure to kill it.
        let _ = child.kill().await;
        return Err(too_long(&line, limit.unwrap_or_default()).evidence(last_lines(&stdout, &stderr)).into());
    };
    let (status, ..) = finished.with_context(|| format!("failed to wait for `{line}`"))?;
    if !status.success() {
        return Err(failed(&line, status).evidence(last_lines(&stdout, &stderr)).into());
    }
    Ok(Output { status, stdout, stderr })
}

/// Runs a command that starts others, which must not go on without it: in a process group of its own, which is killed
/// as a whole when the command fails, takes longer than `limit`, or the future is dropped. All that they write goes to
/// `log`. `record` is told the command's process as soon as it runs: when this process is killed, the group goes on,
/// and another can end it with [`Process::kill_group`].
///
/// # Errors
/// As [`run`], and `record`'s own.
pub async fn run_group(
    command: &mut Command,
    limit: Duration,
    mut log: File,
    record: impl FnOnce(&Process) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let line = command_line(command);
    let (stdout, stderr) = (log.try_clone()?, log.try_clone()?);
    command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).process_group(0).kill_on_drop(true);
    let mut child = spawn(command).await.map_err(|error| not_started(&line, &error))?;
    let mut group = Group(child.id());
    if let Some(process) = child.id().and_then(Process::of) {
        record(&process)?;
    }
    let ended = timeout(limit, child.wait()).await;
    let error = match ended {
        Ok(status) => match status.with_context(|| format!("failed to wait for `{line}`"))? {
            status if status.success() => {
                group.0 = None;
                return Ok(());
            }
            status => failed(&line, status),
        },
        Err(_) => too_long(&line, limit),
    };
    drop(group);
    // What it wrote says more than a failure to wait for the end of what was killed.
    let _ = child.wait().await;
    let mut written = Vec::new();
    let _ = log.rewind().and_then(|()| log.read_to_end(&mut written));
    Err(error.evidence(last_lines(&written, &[])).into())
}

/// The process group of a command that has not ended well yet.
struct Group(Option<u32>);

impl Drop for Group {
    /// Does what a `Drop` should not do, to run a program: Ctrl-C ends a command by dropping its future, the terminal
    /// does not reach a group of its own, and there is no other place left to stop what would go on making nodes.
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            kill_group(leader);
        }
    }
}

fn failed(line: &str, status: std::process::ExitStatus) -> Error {
    Error::environment(format!("`{line}` failed with {status}"))
}

fn too_long(line: &str, limit: Duration) -> Error {
    Error::environment(format!("`{line}` did not finish within {} seconds", limit.as_secs_f64()))
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

/// A process that can be named in a file: numbers of processes are used again, so it is known by its number and its
/// beginning together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pid: u32,
    /// In a form that only serves to compare.
    started: String,
}

impl Process {
    /// The process of that number, if there is one.
    pub fn of(pid: u32) -> Option<Self> {
        Some(Self { pid, started: look(pid)?.started })
    }

    /// Reads what [`Display`](fmt::Display) writes.
    pub fn parse(text: &str) -> Option<Self> {
        let (pid, started) = text.split_once(' ')?;
        let (pid, started) = (pid.parse().ok()?, started.to_owned());
        (!started.is_empty()).then_some(Self { pid, started })
    }

    /// Whether it is still there, dead and not yet waited for included: then its number is not used again.
    pub fn is_there(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }

    /// Whether it can still do anything.
    pub fn runs(&self) -> bool {
        look(self.pid).is_some_and(|seen| seen.started == self.started && !seen.dead)
    }

    /// Kills it with its process group, which it has to lead. Look first whether [it is there](Self::is_there).
    pub fn kill_group(&self) {
        kill_group(self.pid);
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.pid, self.started)
    }
}

struct Seen {
    started: String,
    /// Ended, and not waited for.
    dead: bool,
}

fn look(pid: u32) -> Option<Seen> {
    if cfg!(target_os = "linux") {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name before it, in parentheses, may hold anything; the state is the third field, the start time the
        // 22nd, in ticks since the machine began.
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        return Some(Seen { started: (*fields.get(19)?).to_owned(), dead: matches!(fields[0], "Z" | "X") });
    }
    let output = std::process::Command::new("ps")
        .args(["-o", "stat=", "-o", "lstart=", "-p", &pid.to_string()])
        .env("LC_ALL", "C")
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let (state, started) = text.split_once(' ')?;
    Some(Seen { started: started.trim().to_owned(), dead: state.starts_with('Z') })
}

/// Kills a process group and its leader. One that is gone already is as well.
fn kill_group(leader: u32) {
    // 0 would be our own group, and 1 every process there is.
    if leader < 2 {
        return;
    }
    // The shell's own `kill`: without unsafe code and without another dependency. Some shells take a group only in
    // this form; and an older kindmesh started kind without a group of its own.
    let command = format!("kill -s KILL -- -{leader} {leader}");
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
    use std::path::{Path, PathBuf};

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

    /// A command that starts a child, says its number, and waits for it.
    fn parent(dir: &Path) -> (Command, PathBuf) {
        let said = dir.join("child");
        let mut command = shell("sleep 1000 & echo $! >\"$1.new\"; mv \"$1.new\" \"$1\"; echo begun; wait");
        command.arg("sh").arg(&said);
        (command, said)
    }

    async fn child_of(said: &Path) -> Process {
        let text = loop {
            match std::fs::read_to_string(said) {
                Ok(text) => break text,
                Err(_) => sleep(Duration::from_millis(5)).await,
            }
        };
        Process::of(text.trim().parse().unwrap()).unwrap()
    }

    async fn ended(process: &Process) {
        while process.runs() {
            sleep(Duration::from_millis(5)).await;
        }
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_recorded_group_can_be_ended_by_another() {
        let dir = tempfile::tempdir().unwrap();
        let (mut command, said) = parent(dir.path());
        let recorded = dir.path().join("pid");
        let end = async {
            let child = child_of(&said).await;
            let leader = Process::parse(&std::fs::read_to_string(&recorded).unwrap()).unwrap();
            assert!(leader.is_there() && leader.runs());
            leader.kill_group();
            child
        };
        let record = |process: &Process| Ok(std::fs::write(&recorded, process.to_string())?);
        let run = run_group(&mut command, LONG, tempfile::tempfile().unwrap(), record);
        let (result, child) = tokio::join!(run, end);
        let error = result.unwrap_err();
        assert!(error.to_string().contains("SIGKILL"), "{error}");
        assert_eq!(error::find(&error).unwrap().evidence, ["begun"]);
        ended(&child).await;
        assert!(!Process::parse(&std::fs::read_to_string(&recorded).unwrap()).unwrap().is_there());
    }

    #[tokio::test]
    async fn a_group_does_not_outlive_its_future() {
        let dir = tempfile::tempdir().unwrap();
        let (mut command, said) = parent(dir.path());
        let run = run_group(&mut command, LONG, tempfile::tempfile().unwrap(), |_| Ok(()));
        let child = tokio::select! {
            _ = run => panic!("it ended by itself"),
            child = child_of(&said) => child,
        };
        ended(&child).await;
    }

    #[tokio::test]
    async fn a_group_that_fails_or_takes_too_long_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = shell("sleep 1000 & echo $! >\"$1\"; echo why >&2; exit 3");
        command.arg("sh").arg(dir.path().join("child"));
        let error = run_group(&mut command, LONG, tempfile::tempfile().unwrap(), |_| Ok(())).await.unwrap_err();
        assert!(error.to_string().ends_with("failed with exit status: 3"), "{error}");
        assert_eq!(error::find(&error).unwrap().evidence, ["why"]);
        let child = std::fs::read_to_string(dir.path().join("child")).unwrap();
        if let Some(child) = Process::of(child.trim().parse().unwrap()) {
            ended(&child).await;
        }

        let dir = tempfile::tempdir().unwrap();
        let (mut command, said) = parent(dir.path());
        let limit = Duration::from_secs(1);
        let run = run_group(&mut command, limit, tempfile::tempfile().unwrap(), |_| Ok(()));
        let (result, child) = tokio::join!(run, child_of(&said));
        let error = result.unwrap_err();
        assert!(error.to_string().ends_with("did not finish within 1 seconds"), "{error}");
        ended(&child).await;
    }

    #[tokio::test]
    async fn what_cannot_be_recorded_does_not_run_on() {
        let mut seen = None;
        let record = |process: &Process| {
            seen = Some(process.clone());
            anyhow::bail!("no space left")
        };
        let mut command = shell("sleep 1000");
        let error = run_group(&mut command, LONG, tempfile::tempfile().unwrap(), record).await.unwrap_err();
        assert_eq!(error.to_string(), "no space left");
        ended(&seen.unwrap()).await;
    }

    #[test]
    fn a_process_is_known_by_its_number_and_its_beginning() {
        let own = Process::of(std::process::id()).unwrap();
        assert_eq!(Process::parse(&own.to_string()), Some(own.clone()));
        assert!(own.runs());
        let earlier = Process { started: "1".into(), ..own };
        assert!(!earlier.is_there() && !earlier.runs());
        assert_eq!(Process::of(u32::MAX), None);
        for wrong in ["", "17", "17 ", "x 17", "-1 17"] {
            assert_eq!(Process::parse(wrong), None, "{wrong}");
        }
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
