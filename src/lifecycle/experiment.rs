//! Experiments: steady calls while faults come and go, and a verdict on what must hold.
//!
//! ```text
//! file ─► conditions ─► policies, probe ─► calls, with faults and rollouts at their times ─► measure ─► judge
//! ```

use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use serde::Serialize;

use crate::base::error::Error;
use crate::base::event::{Event, Outcome, round};
use crate::base::interrupt::Interrupt;
use crate::base::verdict::{Subject, Verdicts};
use crate::cluster::fault;
use crate::diagnose::verify;
use crate::host::inventory as gather;
use crate::host::outage;
use crate::host::state::Lock;
use crate::lifecycle::fault::Scene;
use crate::lifecycle::locked;
use crate::sample::Sent;

mod actions;
mod applied;
mod caller;
mod conditions;
mod file;
mod judge;
mod measure;
mod rules;
mod shipped;
mod values;

pub use file::Experiment;
pub use measure::{Interval, Loss, Tally, intervals};
pub use shipped::{SHIPPED, find};

use actions::Stage;
use applied::Applied;
use caller::Caller;

/// A fault or a rollout that happened. Times are seconds since the first call was due.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Happened {
    /// What it was.
    pub what: String,
    /// When it began.
    pub begin: f64,
    /// When it ended; none for a rollout.
    pub end: Option<f64>,
}

/// What the calls were.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sending {
    /// The cluster from which they were sent.
    pub from: String,
    /// The URL.
    pub url: String,
    /// Calls per second.
    pub qps: u32,
    /// How long they were sent, in seconds.
    pub seconds: f64,
}

/// The results of an experiment.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Results {
    /// The version of this document's schema.
    pub schema_version: u8,
    /// The experiment's name.
    pub experiment: String,
    /// What it shows.
    pub description: Option<String>,
    /// The policies that were applied for it.
    pub policies: Vec<String>,
    /// What was called.
    pub calls: Sending,
    /// The calls, counted.
    pub tally: Tally,
    /// The faults and rollouts, in the order of their begin.
    pub happened: Vec<Happened>,
    /// The verdict on each expectation.
    pub verdicts: Verdicts,
    /// Where and when.
    pub subject: Subject,
    /// The limit of the latency, in milliseconds, for the picture.
    pub p99_limit: Option<f64>,
    /// Every call, in the order in which they were sent.
    pub sent: Vec<Sent>,
}

/// Runs an experiment. What it did to the environment is undone in any case, also after an interrupt.
///
/// # Errors
/// If the environment does not have what the experiment needs, another one runs, calls fail before the first fault, or a fault cannot be injected
/// or ended; an expectation that does not hold is a verdict, not an error.
pub async fn run(
    scene: &Scene<'_>,
    experiment: &Experiment,
    timeout: Duration,
    interrupt: &Interrupt,
) -> anyhow::Result<Results> {
    let started = (Timestamp::now(), std::time::Instant::now());
    conditions::check(experiment, &scene.environment.spec)?;
    // Held during the experiment, so that nobody deletes or pauses what it measures. Killing nodes takes an exclusive lock, so
    // an experiment that does has none in between.
    let name = scene.environment.name();
    let (lock, _) = locked::open_shared(scene.folders, name, None, scene.events).await?;
    // Two would count each other's policies as the user's.
    let _only = Lock::only(&scene.environment.files, "experiment")?.map_err(|holder| {
        Error::environment(format!("another experiment runs in environment \"{name}\""))
            .evidence(holder)
            .hint("repeat when it has ended")
    })?;
    let plan = scene.environment.plan(scene.engine, gather::gather(scene.engine).await?)?;
    fault::none_active(scene.engine, &plan).await?;
    outage::none_held(&scene.environment.files)?;
    for planned in &experiment.faults {
        if let Some(fault) = planned.timed() {
            fault::possible(scene.engine, &plan, &fault).await?;
        }
    }
    let caller = Caller::open(scene.environment, &experiment.calls).await?;
    let armed = interrupt.arm("ending the experiment's faults, and removing its policies and its probe");
    let mut applied = Applied::default();
    let setup = async {
        applied.apply(scene.environment, &experiment.policies, timeout).await?;
        caller.create(scene.events, tokio::time::Instant::now() + timeout).await
    };
    let ready = interruptible(setup, interrupt).await;
    let lock = Some(lock).filter(|_| !experiment.kills());
    let measured = match ready {
        Ok(()) => Stage::new(scene, &plan, experiment, &caller).run(interrupt).await,
        Err(error) => Err(error),
    };
    // Before the policies are removed: nodes that have just been started do not respond yet.
    if experiment.kills()
        && let Err(error) = scene.works().await
    {
        scene.events.note(format!("the environment does not work yet: {error:#}"));
    }
    let cleared = clean_up(scene, &caller, applied, timeout).await;
    drop(lock);
    drop(armed);
    if let Err(error) = &cleared {
        scene.events.note(format!("not everything was removed, see kindmesh apply --list: {error:#}"));
    }
    let (sent, happened) = measured?;
    let tally = Tally::of(&sent);
    let seconds = experiment.calls.lasts.as_secs_f64();
    let verdicts = judge::judge(&experiment.expect, &sent, &tally, &happened, seconds);
    for verdict in &verdicts {
        scene.events.send(Event::CheckFinished { verdict: verdict.clone() });
    }
    cleared?;
    Ok(Results {
        schema_version: 1,
        experiment: experiment.name.to_string(),
        description: experiment.description.clone(),
        policies: experiment.policies.iter().map(ToString::to_string).collect(),
        calls: Sending {
            from: experiment.calls.from.to_string(),
            url: caller.url(),
            qps: experiment.calls.qps,
            seconds,
        },
        tally,
        happened,
        verdicts: Verdicts::new(name, verdicts),
        subject: verify::subject(scene.environment, started.0, started.1.elapsed()),
        p99_limit: experiment.expect.p99.map(|limit| round(limit) * 1000.0),
        sent,
    })
}

/// Drops work at an interrupt: only for work that leaves nothing half done.
async fn interruptible<T>(
    work: impl Future<Output = anyhow::Result<T>>,
    interrupt: &Interrupt,
) -> anyhow::Result<T> {
    tokio::select! {
        ended = work => ended,
        () = interrupt.requested() => Err(interrupted()),
    }
}

fn interrupted() -> anyhow::Error {
    Error::environment("interrupted").into()
}

/// Removes the policies and the probe.
async fn clean_up(scene: &Scene<'_>, caller: &Caller, applied: Applied, timeout: Duration) -> anyhow::Result<()> {
    let step = scene.events.step("remove-probes", None);
    step.run(async |_| {
        let (policies, probe) = tokio::join!(applied.undo(scene.environment, timeout), caller.remove());
        policies.context("removing the policies of the experiment")?;
        probe?;
        Ok(Outcome::changed(()))
    })
    .await
}
