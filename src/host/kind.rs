//! The kind program: creates clusters and returns the addresses of their API servers. Everything else on nodes
//! goes through the engine's API.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::ContainerArchiveInfoOptionsBuilder;
use futures::future::try_join_all;
use kube::config::Kubeconfig;
use serde_json::Value;
use tokio::process::Command;
use tokio::time::Instant;

use crate::base::error::Error;
use crate::base::event::{Outcome, Step};
use crate::base::hint::{down_hint, up_hint};
use crate::base::wait::{self, Poll};
use crate::host::docker::{Engine, is_not_found, node};
use crate::host::state::{self, Files};
use crate::host::tool::process;
use crate::plan::inventory::Environment;
use crate::plan::{Cluster, Docker, KindCluster, image_names};
use crate::spec::Profile;

mod leftover;
mod nodes;

pub use leftover::end_leftovers;
pub use nodes::{Attached, remove_nodes, remove_strays};

/// Manifests that make CoreDNS start faster in a disposable cluster.
pub const COREDNS: &str = include_str!("../../kind-configs/coredns.yaml");
/// Settings for a built node image.
const PATCHES: &str = include_str!("../../kind-configs/patches.yaml");
/// A cluster's file with its kind configuration.
const CONFIG_FILE: &str = "kind.yaml";
/// How long kind may take for one cluster. Measured: 30 s; the rest is for a slow connection, since kind pulls
/// the node image.
const CREATE_TIMEOUT: Duration = Duration::from_secs(600);
/// How long kind may take for a query.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

/// The marker on a control plane that kind completed: a node without it is incomplete and is created again.
pub(super) const CREATED: &str = "/etc/kindmesh/created";

/// kind's role of a cluster's first node, in its label.
pub const CONTROL_PLANE: &str = "control-plane";

/// The inputs for creating clusters.
#[derive(Debug)]
pub struct Kind<'a> {
    /// The engine.
    pub engine: &'a Engine,
    /// The environment.
    pub environment: &'a str,
    /// The plan for the engine.
    pub docker: &'a Docker,
    /// The environment's files.
    pub files: &'a Files,
}

