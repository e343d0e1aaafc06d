//! Containers that the engine may still be creating. It completes a request to create a container even if the client is gone, and
//! lists the container only then: what looks deleted would appear later.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::CreateContainerOptionsBuilder;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::base::event::Step;
use crate::base::wait::{self, Poll};
use crate::host::docker::{Engine, is_not_found, node, status};
use crate::host::state::{self, Files};
use crate::plan::inventory::KIND_CLUSTER_LABEL;

/// The file of a cluster whose containers are being created.
const FILE: &str = "creating.json";
/// How long the engine may take to create a container. Measured: 2 s on an idle host.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The containers of a cluster that are being created.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pending {
    /// kind's name of the cluster.
    pub kind_name: String,
    /// The image.
    pub image: String,
    /// The names.
    pub nodes: Vec<String>,
}

impl Pending {
    /// Runs work that creates these containers. If this process is killed or the work is dropped, [`settle`] waits for the engine.
    ///
    /// # Errors
    /// The work's errors, or the file system's.
    pub async fn during(
        &self,
        files: &Files,
        cluster: &str,
        work: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<()> {
        let path = files.of_cluster(cluster, FILE);
        state::write_private(&path, &serde_json::to_vec(self)?)?;
        work.await?;
        std::fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))
    }
}

/// Waits until the engine has created what a killed run of this environment requested. Under the lock, before the inventory.
///
/// # Errors
/// That a container is still not created in time; otherwise the errors of the engine and the file system.
pub async fn settle(engine: &Engine, files: &Files, step: &Step) -> anyhow::Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    for cluster in files.clusters() {
        let path = files.of_cluster(&cluster, FILE);
        let Ok(text) = std::fs::read(&path) else { continue };
        // An incomplete file was written before any request.
        if let Ok(pending) = serde_json::from_slice::<Pending>(&text) {
            for name in &pending.nodes {
                wait::until(step, &format!("node {name} to be created"), deadline, async || {
                    Ok(match is_settled(engine, name, &pending).await? {
                        true => Poll::Ready(()),
                        false => Poll::NotYet("the engine is creating it for an earlier run".into()),
                    })
                })
                .await?;
            }
        }
        std::fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
    }
    Ok(())
}

/// Whether a container exists, or none is being created: then its name is free, which only a request can tell.
async fn is_settled(engine: &Engine, name: &str, pending: &Pending) -> anyhow::Result<bool> {
    match engine.docker.inspect_container(name, None).await {
        Ok(_) => return Ok(true),
        Err(error) if is_not_found(&error) => {}
        Err(error) => return Err(error).with_context(|| format!("looking for container {name}")),
    }
    let body = ContainerCreateBody {
        image: Some(pending.image.clone()),
        labels: Some(HashMap::from([(KIND_CLUSTER_LABEL.to_owned(), pending.kind_name.clone())])),
        ..ContainerCreateBody::default()
    };
    let options = CreateContainerOptionsBuilder::default().name(name).build();
    match engine.docker.create_container(Some(options), body).await {
        Ok(_) => node::remove(engine, name).await.map(|()| true),
        // Without the image, nothing is being created from it.
        Err(error) if is_not_found(&error) => Ok(true),
        Err(error) if status(&error) == Some(409) => Ok(false),
        Err(error) => Err(error).with_context(|| format!("looking for container {name}")),
    }
}
