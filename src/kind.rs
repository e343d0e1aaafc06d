//! The kind program: creates clusters and says where their API servers are. Everything else about nodes goes
//! through the engine.

use std::path::{Path, PathBuf};

use anyhow::Context;
use tokio::process::Command;
use tokio::time::Instant;

use crate::docker::{Engine, node};
use crate::error::Error;
use crate::event::{Outcome, Step};
use crate::inventory::Environment;
use crate::plan::{Cluster, Plan};
use crate::state::{self, Files};
use crate::tool::process;
use crate::wait::{self, Poll};

/// The marker on a control plane that kind finished: a node without it is half-made and is made anew.
const CREATED: &str = "/etc/kindmesh/created";

/// What creating clusters depends on.
#[derive(Debug)]
pub struct Kind<'a> {
    /// The engine.
    pub engine: &'a Engine,
    /// The plan.
    pub plan: &'a Plan,
    /// The environment's files.
    pub files: &'a Files,
}

impl Kind<'_> {
    /// Whether a cluster of the inventory is whole and its nodes run; when they are merely stopped or paused
    /// they are started.
    ///
    /// # Errors
    /// The engine's.
    pub async fn revive(&self, cluster: &Cluster, have: &Environment) -> anyhow::Result<Revived> {
        let mut changed = false;
        for name in &cluster.nodes {
            let Some(node) = have.nodes_of(&cluster.name).find(|node| &node.name == name) else {
                return Ok(Revived::HalfMade);
            };
            match node.state.as_str() {
                "running" => continue,
                "paused" => self.engine.docker.unpause_container(name).await,
                _ => self.engine.docker.start_container(name, None).await,
            }
            .with_context(|| format!("starting node {name}"))?;
            changed = true;
        }
        let said = node::try_exec(self.engine, cluster.control_plane(), &["test", "-e", CREATED]).await?;
        Ok(match (said.status, changed) {
            (0, true) => Revived::Started,
            (0, false) => Revived::Running,
            _ => Revived::HalfMade,
        })
    }

    /// Creates a cluster with kind; what is left of an earlier try is removed first.
    ///
    /// # Errors
    /// kind's, with the end of its log.
    pub async fn create(&self, cluster: &Cluster, have: &Environment, kind: &Path) -> anyhow::Result<()> {
        self.end_leftover(&cluster.name);
        for left in have.nodes_of(&cluster.name) {
            node::remove(self.engine, &left.name).await?;
        }
        let config = self.files.of_cluster(&cluster.name, "kind.yaml");
        state::write_private(&config, serde_yaml::to_string(&cluster.kind_config)?.as_bytes())?;
        let mut command = self.command(kind);
        command
            .args(["create", "cluster", "--retain", "--name", &cluster.kind_name, "--config"])
            .arg(&config)
            .arg("--kubeconfig")
            .arg(self.kubeconfig(&cluster.name));
        let pid_file = self.files.of_cluster(&cluster.name, "kind.pid");
        let record = |pid: u32| {
            // Without its start time a number could by then belong to another process.
            let started = process::start_time(pid).unwrap_or_default();
            state::write_private(&pid_file, format!("{pid} {started}").as_bytes()).map(drop)
        };
        let result = process::run_recorded(&mut command, record).await;
        let _ = std::fs::remove_file(&pid_file);
        if let Err(error) = result {
            let hint = format!(
                "the nodes are kept for a look: docker logs {}; then kindmesh up tries anew, kindmesh down removes them",
                cluster.control_plane()
            );
            return Err(with_hint(error, hint));
        }
        node::run(self.engine, cluster.control_plane(), &["sh", "-c", &format!("mkdir -p /etc/kindmesh && touch {CREATED}")])
            .await?;
        Ok(())
    }

    /// Makes sure that the cluster's own kubeconfig file is there; asked of kind again when it was lost.
    ///
    /// # Errors
    /// kind's.
    pub async fn ensure_kubeconfig(
        &self,
        cluster: &Cluster,
        kind: impl AsyncFnOnce() -> anyhow::Result<PathBuf>,
    ) -> anyhow::Result<Outcome<PathBuf>> {
        let path = self.kubeconfig(&cluster.name);
        if path.exists() {
            return Ok(Outcome::unchanged(path));
        }
        let kind = kind().await?;
        let mut command = self.command(&kind);
        command.args(["get", "kubeconfig", "--name", &cluster.kind_name]);
        let output = process::run(&mut command).await?;
        state::write_private(&path, &output.stdout)?;
        Ok(Outcome::changed(path))
    }

    fn kubeconfig(&self, cluster: &str) -> PathBuf {
        self.files.of_cluster(cluster, "kubeconfig")
    }

    /// kind with the engine and the network of this environment.
    fn command(&self, kind: &Path) -> Command {
        let mut command = Command::new(kind);
        command
            .envs(self.engine.endpoint.variables())
            .env_remove("DOCKER_CONTEXT")
            .env("KIND_EXPERIMENTAL_PROVIDER", "docker")
            .env("KIND_EXPERIMENTAL_DOCKER_NETWORK", &self.plan.network.name);
        command
    }

    /// Ends a kind that a killed run left behind: it would go on working on nodes that are made anew.
    fn end_leftover(&self, cluster: &str) {
        end_leftover(&self.files.of_cluster(cluster, "kind.pid"));
    }
}

/// Ends the process that a pid file names, if it is still that process.
pub fn end_leftover(pid_file: &Path) {
    let Ok(text) = std::fs::read_to_string(pid_file) else { return };
    let Some((pid, started)) = text.split_once(' ') else { return };
    let Ok(pid) = pid.parse::<u32>() else { return };
    if !started.is_empty() && process::start_time(pid).as_deref() == Some(started) {
        process::kill(pid);
    }
    let _ = std::fs::remove_file(pid_file);
}

/// What became of a cluster that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revived {
    /// All its nodes ran.
    Running,
    /// Nodes had to be started.
    Started,
    /// Nodes are missing, or kind never finished.
    HalfMade,
}

fn with_hint(error: anyhow::Error, hint: String) -> anyhow::Error {
    match error.downcast::<Error>() {
        Ok(found) => found.hint(hint).into(),
        Err(other) => other,
    }
}

/// Waits until a Service address answers on a node: from then on kube-proxy has written its rules. istiod started
/// earlier loses 30 s in its first connection.
///
/// # Errors
/// When it does not within the deadline.
pub async fn wait_for_kube_proxy(engine: &Engine, cluster: &Cluster, step: &Step, deadline: Instant) -> anyhow::Result<()> {
    // The API server's own Service has the first address of the subnet.
    let address = cluster.service_subnet.hosts().next().unwrap_or(cluster.service_subnet.network());
    let script = format!("timeout 1 bash -c '</dev/tcp/{address}/443'");
    wait::until(step, "kube-proxy to serve Service addresses", deadline, async || {
        let said = node::try_exec(engine, cluster.control_plane(), &["bash", "-c", &script]).await?;
        Ok(match said.status {
            0 => Poll::Ready(()),
            _ => Poll::NotYet(format!("{address}:443 does not answer on {}", cluster.control_plane())),
        })
    })
    .await
}
