//! The nodes of kind clusters on a network: found without the network's labels, and removed until none is left.

use std::time::Duration;

use anyhow::Context;
use bollard::models::{ContainerSummary, ContainerSummaryStateEnum};
use bollard::query_parameters::ListContainersOptionsBuilder;
use futures::future::try_join_all;
use tokio::time::Instant;

use crate::base::error::{self, Error};
use crate::base::event::Step;
use crate::base::names;
use crate::base::wait::{self, Poll};
use crate::host::docker::{Engine, is_not_found, node};
use crate::plan::inventory::KIND_CLUSTER_LABEL;

/// How often nodes are listed again after the existing ones were removed.
const ROUNDS: usize = 3;
/// How long the engine may take for a removal that was already in progress.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(60);

/// A node of a kind cluster that is attached to a network, or will be when it starts: a created container also
/// names its network, even if that no longer exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// The container's name.
    pub name: String,
    /// kind's name of its cluster.
    pub kind_name: String,
    /// Whether it was created but never ran.
    pub created: bool,
}

impl Attached {
    fn read(container: &ContainerSummary, network: &str) -> Option<Self> {
        let kind_name = container.labels.as_ref()?.get(KIND_CLUSTER_LABEL)?.clone();
        let name = container.names.iter().flatten().next()?.trim_start_matches('/').to_owned();
        let created = container.state == Some(ContainerSummaryStateEnum::CREATED);
        let attached = container.network_settings.as_ref()?.networks.as_ref()?.contains_key(network);
        attached.then_some(Self { name, kind_name, created })
    }
}

async fn attached_to(engine: &Engine, network: &str) -> anyhow::Result<Vec<Attached>> {
    let filters = [("label".to_owned(), vec![KIND_CLUSTER_LABEL.to_owned()])].into();
    let all = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let containers = engine.docker.list_containers(Some(all)).await.context("listing the engine's nodes")?;
    Ok(containers.iter().filter_map(|container| Attached::read(container, network)).collect())
}

/// Removes the matching nodes on a network, and lists them again until none is left. Returns whether there were any.
///
/// # Errors
/// The engine's errors, or that nodes keep appearing.
pub async fn remove_nodes(
    engine: &Engine,
    network: &str,
    step: &Step,
    ours: impl Fn(&Attached) -> bool,
) -> anyhow::Result<bool> {
    let look = async || {
        let attached = attached_to(engine, network).await?;
        anyhow::Ok(attached.into_iter().filter(|node| ours(node)).map(|node| node.name).collect::<Vec<_>>())
    };
    let mut nodes = look().await?;
    let any = !nodes.is_empty();
    for _ in 0..ROUNDS {
        if nodes.is_empty() {
            return Ok(any);
        }
        try_join_all(nodes.iter().map(|node| remove(engine, node, step))).await?;
        nodes = look().await?;
    }
    if nodes.is_empty() {
        return Ok(any);
    }
    Err(Error::environment(format!("nodes keep appearing on network {network}: {}", nodes.join(", ")))
        .hint("another program creates them: find the kind process with ps ax, stop it, and try again")
        .into())
}

/// Removes nodes of an environment whose network no longer exists: only stopped containers can outlive it. Does
/// nothing if a network of that name exists: then the network determines the nodes' owner.
///
/// # Errors
/// The engine's errors.
pub async fn remove_strays(
    engine: &Engine,
    environment: &str,
    step: &Step,
    which: impl Fn(&Attached) -> bool,
) -> anyhow::Result<bool> {
    let network = names::network_name(environment);
    match engine.docker.inspect_network(&network, None).await {
        Err(error) if is_not_found(&error) => {}
        Err(error) => return Err(error).with_context(|| format!("inspecting network {network}")),
        Ok(_) => return Ok(false),
    }
    let any_cluster = names::kind_name(environment, "");
    remove_nodes(engine, &network, step, |node| node.kind_name.starts_with(&any_cluster) && which(node)).await
}

async fn remove(engine: &Engine, name: &str, step: &Step) -> anyhow::Result<()> {
    let Err(error) = node::remove(engine, name).await else { return Ok(()) };
    // The engine's message if a killed command has already requested the removal.
    let under_way = |line: &String| line.contains("already in progress");
    if !error::find(&error).is_some_and(|error| error.evidence.iter().any(under_way)) {
        return Err(error);
    }
    wait::until(step, "the engine to remove a node", Instant::now() + REMOVAL_TIMEOUT, async || {
        match engine.docker.inspect_container(name, None).await {
            Err(error) if is_not_found(&error) => Ok(Poll::Ready(())),
            _ => Ok(Poll::NotYet(format!("{name} still exists"))),
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn node_on_the_network_is_read_with_its_cluster() {
        let container = |state: &str| -> ContainerSummary {
            let value = json!({"Names": ["/node"], "State": state, "Labels": {KIND_CLUSTER_LABEL: "e-a"},
                "NetworkSettings": {"Networks": {"kindmesh-e": {}}}});
            serde_json::from_value(value).unwrap()
        };
        let node = Attached { name: "node".into(), kind_name: "e-a".into(), created: true };
        assert_eq!(Attached::read(&container("created"), "kindmesh-e"), Some(node.clone()));
        let ran = Attached { created: false, ..node };
        assert_eq!(Attached::read(&container("exited"), "kindmesh-e"), Some(ran));
        assert_eq!(Attached::read(&container("running"), "kind"), None);
        assert_eq!(Attached::read(&ContainerSummary::default(), "kindmesh-e"), None);
    }
}
