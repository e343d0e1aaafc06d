//! The pattern as a course: exercises that begin with something that fails as described, and end when it works.
//!
//! ```text
//! labs/NN-name: page, states, hints, checkpoints ─► start ─► check ─► solve ─► reset
//! ```
//!
//! A state is whole: whatever an earlier exercise, or somebody, left of what exercises are about is put right when one
//! is begun, so that any can be begun at any time.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::base::error::Error;
use crate::base::event::{Events, Outcome, Step};
use crate::base::wait::{self, Poll};
use crate::cluster::environment::Environment;
use crate::cluster::link;
use crate::cluster::policies::Side;
use crate::cluster::refusal::Patience;
use crate::diagnose::diagnosis;
use crate::host::docker::{Engine, node};
use crate::host::state::{Folders, Lock};
use crate::lifecycle::hold;
use crate::lifecycle::prove;
use crate::lifecycle::start;
use crate::plan::Plan;
use crate::plan::inventory::Inventory;

mod clusters;
mod different;
mod exercise;
mod expectation;
mod look;
mod progress;
mod put;
mod seats;

use clusters::Clusters;
pub use exercise::{Exercise, Listed, State};
use look::Look;
pub use look::Tried;
pub use progress::Progress;
pub use put::{Became, Change};
pub use seats::{Seats, seats};

/// What came of beginning, solving or ending an exercise.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Put {
    /// What was changed, and what was left alone.
    pub changes: Vec<Change>,
    /// How the checkpoints came out then.
    pub checkpoints: Vec<Tried>,
}

/// What a check found.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Checked {
    /// The exercise.
    #[serde(skip)]
    pub exercise: &'static Exercise,
    /// Whether every checkpoint holds.
    pub passed: bool,
    /// How each came out.
    pub checkpoints: Vec<Tried>,
    /// How what is there differs from the solution, where not every checkpoint holds.
    pub different: Vec<String>,
}

/// The exercises on one environment.
pub struct Labs<'a> {
    environment: &'a Environment,
    engine: Engine,
    folders: &'a Folders,
    events: &'a Events,
}

impl std::fmt::Debug for Labs<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Labs({})", self.environment.name())
    }
}

