//! kind survives a killed kindmesh and continues to create nodes. It is found without a record: its command line
//! names a file of the environment.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::CONFIG_FILE;
use crate::base::blocking::elsewhere;
use crate::base::error::Error;
use crate::base::event::Step;
use crate::base::names;
use crate::base::wait::{self, Poll};
use crate::host::state::Files;
use crate::host::tool::process::{self, Process};
use crate::plan::inventory::KIND_CLUSTER_LABEL;

/// How long the engine may take for nodes that were already requested. Measured: 5 s on a busy host.
const CREATE_TIMEOUT: Duration = Duration::from_secs(120);

/// Stops what a killed `up` left running for an environment, before the inventory.
///
/// kind itself is killed. The docker clients that it started are waited for: the engine completes a request to
/// create a container even if the client exits, and lists the container only then. So the list is complete
/// when every client has exited by itself.
///
/// # Errors
/// If a client does not exit.
pub async fn end_leftovers(environment: &str, files: &Files, step: &Step) -> anyhow::Result<()> {
    let clusters = files.clusters();
    if clusters.is_empty() {
        return Ok(());
    }
    let config = |cluster: &String| files.of_cluster(cluster, CONFIG_FILE).to_string_lossy().into_owned();
    let label = |cluster: &String| format!("{KIND_CLUSTER_LABEL}={}", names::kind_name(environment, cluster));
    let leftovers = Arc::new(Leftovers {
        configs: clusters.iter().map(config).collect(),
        labels: clusters.iter().map(label).collect(),
    });
    let deadline = Instant::now() + CREATE_TIMEOUT;
    let mut clients = Vec::new();
    let mut noted = false;
    let ended = wait::until(step, "an earlier kind to exit", deadline, async || {
        let leftovers = leftovers.clone();
        let (kinds, found) = elsewhere(move || Ok(leftovers.kill_kinds())).await?;
        clients = found;
        if !kinds.is_empty() && !std::mem::replace(&mut noted, true) {
            step.note("stopped kind, which was still running after kindmesh was killed");
        }
        Ok(match (kinds.first(), clients.first()) {
            (None, None) => Poll::Ready(()),
            (Some(kind), _) => Poll::NotYet(format!("kind (process {kind}) is still running")),
            (None, Some(client)) => Poll::NotYet(format!("docker run (process {client}) is creating a node")),
        })
    });
    ended.await.map_err(|error| match (error.downcast::<Error>(), clients.first()) {
        (Ok(error), Some(client)) => error.hint(format!("if the engine responds, stop it: kill {client}")).into(),
        (Ok(error), None) => error.into(),
        (Err(error), _) => error,
    })
}

/// How processes that work on an environment are identified.
struct Leftovers {
    /// The paths of kind's configurations.
    configs: Vec<String>,
    /// The nodes' labels.
    labels: Vec<String>,
}

impl Leftovers {
    /// Kills every kind process; returns them, and the processes that ask the engine to create nodes. Blocks:
    /// there may be thousands of processes.
    fn kill_kinds(&self) -> (Vec<u32>, Vec<u32>) {
        let processes = process::all();
        let of = |is: &dyn Fn(&Process) -> bool| -> Vec<u32> {
            processes.iter().filter(|process| is(process)).map(|process| process.pid).collect()
        };
        let kinds = of(&|process| self.creates(process));
        kinds.iter().for_each(|kind| process::kill(*kind));
        (kinds, of(&|process| self.makes_node(process)))
    }

    /// Whether a process is kind with one of the configurations.
    fn creates(&self, process: &Process) -> bool {
        let words = &process.arguments;
        // Some systems split the command line at spaces, so all of it is searched.
        let line = words.join(" ");
        words.windows(2).any(|pair| pair == ["create", "cluster"])
            && self.configs.iter().any(|config| line.contains(&format!("--config {config}")))
    }

    /// Whether a process asks the engine to create a node with one of the labels.
    fn makes_node(&self, process: &Process) -> bool {
        process.arguments.iter().any(|word| self.labels.contains(word))
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::base::blocking::waits_for_a_thread;
    use crate::base::event::Events;
    use crate::host::state;

    #[test]
    fn listing_processes_does_not_block_the_runtime() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files { root: folder.path().join("e") };
        state::write_private(&files.of_cluster("a", CONFIG_FILE), b"x").unwrap();
        let step = Events::silent().step("lock", None);
        waits_for_a_thread(end_leftovers("e", &files, &step)).unwrap();
    }

    #[tokio::test]
    async fn killed_kind_is_stopped_and_docker_clients_awaited() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files { root: folder.path().join("e") };
        let config = files.of_cluster("a", CONFIG_FILE);
        state::write_private(&config, b"x").unwrap();
        let shell = |arguments: &[&str]| {
            // Each waits until its input is closed.
            let mut command = Command::new("sh");
            command.args(["-c", "read line; exit 0", "sh"]).args(arguments).stdin(Stdio::piped()).spawn().unwrap()
        };
        let config = config.to_str().unwrap();
        let mut kind = shell(&["create", "cluster", "--name", "e-a", "--config", config]);
        let mut editor = shell(&["--config", config]);
        let mut client = shell(&["run", "--label", "io.x-k8s.kind.cluster=e-a"]);
        let mut other = shell(&["run", "--label", "io.x-k8s.kind.cluster=e-b"]);

        let step = Events::silent().step("lock", None);
        let mut ended = std::pin::pin!(end_leftovers("e", &files, &step));
        let waited = tokio::select! {
            _ = &mut ended => false,
            () = async {
                while kind.try_wait().unwrap().is_none() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            } => true,
        };
        assert!(waited && client.try_wait().unwrap().is_none());
        drop(client.stdin.take());
        client.wait().unwrap();
        ended.await.unwrap();
        for child in [&mut editor, &mut other] {
            assert!(child.try_wait().unwrap().is_none());
            drop(child.stdin.take());
            child.wait().unwrap();
        }
    }
}
