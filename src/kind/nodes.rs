//! The nodes of kind clusters on a network: found without the network's labels, and removed until there are none.

use std::time::Duration;

use anyhow::Context;
use bollard::models::ContainerSummary;
use bollard::query_parameters::ListContainersOptionsBuilder;
use futures::future::try_join_all;
use tokio::time::Instant;

use crate::docker::{Engine, is_not_found, node};
use crate::error::{self, Error};
use crate::event::Step;
use crate::inventory::KIND_CLUSTER_LABEL;
use crate::wait::{self, Poll};

/// How often nodes are looked for again after those that were there have been removed.
const ROUNDS: usize = 3;
/// How long the engine may take for a removal that somebody else began.
const REMOVED_WITHIN: Duration = Duration::from_secs(60);

/// The containers of these kind clusters that are attached to the network, or would be when they were started: one
/// that was only created names its network too, even when that is gone.
///
/// # Errors
/// The engine's.
pub async fn nodes_on(engine: &Engine, network: &str, kind_names: &[String]) -> anyhow::Result<Vec<String>> {
    let filters = [("label".to_owned(), vec![KIND_CLUSTER_LABEL.to_owned()])].into();
    let all = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let containers = engine.docker.list_containers(Some(all)).await.context("listing the engine's nodes")?;
    Ok(containers.iter().filter_map(|container| belongs(container, network, kind_names)).collect())
}

fn belongs(container: &ContainerSummary, network: &str, kind_names: &[String]) -> Option<String> {
    let kind_name = container.labels.as_ref()?.get(KIND_CLUSTER_LABEL)?;
    let attached = container.network_settings.as_ref()?.networks.as_ref()?.contains_key(network);
    let name = container.names.iter().flatten().next()?.trim_start_matches('/');
    (attached && kind_names.contains(kind_name)).then(|| name.to_owned())
}

/// Removes them, and looks again until there are none. Says whether there were any.
///
/// # Errors
/// The engine's, or when nodes keep appearing.
pub async fn remove_nodes_on(
    engine: &Engine,
    network: &str,
    kind_names: &[String],
    step: &Step,
) -> anyhow::Result<bool> {
    let mut nodes = nodes_on(engine, network, kind_names).await?;
    let any = !nodes.is_empty();
    for _ in 0..ROUNDS {
        if nodes.is_empty() {
            return Ok(any);
        }
        try_join_all(nodes.iter().map(|node| remove(engine, node, step))).await?;
        nodes = nodes_on(engine, network, kind_names).await?;
    }
    if nodes.is_empty() {
        return Ok(any);
    }
    Err(Error::environment(format!("nodes keep appearing on network {network}: {}", nodes.join(", ")))
        .hint("another program makes them: see which kind runs with ps ax, end it, and try again")
        .into())
}

async fn remove(engine: &Engine, name: &str, step: &Step) -> anyhow::Result<()> {
    let Err(error) = node::remove(engine, name).await else { return Ok(()) };
    // The engine's words when a command that was killed since had asked for the same.
    let under_way = |line: &String| line.contains("already in progress");
    if !error::find(&error).is_some_and(|error| error.evidence.iter().any(under_way)) {
        return Err(error);
    }
    wait::until(step, "the engine to remove a node", Instant::now() + REMOVED_WITHIN, async || {
        match engine.docker.inspect_container(name, None).await {
            Err(error) if is_not_found(&error) => Ok(Poll::Ready(())),
            _ => Ok(Poll::NotYet(format!("{name} is still there"))),
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_belongs_by_its_cluster_and_its_network() {
        let container = |kind: &str, on: &str| -> ContainerSummary {
            let value = json!({"Names": ["/node"], "State": "created", "Labels": {KIND_CLUSTER_LABEL: kind},
                "NetworkSettings": {"Networks": {on: {}}}});
            serde_json::from_value(value).unwrap()
        };
        let ours = ["e-a".to_owned(), "e-b".to_owned()];
        let found = |kind: &str, on: &str| belongs(&container(kind, on), "kindmesh-e", &ours);
        assert_eq!(found("e-b", "kindmesh-e").as_deref(), Some("node"));
        assert_eq!(found("e-c", "kindmesh-e"), None);
        assert_eq!(found("e-a", "kind"), None);
        assert_eq!(belongs(&ContainerSummary::default(), "kindmesh-e", &ours), None);
    }
}
