//! Exercises: each begins with something that fails as described, and ends when it works.
//!
//! ```text
//! labs/NN-name: instructions, states, hints, checks ─► start ─► check ─► solve ─► reset
//! ```
//!
//! A state is complete: starting an exercise resets whatever an earlier exercise, or the user, left, so that any
//! exercise can be started at any time.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::base::error::Error;
use crate::base::event::{Events, Outcome, Step};
use crate::base::wait::{self, Poll};
use crate::cluster::environment::Environment;
use crate::cluster::link;
use crate::cluster::policies::Side;
use crate::cluster::refusal::Retries;
use crate::diagnose::diagnosis;
use crate::host::docker::{Engine, node};
use crate::host::state::{Directories, Lock};
use crate::lifecycle::locked;
use crate::lifecycle::prove;
use crate::lifecycle::start;
use crate::plan::Plan;
use crate::plan::inventory::Inventory;

mod apply;
mod clusters;
mod different;
mod exercise;
mod expectation;
mod look;
mod progress;
mod seats;

pub use apply::{Became, Change};
use clusters::Clusters;
pub use exercise::{Exercise, Listed, State};
use look::Look;
pub use look::Tried;
pub use progress::Progress;
pub use seats::{Seats, seats};

/// The result of starting, solving or resetting an exercise.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// What was changed, and what was left unchanged.
    pub changes: Vec<Change>,
    /// The results of the checks at that time.
    pub checkpoints: Vec<Tried>,
}

/// The result of a check.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Checked {
    /// The exercise.
    #[serde(skip)]
    pub exercise: &'static Exercise,
    /// Whether every check holds.
    pub passed: bool,
    /// The result of each check.
    pub checkpoints: Vec<Tried>,
    /// Differences from the solution, if not every check holds.
    pub different: Vec<String>,
}

/// The exercises on one environment.
pub struct Labs<'a> {
    environment: &'a Environment,
    engine: Engine,
    folders: &'a Directories,
    events: &'a Events,
}

impl std::fmt::Debug for Labs<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Labs({})", self.environment.name())
    }
}

impl<'a> Labs<'a> {
    /// Opens the exercises of an existing environment, in a command with a deadline.
    ///
    /// # Errors
    /// If the engine does not respond.
    pub async fn of(
        environment: &'a Environment,
        deadline: Instant,
        folders: &'a Directories,
        events: &'a Events,
    ) -> anyhow::Result<Self> {
        Ok(Self { environment, engine: Engine::connect_by(deadline).await?, folders, events })
    }

