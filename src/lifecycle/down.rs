//! Deletes an environment: only what carries its labels. Nodes and their volumes are deleted first, networks last,
//! so that the next `down` can still find the rest of an interrupted one.
//!
//! How nodes are found: kind cannot label its containers, so the labels of the environment's networks list its
//! clusters. A node belongs to the environment if kind's own label names one of these clusters and the node is
//! attached to the network, running or not. Without the network, only the name decides ([`kind::remove_strays`]).

use crate::base::event::{Events, Outcome};
use crate::base::names;
use crate::cluster::environment::{self, Environment};
use crate::host::docker::{Engine, network};
use crate::host::inventory as gather;
use crate::host::kind;
use crate::host::kubeconfig::{self, entries::Mark};
use crate::host::snapshot::pending;
use crate::host::state::{Directories, Files, Lock};
use crate::plan::admission;
use crate::plan::inventory;
use crate::spec::Spec;

mod existing;

pub use existing::remove_in_contexts;

/// The result of `down`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Down {
    /// Whether the environment existed.
    pub any: bool,
    /// The networks that were kept because other containers are attached to them, and those containers.
    pub left: Vec<(String, Vec<String>)>,
    /// What was kept in clusters that exist, and why, a line each.
    pub kept: Vec<String>,
}

/// Returns the stored spec of an environment that is to be deleted. One that cannot be read counts as none: then what is left is on the
/// engine, unless the user has agreed to change clusters that exist.
///
/// # Errors
/// If it cannot be read, and names clusters that exist.
pub fn spec(files: &Files) -> anyhow::Result<Option<Spec>> {
    match environment::stored(files) {
        Err(error) if files.consent().exists() => Err(error),
        stored => Ok(stored.unwrap_or_default()),
    }
}

/// Deletes one environment: what kind created, and what kindmesh created in clusters that exist. A missing environment is not an
/// error.
///
/// # Errors
/// A usage error for an environment on another engine; otherwise errors of the engine, an API server or the file system.
pub async fn down(
    folders: &Directories,
    name: &str,
    deadline: tokio::time::Instant,
    events: &Events,
) -> anyhow::Result<Down> {
    let files = folders.environment(name);
    let existed = files.exist();
    let engine = match environment::may_have_nodes(spec(&files)?.as_ref()) {
        true => Some(Engine::connect().await?),
        false => None,
    };
    let lock = events.step("lock", None).run(async |step| {
        let lock = Lock::exclusive(&files, step).await?;
        if let Some(engine) = &engine {
            // Before the inventory: a kind that is still running, or the engine, would create more nodes.
            kind::end_leftovers(name, &files, step).await?;
            pending::settle(engine, &files, step).await?;
        }
        Ok(Outcome::unchanged(lock))
    });
    let _lock = lock.await?;
    folders.sweep()?;
    let found = match &engine {
        Some(engine) => {
            let mut inventory = gather::gather(engine).await?;
            admission::another_engine(name, &files.engine_on_file()?, &engine.identity(), &inventory)?;
            inventory.environments.remove(name)
        }
        None => None,
    };
    let mut kept = Vec::new();
    let mut changed = false;
    if spec(&files)?.is_some() {
        let opened = Environment::open(folders, name)?;
        (changed, kept) = existing::remove(&opened, deadline, events).await?;
    }
    let mut left = Vec::new();
    let mut cleaned = Ok(false);
    if let Some(engine) = &engine {
        let removed = remove(engine, name, found, events).await?;
        changed |= removed.nodes || removed.networks;
        left = removed.left;
        cleaned = clean_kubeconfigs(engine, &files, name, events).await;
    }
    events
        .step("state", None)
        .run(async |_| Ok(Outcome { value: (), changed: files.remove()? && existed }))
        .await?;
    // Errors from the kubeconfigs are reported after everything else is deleted.
    Ok(Down { any: cleaned? || changed || existed, left, kept })
}

/// What was removed from the engine.
pub(crate) struct Removed {
    nodes: bool,
    networks: bool,
    left: Vec<(String, Vec<String>)>,
}

/// Removes the nodes and networks of an environment from the engine.
///
/// # Errors
/// The engine's errors.
pub(crate) async fn remove(
    engine: &Engine,
    name: &str,
    found: Option<inventory::Environment>,
    events: &Events,
) -> anyhow::Result<Removed> {
    let network = names::network_name(name);
    let clusters = found.iter().flat_map(|found| found.clusters.keys());
    let kind_names: Vec<_> = clusters.map(|cluster| names::kind_name(name, cluster)).collect();
    let ours = |node: &kind::Attached| kind_names.contains(&node.kind_name);
    let nodes = events.step("nodes", None).run(async |step| {
        let mut changed = kind::remove_nodes(engine, &network, step, ours).await?;
        changed |= kind::remove_strays(engine, name, step, |_| true).await?;
        Ok(Outcome { value: changed, changed })
    });
    let nodes = nodes.await?;
    // Register networks first: as long as the main network exists, the environment can be found.
    let mut networks = found.map(|found| found.networks).unwrap_or_default();
    networks.sort_by_key(|name| *name == network);
    let had_networks = !networks.is_empty();
    let mut left = Vec::new();
    if had_networks {
        events
            .step("remove-network", None)
            .run(async |step| {
                for name in &networks {
                    let users = network::remove(engine, name).await?;
                    if !users.is_empty() {
                        step.note(format!("skipped: network {name}, still used by {}", users.join(", ")));
                        left.push((name.clone(), users));
                    }
                }
                // A container in the state `created` does not block its network's removal, and would be left behind.
                kind::remove_strays(engine, name, step, |_| true).await?;
                Ok(Outcome { value: (), changed: left.len() < networks.len() })
            })
            .await?;
    }
    Ok(Removed { nodes, networks: had_networks, left })
}

/// Removes the environment's entries from the user's kubeconfigs.
async fn clean_kubeconfigs(engine: &Engine, files: &Files, name: &str, events: &Events) -> anyhow::Result<bool> {
    let mark = Mark { environment: name.to_owned(), engine: engine.facts.id.clone() };
    let merged = kubeconfig::merged_into(files, &mark);
    if merged.is_empty() {
        return Ok(false);
    }
    let step = events.step("kubeconfig", None).run(async |step| {
        let mut changed = false;
        for users in &merged {
            changed |= kubeconfig::remove_from(users, &mark, step).await?;
        }
        Ok(Outcome { value: changed, changed })
    });
    step.await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::state::write_private;

    #[test]
    fn an_unreadable_spec_prevents_deletion_only_with_clusters_that_exist() {
        let folder = tempfile::tempdir().unwrap();
        let folders = Directories { state: folder.path().to_owned(), cache: folder.path().join("cache") };
        let files = folders.environment("shop");
        assert!(spec(&files).unwrap().is_none());
        write_private(&files.spec(), b"fromTheFuture: 1\n").unwrap();
        assert!(spec(&files).unwrap().is_none());
        write_private(&files.consent(), b"[]\n").unwrap();
        assert!(spec(&files).is_err());
    }
}
