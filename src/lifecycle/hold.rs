//! Who may work on an environment that is there. A command takes what it needs once, at its top, and what it calls takes
//! nothing:
//!
//! | | takes |
//! |---|---|
//! | `up`, `down` | it alone, whether or not the environment is there |
//! | `pause`, `stop`, `start`, `resume`, `lab start`, `solve`, `reset` | it [`alone`]: they freeze, stop or start nodes |
//! | `apply`, `unapply`, `deploy`, `image load`, `verify`, `lab check`, `hint`, a test's changes | it [`inside`], beside each other |
//! | what only looks or calls | nothing |
//!
//! The page takes it for each thing that it does, never while it waits for somebody to click.

use std::time::Duration;

use tokio::time::Instant;

use crate::base::error::Error;
use crate::base::event::{Events, Outcome};
use crate::cluster::environment::{self, Environment};
use crate::host::docker::Engine;
use crate::host::inventory as gather;
use crate::host::state::{Files, Folders, Lock};
use crate::plan::admission;
use crate::plan::inventory::Inventory;

/// How long the engine may take to say which nodes run, before a command goes on without knowing.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Takes the right to change the nodes of an environment that is there, and looks at it.
///
/// # Errors
/// When there is no such environment, or it is on another engine; else the engine's.
pub(crate) async fn alone(
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
    let lock = lock.run(async |step| Ok(Outcome::unchanged(Lock::alone(&files, step).await?))).await?;
    let inventory = gather::gather(engine).await?;
    admission::another_engine(name, &files.engine_on_file()?, &engine.identity(), &inventory)?;
    match inventory.environments.contains_key(name) {
        true => Ok((lock, inventory)),
        // Taken down by the one that had the lock.
        false => Err(environment::absent(name).into()),
    }
}

/// Takes the right to change what is in an environment that runs, and opens it. Waits for who works on it alone, until
/// the deadline, if there is one.
///
/// # Errors
/// When there is no such environment, it is at rest, or the other does not end in time.
pub(crate) async fn inside(
    folders: &Folders,
    name: &str,
    deadline: Option<Instant>,
    events: &Events,
) -> anyhow::Result<(Lock, Environment)> {
    let files = Environment::open(folders, name)?.files;
    let lock = beside(&files, name, deadline, events).await?;
    // Whoever was waited for may have taken it down, changed it or put it to rest.
    let environment = Environment::open(folders, name)?;
    require_running(name, &environment.cluster_names()).await?;
    Ok((lock, environment))
}

/// The same for who has opened it already, and is told by the clusters themselves when they are at rest.
///
/// # Errors
/// As [`inside`].
pub(crate) async fn beside(
    files: &Files,
    name: &str,
    deadline: Option<Instant>,
    events: &Events,
) -> anyhow::Result<Lock> {
    Ok(Lock::beside(files, deadline, events).await?.ok_or_else(|| environment::absent(name))?)
}

/// Refuses to go on where a cluster's control plane is known to be frozen or stopped. An engine that gives no answer is no
/// reason to refuse.
///
/// # Errors
/// An environment error with the command that brings the nodes back.
pub async fn require_running(environment: &str, clusters: &[&str]) -> Result<(), Error> {
    let inventory = async { gather::gather(&Engine::connect().await?).await };
    match tokio::time::timeout(ANSWER_WITHIN, inventory).await {
        Ok(Ok(inventory)) => admission::resting(&inventory, environment, clusters),
        _ => Ok(()),
    }
}