    /// Returns the progress.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn progress(&self) -> anyhow::Result<Progress> {
        Progress::read(&self.environment.files)
    }

    /// Returns the exercise that the environment is set up for.
    ///
    /// # Errors
    /// A usage error if there is none.
    pub fn current(&self) -> anyhow::Result<&'static Exercise> {
        let none = || {
            Error::usage(format!("no exercise has been started on environment \"{}\"", self.environment.name()))
                .hint("kindmesh lab start 1")
        };
        Ok(self.progress()?.current().ok_or_else(none)?)
    }

    /// Sets up an exercise, whatever the current state, and checks that it fails as described, by the deadline.
    ///
    /// # Errors
    /// If it cannot be set up in time, or does not fail as described.
    pub async fn start(&self, exercise: &'static Exercise, deadline: Instant) -> anyhow::Result<Applied> {
        let what = format!("exercise {} is not set up", exercise.number);
        self.by(deadline, what, self.begin(exercise, diagnosis::waits_until(deadline))).await
    }

    /// Work with a deadline, and the error if it does not finish.
    async fn by<T>(
        &self,
        deadline: Instant,
        what: String,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let began = Instant::now();
        let late = || {
            Error::environment(format!("{what} after {:.0} s", began.elapsed().as_secs_f64()))
                .hint("check what works: kindmesh status; --timeout allows more time")
        };
        wait::within(deadline, self.events, work, late).await
    }

    async fn begin(&self, exercise: &'static Exercise, deadline: Instant) -> anyhow::Result<Applied> {
        let (_lock, clusters, inventory) = self.lock_exclusive().await?;
        let changes = self.apply_state(&exercise.start, &clusters, inventory, deadline).await?;
        let mut progress = self.progress()?;
        progress.begin(exercise);
        progress.write(&self.environment.files)?;
        let tried = self.tried(exercise, true).await?;
        let unlike: Vec<_> = tried.iter().filter(|tried| !tried.as_at_first).collect();
        if unlike.is_empty() {
            return Ok(Applied { changes, checkpoints: tried });
        }
        let mut error = Error::environment(format!("exercise {} does not fail as described", exercise.number))
            .hint("check what is wrong: kindmesh status; repair: kindmesh up; then start the exercise again");
        for tried in unlike {
            error = error.evidence(format!(
                "{}: expected at the start: {}; got: {}",
                tried.claim, tried.expected, tried.seen
            ));
        }
        let left = changes.iter().filter(|change| change.became == Became::LeftAlone);
        let left = left.map(Change::describe).collect::<Vec<_>>().join("\n");
        Err(error.evidence(left).into())
    }

    /// Runs the checks of the current exercise.
    ///
    /// # Errors
    /// If there is none, or it cannot be checked; a check that does not hold is not an error.
    pub async fn check(&self) -> anyhow::Result<Checked> {
        let _lock = self.lock_shared().await?;
        let exercise = self.current()?;
        let checkpoints = self.tried(exercise, false).await?;
        let passed = checkpoints.iter().all(|tried| tried.works == Some(true));
        let mut progress = self.progress()?;
        progress.checked(exercise, passed);
        progress.write(&self.environment.files)?;
        let different = match passed {
            true => Vec::new(),
            false => Clusters::of(self.environment).await?.different(exercise).await?,
        };
        Ok(Checked { exercise, passed, checkpoints, different })
    }

    /// Returns the current exercise and how many of its hints to show: one more each time.
    ///
    /// # Errors
    /// If there is none.
    pub async fn hint(&self) -> anyhow::Result<(&'static Exercise, usize)> {
        let _lock = self.lock_shared().await?;
        let exercise = self.current()?;
        let mut progress = self.progress()?;
        let attempt = progress.attempt(exercise);
        attempt.hints = (attempt.hints + 1).min(exercise.hints.len());
        let given = attempt.hints;
        progress.write(&self.environment.files)?;
        Ok((exercise, given))
    }

    /// Applies the solution of the current exercise, and waits until it works, by the deadline.
    ///
    /// # Errors
    /// If there is none, the state cannot be applied in time, or it does not work.
    pub async fn solve(&self, deadline: Instant) -> anyhow::Result<(&'static Exercise, Applied)> {
        // Without a current exercise it fails before it waits for the lock.
        let what = format!("exercise {} is not solved", self.current()?.number);
        self.by(deadline, what, self.apply_solution(diagnosis::waits_until(deadline))).await
    }

    async fn apply_solution(&self, deadline: Instant) -> anyhow::Result<(&'static Exercise, Applied)> {
        let (_lock, clusters, inventory) = self.lock_exclusive().await?;
        // The previous holder of the lock may have started another exercise.
        let exercise = self.current()?;
        let changes = self.apply_state(&exercise.solution, &clusters, inventory, deadline).await?;
        let mut progress = self.progress()?;
        let attempt = progress.attempt(exercise);
        attempt.shown |= attempt.passed.is_none();
        progress.write(&self.environment.files)?;
        let tried = self.tried(exercise, false).await?;
        if let Some(fails) = tried.iter().find(|tried| tried.works != Some(true)) {
            return Err(Error::environment(format!("the solution of exercise {} does not work", exercise.number))
                .evidence(format!("{}: expected: {}; got: {}", fails.claim, fails.expected, fails.seen))
                .hint("check what is wrong: kindmesh status; repair: kindmesh up; then try again")
                .into());
        }
        Ok((exercise, Applied { changes, checkpoints: tried }))
    }

    /// Restores what `up` created, by the deadline; then there is no current exercise. The progress is kept,
    /// unless it is to be forgotten.
    ///
    /// # Errors
    /// If it fails, or not in time.
    pub async fn reset(&self, forget: bool, deadline: Instant) -> anyhow::Result<Vec<Change>> {
        let put = async {
            let (lock, clusters, inventory) = self.lock_exclusive().await?;
            let waits_until = diagnosis::waits_until(deadline);
            anyhow::Ok((lock, self.apply_state(&State::of_up(), &clusters, inventory, waits_until).await?))
        };
        let (_lock, changes) = self.by(deadline, "the environment is not reset".into(), put).await?;
        let progress = match forget {
            true => Progress::default(),
            false => Progress { current: None, ..self.progress()? },
        };
        progress.write(&self.environment.files)?;
        Ok(changes)
    }

    /// Locks the environment exclusively to apply states, since nodes are stopped and started; and inspects it.
    async fn lock_exclusive(&self) -> anyhow::Result<(Lock, Clusters<'_>, Inventory)> {
        let held = locked::exclusive(&self.engine, self.folders, self.environment.name(), self.events);
        let (lock, inventory) = held.await?;
        // Under the lock: the previous holder may have created the clusters again.
        Ok((lock, Clusters::of(self.environment).await?, inventory))
    }

    /// Locks the environment together with others, to run checks and to record progress.
    async fn lock_shared(&self) -> anyhow::Result<Lock> {
        locked::shared(&self.environment.files, self.environment.name(), None, self.events).await
    }

    /// Makes everything that exercises involve match a state: nodes first, since nothing else can be queried
    /// without them.
    async fn apply_state(
        &self,
        state: &State,
        clusters: &Clusters<'_>,
        inventory: Inventory,
        deadline: Instant,
    ) -> anyhow::Result<Vec<Change>> {
        let name = self.environment.name();
        let found = inventory.environments.get(name).cloned().unwrap_or_default();
        let resting: Vec<_> = found.nodes.iter().filter(|node| node.state != "running").collect();
        let resting: Vec<_> = resting.into_iter().map(|node| node.cluster.clone()).collect();
        let plan = self.environment.plan(&self.engine, inventory)?;
        let mut changes = Vec::new();
        let started_any =
            start::nodes(&self.engine, self.environment, &plan, &found, deadline, self.events).await?;
        if started_any {
            let mut started = resting;
            started.sort();
            started.dedup();
            changes.extend(started.iter().map(|cluster| change(cluster, "nodes", Became::Started)));
        }
        let step = self.events.step("lab-put", None);
        step.run(async |step| {
            self.answers(clusters, step, deadline).await?;
            for cluster in &plan.clusters {
                let cut = state.link_cut && !started_any && cluster.name == clusters.places.producer;
                if !cut && link::set_cut(&self.engine, &plan, cluster, false, step, deadline).await? {
                    changes.push(change(&cluster.name, "link", Became::Restored));
                }
            }
            if started_any {
                // Whether everything recovered is visible only if cross-cluster calls are expected.
                clusters.apply(&State::of_up(), step, deadline).await?;
                if let Some(samples) = &plan.samples {
                    let (client, record) = (clusters.client(Side::Caller), clusters.record(Side::Caller));
                    let from = &clusters.places.caller;
                    prove::crosses(client, from, samples, "lab", record, step, deadline).await?;
                }
            }
            changes.extend(clusters.apply(state, step, deadline).await?);
            self.break_off(state, clusters, &plan, &mut changes, step, deadline).await?;
            Ok(Outcome { changed: !changes.is_empty(), value: () })
        })
        .await?;
        Ok(changes)
    }

    /// Waits until both clusters' API servers respond.
    async fn answers(&self, clusters: &Clusters<'_>, step: &Step, deadline: Instant) -> anyhow::Result<()> {
        for side in clusters::SIDES {
            let what = format!("the API server of {} to respond", clusters.places.of(side));
            let mut retries = Retries::new(clusters.record(side));
            wait::until(step, &what, deadline, async || {
                let asked =
                    tokio::time::timeout(RESPONSE_TIMEOUT, clusters.client(side).apiserver_version()).await;
                match asked {
                    Ok(Ok(_)) => Ok(Poll::Ready(())),
                    Ok(Err(error)) => retries.failed(&what, error),
                    Err(_) => Ok(Poll::NotYet("no response".into())),
                }
            })
            .await?;
        }
        Ok(())
    }

    /// Disables links and stops nodes as the state requires, last of all.
    async fn break_off(
        &self,
        state: &State,
        clusters: &Clusters<'_>,
        plan: &Plan,
        changes: &mut Vec<Change>,
        step: &Step,
        deadline: Instant,
    ) -> anyhow::Result<()> {
        let producer = &clusters.places.producer;
        let Some(cluster) = plan.cluster(producer) else { return Ok(()) };
        if state.link_cut && link::set_cut(&self.engine, plan, cluster, true, step, deadline).await? {
            changes.push(change(producer, "link", Became::Cut));
        }
        if state.producer_stopped {
            let stopped = cluster.nodes().iter().map(|node| node::stop(&self.engine, node));
            futures::future::try_join_all(stopped).await?;
            changes.push(change(producer, "nodes", Became::Stopped));
        }
        Ok(())
    }

    async fn tried(&self, exercise: &Exercise, at_first: bool) -> anyhow::Result<Vec<Tried>> {
        let clusters = Clusters::of(self.environment).await?;
        let name = self.environment.name();
        if !at_first {
            // A check reports the producer's cluster.
            locked::require_running(name, &[clusters.places.of(Side::Caller)]).await?;
        }
        let plan = self.environment.plan(&self.engine, crate::host::inventory::gather(&self.engine).await?)?;
        let look = Look { clusters: &clusters, engine: &self.engine, plan: &plan };
        let step = self.events.step("lab-check", None);
        step.run(async |step| {
            let tried = match at_first {
                true => look.at_first(&exercise.checkpoints, step).await,
                false => look.works(&exercise.checkpoints, step).await,
            };
            Ok(Outcome::unchanged(tried))
        })
        .await
    }
}

/// How long an API server may take to respond to one of the polls.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(3);

fn change(cluster: &str, what: &str, became: Became) -> Change {
    Change { cluster: cluster.to_owned(), what: what.to_owned(), became, kept: None }
}
