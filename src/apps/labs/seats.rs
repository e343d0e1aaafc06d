//! Seats: an environment for each participant of a workshop, created in advance and paused.

use std::time::Duration;

use serde::Serialize;

use crate::base::event::Events;
use crate::base::hint::resume_hint;
use crate::base::interrupt::Interrupt;
use crate::diagnose::status::{Phase, phase_of_nodes};
use crate::host::docker::Engine;
use crate::host::inventory as gather;
use crate::host::state::Directories;
use crate::lifecycle::pause;
use crate::lifecycle::up::{self, Options};
use crate::spec::{Label, Loaded, environment_name};

/// Which seats.
#[derive(Debug, Clone)]
pub struct Seats {
    /// How many.
    pub count: u8,
    /// The prefix of their names; a number follows.
    pub prefix: Label,
    /// The timeout of each seat.
    pub timeout: Duration,
    /// Requests a stop.
    pub interrupt: Interrupt,
}

/// A prepared seat.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Seat {
    /// The environment's name.
    pub environment: String,
    /// Whether it was prepared earlier.
    pub was_there: bool,
    /// The command that resumes it.
    pub resume: String,
}

/// Prepares seats, one after another: each is created until a cross-cluster call succeeds, then frozen. A paused
/// one is skipped.
///
/// # Errors
/// What makes `up` fail for a seat; the seats before it are ready.
pub async fn seats(
    loaded: &Loaded,
    seats: &Seats,
    folders: &Directories,
    events: &Events,
) -> anyhow::Result<Vec<Seat>> {
    let mut prepared = Vec::new();
    for number in 1..=seats.count {
        let name =
            environment_name(&format!("{}{number}", seats.prefix)).map_err(crate::base::error::Error::usage)?;
        let engine = Engine::connect().await?;
        let found = gather::gather(&engine).await?.environments.remove(name.as_str());
        let rests =
            found.as_ref().is_some_and(|found| matches!(phase_of_nodes(found), Phase::Paused | Phase::Stopped));
        if !rests {
            events.note(format!("seat {number} of {}: {name}", seats.count));
            let mut loaded = loaded.clone();
            loaded.spec.name = name.clone();
            let options =
                Options { timeout: seats.timeout, interrupt: seats.interrupt.clone(), ..Options::default() };
            up::up(&loaded, &options, folders, events).await?;
            pause::pause(&engine, folders, name.as_str(), events).await?;
        }
        prepared.push(Seat {
            environment: name.to_string(),
            was_there: rests,
            resume: resume_hint(name.as_str()),
        });
    }
    Ok(prepared)
}
