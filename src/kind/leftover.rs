//! kind outlives a kindmesh that is killed, and goes on making nodes. Its process is written down, so that the next
//! command can end it.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::event::Events;
use crate::state::{self, Files};
use crate::tool::process::Process;

/// The file of a cluster that names its kind.
pub(super) const PID_FILE: &str = "kind.pid";

/// How long what was killed may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(5);
/// The engine carries a request to make a container to its end when the one who asked is gone, and lists the container
/// only then; nothing tells that it is doing so. Making one takes a tenth of this on an idle machine.
const ENGINE_SETTLES: Duration = Duration::from_secs(2);

/// Writes down a kind that was just started. In place, since no time may be lost: a process that is killed before this
/// is done leaves a kind that nobody knows of.
pub(super) fn record(pid_file: &Path, process: &Process) -> anyhow::Result<()> {
    Ok(state::begin_private(pid_file)?.write_all(process.to_string().as_bytes())?)
}

/// Ends what a killed `up` left running for an environment, before anybody looks at what there is.
pub async fn end_leftovers(files: &Files, events: &Events) {
    let clusters = files.clusters();
    let ended: Vec<_> = clusters.iter().filter_map(|cluster| end(&files.of_cluster(cluster, PID_FILE))).collect();
    if ended.is_empty() {
        return;
    }
    events.note("kind was still running for a kindmesh that was killed: ended it");
    let deadline = Instant::now() + GONE_WITHIN;
    while ended.iter().any(Process::runs) && Instant::now() < deadline {
        sleep(Duration::from_millis(20)).await;
    }
    sleep(ENGINE_SETTLES).await;
}

/// Ends the process that a pid file names with all that it started, if it is still that process.
fn end(pid_file: &Path) -> Option<Process> {
    let text = std::fs::read_to_string(pid_file).ok()?;
    let there = Process::parse(&text).filter(Process::is_there);
    if let Some(process) = &there {
        process.kill_group();
    }
    let _ = std::fs::remove_file(pid_file);
    there
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    use super::*;

    #[tokio::test]
    async fn only_the_process_that_was_recorded_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files { root: folder.path().to_owned() };
        let mut child = Command::new("sleep").arg("1000").process_group(0).spawn().unwrap();
        let process = Process::of(child.id()).unwrap();

        let pid_file = files.of_cluster("a", PID_FILE);
        state::write_private(&pid_file, format!("{} 1", child.id()).as_bytes()).unwrap();
        end_leftovers(&files, &Events::silent()).await;
        assert!(process.runs() && !pid_file.exists());

        record(&pid_file, &process).unwrap();
        end_leftovers(&files, &Events::silent()).await;
        assert!(!process.runs() && !pid_file.exists());
        assert!(!child.wait().unwrap().success());
    }
}