impl Kind<'_> {
    /// Starts the stopped or paused nodes of a cluster in the inventory, and returns the cluster's state. Nodes of an
    /// incomplete cluster are not started: it is created again.
    ///
    /// # Errors
    /// The engine's errors.
    pub async fn start(&self, cluster: &Cluster, have: &Environment) -> anyhow::Result<Existing> {
        let found = |name: &String| have.nodes_of(&cluster.name).find(|node| node.name == *name);
        let Some(nodes) = cluster.nodes().iter().map(found).collect::<Option<Vec<_>>>() else {
            return Ok(Existing::Incomplete);
        };
        if !is_finished(self.engine, cluster.kind()?.control_plane()).await? {
            return Ok(Existing::Incomplete);
        }
        let environment = self.environment;
        let anew = format!("recreate the environment: {}, then {}", down_hint(environment), up_hint(environment));
        let revived = try_join_all(nodes.into_iter().map(|node| node::start(self.engine, node, &anew))).await?;
        let changed = revived.contains(&true);
        Ok(if changed { Existing::Started } else { Existing::Running })
    }

    /// Creates a cluster with kind, all nodes from `node_image`; leftovers of an earlier attempt are removed first.
    ///
    /// # Errors
    /// kind's errors, with the end of its log and of the control plane's.
    pub async fn create(
        &self,
        cluster: &Cluster,
        kind: &Path,
        node_image: &str,
        step: &Step,
    ) -> anyhow::Result<()> {
        // Listed now: more may have been created since the inventory.
        let planned = cluster.kind()?;
        let ours = |node: &Attached| node.kind_name == planned.name;
        remove_nodes(self.engine, &self.docker.network.name, step, ours).await?;
        // kind adds to an existing file, and fails if a killed kind left a lock.
        for file in ["kubeconfig", "kubeconfig.lock"] {
            let _ = std::fs::remove_file(self.files.of_cluster(&cluster.name, file));
        }
        let config = self.write_config(cluster, node_image)?;
        let mut command = self.command(kind);
        command
            .args(["create", "cluster", "--retain", "--name", &planned.name, "--image", node_image])
            .arg("--config")
            .arg(&config)
            .arg("--kubeconfig")
            .arg(self.kubeconfig(&cluster.name));
        let log_path = self.files.of_cluster(&cluster.name, "kind.log");
        let log = state::begin_private(&log_path)?;
        if let Err(error) = process::run_apart(&mut command, CREATE_TIMEOUT, log).await {
            return Err(self.not_created(&cluster.name, planned, &log_path, error));
        }
        node::run(
            self.engine,
            planned.control_plane(),
            &["sh", "-c", &format!("mkdir -p /etc/kindmesh && touch {CREATED}")],
        )
        .await?;
        Ok(())
    }

    /// Writes the kind configuration of a cluster whose nodes run `node_image`, and returns its path.
    ///
    /// # Errors
    /// The file system's errors.
    pub fn write_config(&self, cluster: &Cluster, node_image: &str) -> anyhow::Result<PathBuf> {
        let path = self.files.of_cluster(&cluster.name, CONFIG_FILE);
        let mut config = cluster.kind()?.config.clone();
        if self.docker.profile == Profile::Disposable && image_names::is_built(node_image) {
            let mut patched: Value = serde_yaml::from_str(PATCHES)?;
            // Before the user's: the last one wins.
            let patches = patched["kubeadmConfigPatches"].as_array_mut();
            let existing = config["kubeadmConfigPatches"].as_array_mut();
            if let (Some(patches), Some(existing)) = (patches, existing) {
                existing.splice(0..0, patches.drain(..));
            }
        }
        state::write_private(&path, serde_yaml::to_string(&config)?.as_bytes())?;
        Ok(path)
    }

    fn not_created(
        &self,
        name: &str,
        planned: &KindCluster,
        log_path: &Path,
        error: anyhow::Error,
    ) -> anyhow::Error {
        let mut error = match error.downcast::<Error>() {
            Ok(error) => error,
            Err(other) => return other.context(format!("creating cluster {name} with kind")),
        };
        error.message = format!("kind did not create cluster {name}: {}", error.message);
        error = error.evidence(format!("kind's full log: {}", log_path.display()));
        let (up, down) = (up_hint(self.environment), down_hint(self.environment));
        let node = planned.control_plane();
        error
            .hint(format!(
                "the nodes are kept for inspection: docker logs {node}; then {up} retries, {down} deletes the environment"
            ))
            .into()
    }

    /// Ensures that the cluster's own kubeconfig exists and has the published port of the API server; otherwise
    /// kind writes it: the file may be from an earlier cluster.
    ///
    /// # Errors
    /// Errors of the engine or kind.
    pub async fn ensure_kubeconfig(
        &self,
        cluster: &Cluster,
        kind: impl AsyncFnOnce() -> anyhow::Result<PathBuf>,
    ) -> anyhow::Result<Outcome<PathBuf>> {
        let path = self.kubeconfig(&cluster.name);
        let planned = cluster.kind()?;
        let node = planned.control_plane();
        let container = self.engine.docker.inspect_container(node, None).await;
        let published = published_port(&container.with_context(|| format!("inspecting node {node}"))?);
        if published.is_some() && server_port(&path, &cluster.context) == published {
            return Ok(Outcome::unchanged(path));
        }
        let kind = kind().await?;
        let mut command = self.command(&kind);
        command.args(["get", "kubeconfig", "--name", &planned.name]);
        let output = process::run_within(&mut command, RESPONSE_TIMEOUT).await?;
        state::write_private(&path, &output.stdout)?;
        Ok(Outcome::changed(path))
    }

    /// Ensures that the cluster's own kubeconfig has the published port of the API server, which may be another one after a
    /// restart: without kind, since everything else in the file stays. Returns whether the port has changed.
    ///
    /// # Errors
    /// Errors of the engine, or if the file cannot be written.
    pub async fn follow_port(&self, cluster: &Cluster) -> anyhow::Result<bool> {
        let node = cluster.kind()?.control_plane();
        let container = self.engine.docker.inspect_container(node, None).await;
        let published = published_port(&container.with_context(|| format!("inspecting node {node}"))?);
        let path = self.kubeconfig(&cluster.name);
        let Some(moved) = published.and_then(|port| at_port(&path, &cluster.context, port)) else {
            return Ok(false);
        };
        state::write_private(&path, serde_yaml::to_string(&moved)?.as_bytes())?;
        Ok(true)
    }

    fn kubeconfig(&self, cluster: &str) -> PathBuf {
        self.files.of_cluster(cluster, "kubeconfig")
    }

    /// Returns a kind command for the engine and the network of this environment.
    fn command(&self, kind: &Path) -> Command {
        let mut command = Command::new(kind);
        self.engine.endpoint.select(&mut command);
        command
            .env("KIND_EXPERIMENTAL_PROVIDER", "docker")
            .env("KIND_EXPERIMENTAL_DOCKER_NETWORK", &self.docker.network.name);
        command
    }
}