impl<'a> Labs<'a> {
    /// Those of an environment that was made, in a command that has to end by a deadline.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn of(
        environment: &'a Environment,
        deadline: Instant,
        folders: &'a Folders,
        events: &'a Events,
    ) -> anyhow::Result<Self> {
        Ok(Self { environment, engine: Engine::connect_by(deadline).await?, folders, events })
    }

    /// How far somebody is.
    ///
    /// # Errors
    /// When what is kept of it cannot be read.
    pub fn progress(&self) -> anyhow::Result<Progress> {
        Progress::read(&self.environment.files)
    }

    /// The exercise that the environment is set up for.
    ///
    /// # Errors
    /// A usage error when there is none.
    pub fn current(&self) -> anyhow::Result<&'static Exercise> {
        let none = || {
            Error::usage(format!("no exercise is begun on environment \"{}\"", self.environment.name()))
                .hint("kindmesh lab start 1")
        };
        Ok(self.progress()?.current().ok_or_else(none)?)
    }

    /// Sets the exercise's starting state, whatever was there before, and sees it fail as described; all of it by the
    /// deadline.
    ///
    /// # Errors
    /// When the state cannot be set in time, or does not fail as described.
    pub async fn start(&self, exercise: &'static Exercise, deadline: Instant) -> anyhow::Result<Put> {
        let what = format!("exercise {} is not set up", exercise.number);
        self.by(deadline, what, self.begin(exercise, diagnosis::waits_until(deadline))).await
    }

    /// Work that has to end by a deadline, with what is to be said where it does not.
    async fn by<T>(
        &self,
        deadline: Instant,
        what: String,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let began = Instant::now();
        let late = || {
            Error::environment(format!("{what} after {:.0} s", began.elapsed().as_secs_f64()))
                .hint("kindmesh status shows what works; --timeout gives it longer")
        };
        wait::within(deadline, self.events, work, late).await
    }

    async fn begin(&self, exercise: &'static Exercise, deadline: Instant) -> anyhow::Result<Put> {
        let (_lock, clusters, inventory) = self.alone().await?;
        let changes = self.put(&exercise.start, &clusters, inventory, deadline).await?;
        let mut progress = self.progress()?;
        progress.begin(exercise);
        progress.write(&self.environment.files)?;
        let tried = self.tried(exercise, true).await?;
        let unlike: Vec<_> = tried.iter().filter(|tried| !tried.as_at_first).collect();
        if unlike.is_empty() {
            return Ok(Put { changes, checkpoints: tried });
        }
        let mut error = Error::environment(format!("exercise {} does not fail as described", exercise.number))
            .hint("kindmesh status shows what is wrong; kindmesh up repairs, then begin the exercise again");
        for tried in unlike {
            error = error.evidence(format!(
                "{}: to be expected at first: {}; seen: {}",
                tried.claim, tried.expected, tried.seen
            ));
        }
        let left = changes.iter().filter(|change| change.became == Became::LeftAlone);
        let left = left.map(Change::told).collect::<Vec<_>>().join("\n");
        Err(error.evidence(left).into())
    }

    /// Tries the checkpoints of the exercise that was begun.
    ///
    /// # Errors
    /// When none was begun, or nothing can be asked; a checkpoint that does not hold is no error.
    pub async fn check(&self) -> anyhow::Result<Checked> {
        let exercise = self.current()?;
        let _lock = self.beside().await?;
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

    /// The hints given so far of the exercise that was begun, one more than the last time.
    ///
    /// # Errors
    /// When none was begun.
    pub async fn hint(&self) -> anyhow::Result<(&'static Exercise, usize)> {
        let exercise = self.current()?;
        let _lock = self.beside().await?;
        let mut progress = self.progress()?;
        let attempt = progress.attempt(exercise);
        attempt.hints = (attempt.hints + 1).min(exercise.hints.len());
        let given = attempt.hints;
        progress.write(&self.environment.files)?;
        Ok((exercise, given))
    }

    /// Sets the state of the solution of the exercise that was begun, and waits until it works; all of it by the deadline.
    ///
    /// # Errors
    /// When none was begun, the state cannot be set in time, or it does not work.
    pub async fn solve(&self, deadline: Instant) -> anyhow::Result<(&'static Exercise, Put)> {
        let exercise = self.current()?;
        let what = format!("exercise {} is not solved", exercise.number);
        let put = self.by(deadline, what, self.put_solution(exercise, diagnosis::waits_until(deadline))).await?;
        Ok((exercise, put))
    }

    async fn put_solution(&self, exercise: &'static Exercise, deadline: Instant) -> anyhow::Result<Put> {
        let (_lock, clusters, inventory) = self.alone().await?;
        let changes = self.put(&exercise.solution, &clusters, inventory, deadline).await?;
        let mut progress = self.progress()?;
        let attempt = progress.attempt(exercise);
        attempt.shown |= attempt.passed.is_none();
        progress.write(&self.environment.files)?;
        let tried = self.tried(exercise, false).await?;
        if let Some(fails) = tried.iter().find(|tried| tried.works != Some(true)) {
            return Err(Error::environment(format!("the solution of exercise {} does not work", exercise.number))
                .evidence(format!("{}: expected: {}; seen: {}", fails.claim, fails.expected, fails.seen))
                .hint("kindmesh status shows what is wrong; kindmesh up repairs, then try again")
                .into());
        }
        Ok(Put { changes, checkpoints: tried })
    }

    /// Puts back what `up` made by the deadline, so that no exercise is begun. How far somebody is stays, unless it is to be
    /// forgotten.
    ///
    /// # Errors
    /// When it cannot be, or not in time.
    pub async fn reset(&self, forget: bool, deadline: Instant) -> anyhow::Result<Vec<Change>> {
        let put = async {
            let (lock, clusters, inventory) = self.alone().await?;
            let waits_until = diagnosis::waits_until(deadline);
            anyhow::Ok((lock, self.put(&State::of_up(), &clusters, inventory, waits_until).await?))
        };
        let (_lock, changes) = self.by(deadline, "the environment is not reset".into(), put).await?;
        let progress = match forget {
            true => Progress::default(),
            false => Progress { current: None, ..self.progress()? },
        };
        progress.write(&self.environment.files)?;
        Ok(changes)
    }

    /// The right to set states, for which nodes are stopped and started; and what there is.
    async fn alone(&self) -> anyhow::Result<(Lock, Clusters<'_>, Inventory)> {
        let clusters = Clusters::of(self.environment).await?;
        let held = hold::alone(&self.engine, self.folders, self.environment.name(), self.events);
        let (lock, inventory) = held.await?;
        Ok((lock, clusters, inventory))
    }

    /// The right to try checkpoints and to write down how far somebody is.
    async fn beside(&self) -> anyhow::Result<Lock> {
        hold::beside(&self.environment.files, self.environment.name(), None, self.events).await
    }

    /// Makes all that exercises are about what a state says: nodes first, since nothing else can be asked without them.
    async fn put(
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
                // Whether all came back can be seen only where calls are to cross.
                clusters.put(&State::of_up(), step, deadline).await?;
                if let Some(samples) = &plan.samples {
                    let (client, record) = (clusters.client(Side::Caller), clusters.record(Side::Caller));
                    let from = &clusters.places.caller;
                    prove::crosses(client, from, samples, "lab", record, step, deadline).await?;
                }
            }
            changes.extend(clusters.put(state, step, deadline).await?);
            self.break_off(state, clusters, &plan, &mut changes, step, deadline).await?;
            Ok(Outcome { changed: !changes.is_empty(), value: () })
        })
        .await?;
        Ok(changes)
    }

    /// Waits until both clusters' API servers answer.
    async fn answers(&self, clusters: &Clusters<'_>, step: &Step, deadline: Instant) -> anyhow::Result<()> {
        for side in clusters::SIDES {
            let what = format!("the API server of {} to answer", clusters.places.of(side));
            let mut patience = Patience::new(clusters.record(side));
            wait::until(step, &what, deadline, async || {
                let asked = tokio::time::timeout(ANSWER_WITHIN, clusters.client(side).apiserver_version()).await;
                match asked {
                    Ok(Ok(_)) => Ok(Poll::Ready(())),
                    Ok(Err(error)) => patience.failed(&what, error),
                    Err(_) => Ok(Poll::NotYet("no answer".into())),
                }
            })
            .await?;
        }
        Ok(())
    }

    /// Cuts and stops what a state wants cut and stopped, last of all.
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
            let stopped = cluster.nodes.iter().map(|node| node::stop(&self.engine, node));
            futures::future::try_join_all(stopped).await?;
            changes.push(change(producer, "nodes", Became::Stopped));
        }
        Ok(())
    }

    async fn tried(&self, exercise: &Exercise, at_first: bool) -> anyhow::Result<Vec<Tried>> {
        let clusters = Clusters::of(self.environment).await?;
        let name = self.environment.name();
        if !at_first {
            // Of the producer's cluster a checkpoint tells.
            hold::require_running(name, &[clusters.places.of(Side::Caller)]).await?;
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

/// How long an API server may take for one answer while it is waited for.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

fn change(cluster: &str, what: &str, became: Became) -> Change {
    Change { cluster: cluster.to_owned(), what: what.to_owned(), became, kept: None }
}
