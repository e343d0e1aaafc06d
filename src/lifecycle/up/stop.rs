//! Ctrl-C: every step may be canceled at any point, and the next `up` repeats it. The exception is kind, whose docker
//! clients continue to create nodes: the state is consistent when they have exited and the nodes without a working
//! control plane are removed.

use std::collections::BTreeSet;
use std::time::Duration;

use super::template::Origin;
use crate::base::error::Error;
use crate::base::event::{Events, Outcome, Step};
use crate::base::hint::down_hint;
use crate::base::names;
use crate::host::docker::Engine;
use crate::host::inventory as gather;
use crate::host::kind;
use crate::host::snapshot::pending;
use crate::host::state::Files;

/// How long the cleanup may take: docker clients exit when the engine has completed their requests.
const STOP_TIMEOUT: Duration = Duration::from_secs(180);

/// Removes incomplete nodes from the engine, and returns the error that says what exists and how to continue.
pub(super) async fn stop(
    engine: Option<&Engine>,
    environment: &str,
    files: &Files,
    origin: &Origin,
    events: &Events,
) -> anyhow::Error {
    let next = format!("{}, {} deletes it", origin.next(environment), down_hint(environment));
    let Some(engine) = engine else {
        return Error::environment("interrupted").hint(next).into();
    };
    let step = events.step("put-away", None);
    let put_away = step.run(async |step| {
        let put_away = tokio::time::timeout(STOP_TIMEOUT, clean_up(engine, environment, files, step)).await;
        let late = |_| Error::environment(format!("cleanup did not finish within {} s", STOP_TIMEOUT.as_secs()));
        Ok(Outcome::changed(put_away.map_err(late)??))
    });
    match put_away.await {
        Ok(exists) => Error::environment("interrupted").evidence(exists.join("\n")).hint(next).into(),
        Err(error) => error.context("interrupted"),
    }
}

async fn clean_up(engine: &Engine, environment: &str, files: &Files, step: &Step) -> anyhow::Result<Vec<String>> {
    kind::end_leftovers(environment, files, step).await?;
    pending::settle(engine, files, step).await?;
    let Some(found) = gather::gather(engine).await?.environments.remove(environment) else {
        kind::remove_strays(engine, environment, step, |_| true).await?;
        return Ok(vec!["nothing was created on the engine".into()]);
    };
    let mut incomplete = BTreeSet::new();
    let mut exists = vec![format!(
        "created so far: {}",
        found.networks.iter().map(|n| format!("network {n}")).collect::<Vec<_>>().join(", ")
    )];
    for cluster in found.clusters.keys() {
        let nodes: Vec<_> = found.nodes_of(cluster).map(|node| node.name.as_str()).collect();
        let control_plane = found.nodes_of(cluster).find(|node| node.role == kind::CONTROL_PLANE);
        let finished = match control_plane {
            Some(node) => kind::is_finished(engine, &node.name).await?,
            None => false,
        };
        exists.push(match (finished, nodes.is_empty()) {
            (true, _) => format!("cluster {cluster}: {}", nodes.join(", ")),
            // It was not created yet, or is being removed.
            (false, true) => format!("cluster {cluster}: no nodes"),
            (false, false) => format!("cluster {cluster}: incomplete; its nodes are removed"),
        });
        if !finished {
            incomplete.insert(names::kind_name(environment, cluster));
        }
    }
    let network = names::network_name(environment);
    kind::remove_nodes(engine, &network, step, |node| incomplete.contains(&node.kind_name)).await?;
    Ok(exists)
}