/// Whether kind completed a cluster: its control plane has the marker. The marker is read through the engine, which
/// also works on a stopped node.
///
/// # Errors
/// The engine's errors.
pub async fn is_finished(engine: &Engine, control_plane: &str) -> anyhow::Result<bool> {
    let options = ContainerArchiveInfoOptionsBuilder::default().path(CREATED).build();
    match engine.docker.get_container_archive_info(control_plane, Some(options)).await {
        Ok(_) => Ok(true),
        Err(error) if is_not_found(&error) => Ok(false),
        Err(error) => Err(error).with_context(|| format!("inspecting node {control_plane}")),
    }
}

/// Ensures that a docker client is installed: kind does not work without it.
///
/// # Errors
/// A missing prerequisite.
pub fn require_docker_client() -> Result<(), Error> {
    docker_client_on(&std::env::var_os("PATH").unwrap_or_default())
}

fn docker_client_on(path: &OsStr) -> Result<(), Error> {
    let is_executable = |path: PathBuf| {
        std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    // Relative directories do not count, as in kind.
    let mut folders = std::env::split_paths(path).filter(|folder| folder.is_absolute());
    if folders.any(|folder| is_executable(folder.join("docker"))) {
        return Ok(());
    }
    let install = match cfg!(target_os = "macos") {
        true => "brew install docker",
        false => "sudo apt-get install docker-cli, or see https://docs.docker.com/engine/install/",
    };
    Err(Error::prerequisite("kind requires the docker client, but there is no docker on PATH")
        .hint(format!("install the client: {install}")))
}

/// Returns the host port on which a control plane's API server is published.
fn published_port(container: &ContainerInspectResponse) -> Option<u16> {
    let ports = container.network_settings.as_ref()?.ports.as_ref()?;
    ports.get("6443/tcp")?.as_ref()?.iter().find_map(|binding| binding.host_port.as_ref()?.parse().ok())
}

/// Returns the port of a context's server in a kubeconfig.
fn server_port(path: &Path, context: &str) -> Option<u16> {
    let config = Kubeconfig::read_from(path).ok()?;
    let context = config.contexts.into_iter().find(|named| named.name == context)?.context?;
    let cluster = config.clusters.into_iter().find(|named| named.name == context.cluster)?.cluster?;
    cluster.server?.parse::<http::Uri>().ok()?.port_u16()
}

/// Returns the kubeconfig with another port of a context's server; none if it has this port, or no such context.
fn at_port(path: &Path, context: &str, port: u16) -> Option<Kubeconfig> {
    server_port(path, context).filter(|has| *has != port)?;
    let mut config = Kubeconfig::read_from(path).ok()?;
    let name = config.contexts.iter().find(|named| named.name == context)?.context.as_ref()?.cluster.clone();
    let cluster = config.clusters.iter_mut().find(|named| named.name == name)?.cluster.as_mut()?;
    let server = cluster.server.as_ref()?.parse::<http::Uri>().ok()?;
    cluster.server = Some(format!("https://{}:{port}", server.host()?));
    Some(config)
}

/// The result for an existing cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// All its nodes were running.
    Running,
    /// Nodes had to be started.
    Started,
    /// Nodes are missing, or kind did not complete it.
    Incomplete,
}

