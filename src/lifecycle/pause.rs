//! Puts an environment to rest: its nodes frozen, which costs no processor and keeps their memory, or stopped, which
//! gives the memory back. [`crate::lifecycle::start`] is the way back from both.

use std::time::Duration;

use futures::future::join_all;

use crate::base::error::Error;
use crate::base::event::{Events, Outcome};
use crate::base::hint::{resume_hint, start_hint};
use crate::base::names;
use crate::cluster::environment;
use crate::host::docker::{Engine, node};
use crate::host::inventory as gather;
use crate::host::state::{EngineIdentity, Folders, Lock};
use crate::plan::inventory::{Inventory, Node};

/// How long the engine may take to say which nodes run, before a command goes on without knowing.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Freezes the nodes that run; those that are stopped are left. Says whether there were any.
///
/// # Errors
/// When there is no such environment, or it is on another engine; else the engine's.
pub async fn pause(engine: &Engine, folders: &Folders, name: &str, events: &Events) -> anyhow::Result<bool> {
    let (_lock, inventory) = hold(engine, folders, name, events).await?;
    let runs = |node: &&Node| node.state == "running";
    events
        .step("pause", None)
        .run(async |_| {
            let nodes = nodes(&inventory, name).filter(runs).map(|found| node::pause(engine, &found.name));
            all(join_all(nodes).await)
        })
        .await
}

/// Stops the nodes that run or are frozen. Says whether there were any.
///
/// # Errors
/// As [`pause`].
pub async fn stop(engine: &Engine, folders: &Folders, name: &str, events: &Events) -> anyhow::Result<bool> {
    let (_lock, inventory) = hold(engine, folders, name, events).await?;
    let lives = |node: &&Node| ["running", "paused", "restarting"].contains(&node.state.as_str());
    events
        .step("stop", None)
        .run(async |_| {
            let nodes = nodes(&inventory, name).filter(lives).map(|found| node::stop(engine, &found.name));
            all(join_all(nodes).await)
        })
        .await
}

/// Takes the right to change an environment that is there, and looks at it.
///
/// # Errors
/// When there is no such environment, or it is on another engine; else the engine's.
pub(crate) async fn hold(
    engine: &Engine,
    folders: &Folders,
    name: &str,
    events: &Events,
) -> anyhow::Result<(Lock, Inventory)> {
    // Before the lock, which would make a folder for an environment that is none.
    if !gather::gather(engine).await?.environments.contains_key(name) {
        return Err(environment::absent(name).into());
    }
    let files = folders.environment(name);
    let lock = events.step("lock", None);
    let lock = lock.run(async |step| Ok(Outcome::unchanged(Lock::acquire(&files, step).await?))).await?;
    let inventory = gather::gather(engine).await?;
    let has_nodes = nodes(&inventory, name).next().is_some();
    EngineIdentity::of(&engine.facts, &engine.endpoint.host).refuse_another(name, &files, has_nodes)?;
    match inventory.environments.contains_key(name) {
        true => Ok((lock, inventory)),
        // Taken down by the one that had the lock.
        false => Err(environment::absent(name).into()),
    }
}

fn nodes<'a>(inventory: &'a Inventory, environment: &str) -> impl Iterator<Item = &'a Node> {
    inventory.environments.get(environment).into_iter().flat_map(|found| &found.nodes)
}

/// What became of all nodes, of which every one was tried.
fn all(results: Vec<anyhow::Result<()>>) -> anyhow::Result<Outcome<bool>> {
    let changed = !results.is_empty();
    results.into_iter().collect::<anyhow::Result<()>>()?;
    Ok(Outcome { value: changed, changed })
}

/// Refuses to go on where a cluster's control plane is known to be frozen or stopped: whoever asked its API server
/// would wait for nothing. An engine that gives no answer is no reason to refuse.
///
/// # Errors
/// An environment error with the command that brings the nodes back.
pub async fn require_running(environment: &str, clusters: &[&str]) -> Result<(), Error> {
    let inventory = async { gather::gather(&Engine::connect().await?).await };
    match tokio::time::timeout(ANSWER_WITHIN, inventory).await {
        Ok(Ok(inventory)) => refuse_resting(&inventory, environment, clusters),
        _ => Ok(()),
    }
}

fn refuse_resting(inventory: &Inventory, environment: &str, clusters: &[&str]) -> Result<(), Error> {
    let of = |cluster: &str| {
        let control_plane = names::control_plane_name(&names::kind_name(environment, cluster));
        nodes(inventory, environment).find(move |node| node.name == control_plane)
    };
    let resting = |cluster: &&str| of(cluster).map(|node| node.state.as_str()).and_then(rest);
    let Some((cluster, word)) = clusters.iter().find_map(|cluster| Some((cluster, resting(cluster)?))) else {
        return Ok(());
    };
    let everywhere = clusters.iter().all(|cluster| resting(cluster) == Some(word));
    let message = match everywhere && clusters.len() > 1 {
        true => format!("environment \"{environment}\" is {word}"),
        false => format!("cluster {cluster} of environment \"{environment}\" is {word}"),
    };
    Err(Error::environment(message).hint(match word {
        PAUSED => resume_hint(environment),
        _ => start_hint(environment),
    }))
}

const PAUSED: &str = "paused";
const STOPPED: &str = "stopped";

/// The word for a node at rest, from the engine's.
fn rest(state: &str) -> Option<&'static str> {
    match state {
        "paused" => Some(PAUSED),
        "exited" => Some(STOPPED),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inventory(states: [&str; 2]) -> Inventory {
        let node = |cluster: &str, state: &str| Node {
            name: format!("e-{cluster}-control-plane"),
            cluster: cluster.into(),
            role: "control-plane".into(),
            state: state.into(),
            image: String::new(),
        };
        let nodes = vec![node("a", states[0]), node("b", states[1])];
        let environment = crate::plan::inventory::Environment { nodes, ..Default::default() };
        Inventory { environments: [("e".to_owned(), environment)].into(), ..Inventory::default() }
    }

    #[test]
    fn a_cluster_at_rest_is_refused_with_the_way_back() {
        let refused = |states, clusters: &[&str]| {
            let error = refuse_resting(&inventory(states), "e", clusters).unwrap_err();
            (error.message, error.hint.unwrap())
        };
        let (message, hint) = refused(["paused", "paused"], &["a", "b"]);
        assert_eq!((message.as_str(), hint.as_str()), ("environment \"e\" is paused", "kindmesh resume --name e"));
        let (message, hint) = refused(["running", "exited"], &["a", "b"]);
        let stopped = "cluster b of environment \"e\" is stopped";
        assert_eq!((message.as_str(), hint.as_str()), (stopped, "kindmesh start --name e"));
        // The call asks only the caller's cluster: a producer's that is stopped is what somebody may want to try.
        refuse_resting(&inventory(["running", "exited"]), "e", &["a"]).unwrap();
        refuse_resting(&Inventory::default(), "e", &["a", "b"]).unwrap();
    }
}
