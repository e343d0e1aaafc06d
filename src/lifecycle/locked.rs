//! Locks on existing environments. A command acquires its lock once, at its top level; the functions that it calls
//! do not lock:
//!
//! | command | lock |
//! |---|---|
//! | `up`, `down`, `snapshot restore` | exclusive, whether or not the environment exists |
//! | `pause`, `stop`, `start`, `resume`, `lab start`, `solve`, `reset`, `snapshot save` | [`exclusive`]: they freeze, stop or start nodes |
//! | `apply`, `unapply`, `deploy`, `image load`, `verify`, `fault`, `experiment`, `lab check`, `hint`, a test's changes | [`open_shared`]: they may run concurrently |
//! | commands that only read or call | none |
//!
//! The dashboard locks for each action, never while it waits for a click.

use std::time::Duration;

use tokio::time::Instant;

use crate::base::error::Error;
use crate::base::event::{Events, Outcome};
use crate::cluster::environment::{self, Environment};
use crate::host::docker::Engine;
use crate::host::inventory as gather;
use crate::host::state::{Directories, Files, Lock};
use crate::plan::admission;
use crate::plan::inventory::Inventory;

/// How long the engine may take to report which nodes run. After that, the command continues without this check.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Locks an existing environment exclusively, to change its nodes, and inspects it.
///
/// # Errors
/// If the environment does not exist, or is on another engine; otherwise the engine's errors.
pub(crate) async fn exclusive(
    engine: &Engine,
    folders: &Directories,
    name: &str,
    events: &Events,
) -> anyhow::Result<(Lock, Inventory)> {
    // Before the lock, which would create a directory for an environment that does not exist.
    if !gather::gather(engine).await?.environments.contains_key(name) {
        return Err(environment::absent(name).into());
    }
    let files = folders.environment(name);
    let lock = events.step("lock", None);
    let lock = lock.run(async |step| Ok(Outcome::unchanged(Lock::exclusive(&files, step).await?))).await?;
    let inventory = gather::gather(engine).await?;
    admission::another_engine(name, &files.engine_on_file()?, &engine.identity(), &inventory)?;
    match inventory.environments.contains_key(name) {
        true => Ok((lock, inventory)),
        // Deleted by the previous holder of the lock.
        false => Err(environment::absent(name).into()),
    }
}

/// Opens a running environment under a shared lock, to change objects in it. Waits for the holder of an exclusive
/// lock until the deadline, if one is given.
///
/// # Errors
/// If the environment does not exist, is paused or stopped, or stays locked until the deadline.
pub(crate) async fn open_shared(
    folders: &Directories,
    name: &str,
    deadline: Option<Instant>,
    events: &Events,
) -> anyhow::Result<(Lock, Environment)> {
    let files = Environment::open(folders, name)?.files;
    let lock = shared(&files, name, deadline, events).await?;
    // The previous holder may have deleted, changed, paused or stopped it.
    let environment = Environment::open(folders, name)?;
    require_running(name, &environment.cluster_names()).await?;
    Ok((lock, environment))
}

/// Acquires the shared lock of an environment that is already open, without checking that it runs: calls to a
/// paused or stopped cluster fail with that reason.
///
/// # Errors
/// As for [`open_shared`].
pub(crate) async fn shared(
    files: &Files,
    name: &str,
    deadline: Option<Instant>,
    events: &Events,
) -> anyhow::Result<Lock> {
    Ok(Lock::shared(files, deadline, events).await?.ok_or_else(|| environment::absent(name))?)
}

/// Fails if a cluster's control plane is known to be frozen or stopped. An engine that does not respond is not an
/// error.
///
/// # Errors
/// An environment error with the command that starts the nodes.
pub async fn require_running(environment: &str, clusters: &[&str]) -> Result<(), Error> {
    let inventory = async { gather::gather(&Engine::connect().await?).await };
    match tokio::time::timeout(RESPONSE_TIMEOUT, inventory).await {
        Ok(Ok(inventory)) => admission::resting(&inventory, environment, clusters),
        _ => Ok(()),
    }
}