/// Waits until the API server's Service responds on a node: through the link's rule, or through kube-proxy. An
/// istiod that starts earlier loses 30 s with its first connection.
///
/// # Errors
/// If it does not respond before the deadline.
pub async fn wait_for_api_service(
    engine: &Engine,
    cluster: &KindCluster,
    step: &Step,
    deadline: Instant,
) -> anyhow::Result<()> {
    let address = cluster.api_service();
    // Retried in the node: starting a command there takes longer than an attempt.
    let script = format!(
        "until timeout 1 bash -c '</dev/tcp/{address}/443' 2>/dev/null; do [ $SECONDS -lt 5 ] || exit 1; sleep 0.1; done"
    );
    wait::until(step, "the API server to respond at its Service address", deadline, async || {
        let said = node::try_exec(engine, cluster.control_plane(), &["bash", "-c", &script]).await?;
        Ok(match said.status {
            0 => Poll::Ready(()),
            _ => Poll::NotYet(format!("{address}:443 does not respond on {}", cluster.control_plane())),
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error;
    use serde_json::json;

    #[test]
    fn docker_client_is_a_prerequisite() {
        let folder = tempfile::tempdir().unwrap();
        let refused = docker_client_on(folder.path().as_os_str()).unwrap_err();
        assert_eq!(refused.kind, error::Kind::Prerequisite);
        assert!(refused.hint.is_some());
        let client = folder.path().join("docker");
        std::fs::write(&client, "").unwrap();
        assert!(docker_client_on(folder.path().as_os_str()).is_err());
        std::fs::set_permissions(&client, std::fs::Permissions::from_mode(0o755)).unwrap();
        docker_client_on(folder.path().as_os_str()).unwrap();
        assert!(docker_client_on(OsStr::new("bin:.")).is_err());
    }

    #[test]
    fn server_port_and_published_port_are_parsed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubeconfig");
        assert_eq!(server_port(&path, "kind-e-a"), None);
        let config = json!({
            "clusters": [{"name": "kind-e-a", "cluster": {"server": "https://127.0.0.1:46423"}}],
            "contexts": [{"name": "kind-e-a", "context": {"cluster": "kind-e-a", "user": "kind-e-a"}}],
        });
        std::fs::write(&path, config.to_string()).unwrap();
        assert_eq!(server_port(&path, "kind-e-a"), Some(46423));
        assert_eq!(server_port(&path, "kind-e-b"), None);
        assert!(at_port(&path, "kind-e-a", 46423).is_none(), "it has this port");
        assert!(at_port(&path, "kind-e-b", 1).is_none(), "there is no such context");
        let moved = at_port(&path, "kind-e-a", 40000).unwrap();
        assert_eq!(moved.clusters[0].cluster.as_ref().unwrap().server.as_deref(), Some("https://127.0.0.1:40000"));
        std::fs::write(&path, "no kubeconfig").unwrap();
        assert_eq!(server_port(&path, "kind-e-a"), None);

        let container = |ports: serde_json::Value| -> ContainerInspectResponse {
            serde_json::from_value(json!({"NetworkSettings": {"Ports": ports}})).unwrap()
        };
        let binding = json!({"6443/tcp": [{"HostIp": "127.0.0.1", "HostPort": "46423"}]});
        assert_eq!(published_port(&container(binding)), Some(46423));
        assert_eq!(published_port(&container(json!({"6443/tcp": null}))), None);
        assert_eq!(published_port(&container(json!({}))), None);
    }
}
