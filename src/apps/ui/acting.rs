//! The actions of the dashboard: switches, a verification, the exercises.

use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use serde::Deserialize;
use tokio::task::spawn_local;
use tokio::time::Instant;

use super::session::Session;
use super::shown::{Failure, Verification};
use crate::apps::labs::{Exercise, Labs};
use crate::base::error::Error;
use crate::base::event::{Event, Events};
use crate::cluster::fault::{self, Fault, Kind};
use crate::cluster::link;
use crate::cluster::policies::{Policies, Policy};
use crate::diagnose::verify;
use crate::host::state::Lock;
use crate::lifecycle::locked;

/// How long a switch may take.
const SWITCH_TIMEOUT: Duration = Duration::from_secs(30);
/// How long each check may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(60);
/// How long setting up an exercise may take.
const SETUP_TIMEOUT: Duration = Duration::from_secs(180);

/// A request about the exercises.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct LabRequest {
    /// The action.
    pub action: LabAction,
    /// The exercise, for a start.
    pub number: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum LabAction {
    Start,
    Check,
    Hint,
    Solve,
    Reset,
}

impl LabAction {
    fn word(self) -> &'static str {
        match self {
            LabAction::Start => "start",
            LabAction::Check => "check",
            LabAction::Hint => "hint",
            LabAction::Solve => "solve",
            LabAction::Reset => "reset",
        }
    }
}

impl Session {
    /// Applies or removes a policy.
    pub async fn switch_policy(&self, policy: Policy, on: bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + SWITCH_TIMEOUT;
        let _lock = self.lock_shared(Some(deadline)).await?;
        let policies = Policies::of(&self.environment, deadline).await?;
        match on {
            true => policies.apply(&[policy], None).await?,
            false => policies.unapply(&[policy], None).await?,
        };
        self.look_again.notify_one();
        Ok(())
    }

    /// Cuts the links between the caller's cluster and the other producers' for an hour, or ends all faults. Links that an
    /// exercise disabled are enabled, too.
    pub async fn switch_link(&self, cut: bool) -> anyhow::Result<()> {
        let producers = &self.environment.spec.samples.producer.clusters;
        // Faults are injected on nodes.
        self.plan.docker()?;
        let engine = self.engine.as_ref().context("not connected to the engine")?;
        let deadline = Instant::now() + SWITCH_TIMEOUT;
        let _lock = self.lock_shared(Some(deadline)).await?;
        if cut {
            for there in producers.iter().filter(|name| name.as_str() != self.from) {
                let clusters = vec![self.from.clone(), there.to_string()];
                let fault = Fault::new(Kind::Cut, clusters, fault::LONGEST);
                fault::inject(engine, &self.plan, &fault).await?;
            }
        } else {
            fault::clear(engine, &self.plan).await?;
            let step = Events::silent().step("link", None);
            for (cluster, _) in self.plan.kind_clusters() {
                link::set_cut(engine, &self.plan, cluster, false, &step, deadline).await?;
            }
        }
        self.look_again.notify_one();
        Ok(())
    }

    /// Locks the environment for one change in its clusters.
    async fn lock_shared(&self, deadline: Option<Instant>) -> anyhow::Result<Lock> {
        let (files, name) = (&self.environment.files, self.environment.name());
        locked::shared(files, name, deadline, &Events::silent()).await
    }

    /// Starts a verification, unless one is running.
    pub fn begin_verification(self: &Rc<Self>) -> Result<(), Error> {
        if self.verify.borrow().running {
            return Err(Error::usage("a verification is running"));
        }
        let checks = verify::applicable(&verify::select(&[], &[])?, &self.environment.spec)?;
        *self.verify.borrow_mut() = Verification { running: true, of: checks.len(), ..Verification::default() };
        let session = self.clone();
        session.verifying.send_replace(true);
        spawn_local(async move {
            let (events, mut happened) = Events::channel();
            let options = verify::Options {
                checks,
                manifests: Default::default(),
                repeat: 1,
                fail_fast: false,
                keep: false,
                timeout: CHECK_TIMEOUT,
            };
            let follow = async {
                while let Some(event) = happened.recv().await {
                    session.verify.borrow_mut().follow(event);
                }
            };
            let work = async {
                let verified = async {
                    let _lock = session.lock_shared(None).await?;
                    verify::verify(&session.environment, &options, &events, &session.interrupt).await
                };
                let verified = verified.await;
                events.end();
                verified
            };
            let (verified, ()) = futures::join!(work, follow);
            let mut verify = session.verify.borrow_mut();
            (verify.running, verify.trying) = (false, Vec::new());
            match verified {
                Ok((verdicts, _)) => verify.checks = verdicts.checks,
                Err(error) => verify.failure = Some((&error).into()),
            }
            session.verifying.send_replace(false);
        });
        Ok(())
    }

    /// Starts an exercise action; a hint is returned at once.
    pub async fn begin_lab(self: &Rc<Self>, request: LabRequest) -> anyhow::Result<()> {
        if self.lab.borrow().running.is_some() {
            return Err(Error::usage("an exercise command is running").into());
        }
        let exercise = match (request.action, request.number) {
            (LabAction::Start, Some(number)) => Some(Exercise::of(number)?),
            (LabAction::Start, None) => return Err(Error::usage("number is missing: which exercise?").into()),
            _ => None,
        };
        {
            let mut lab = self.lab.borrow_mut();
            (lab.running, lab.failure) = (Some(request.action.word()), None);
        }
        let session = self.clone();
        let work = async move {
            let done = session.lab(request.action, exercise).await;
            let mut lab = session.lab.borrow_mut();
            lab.running = None;
            lab.failure = done.as_ref().err().map(Failure::from);
            session.look_again.notify_one();
            done
        };
        match request.action {
            LabAction::Hint => work.await,
            _ => {
                spawn_local(async move { drop(work.await) });
                Ok(())
            }
        }
    }

    async fn lab(&self, action: LabAction, exercise: Option<&'static Exercise>) -> anyhow::Result<()> {
        let events = Events::silent();
        let deadline = Instant::now() + SETUP_TIMEOUT;
        let labs = Labs::of(&self.environment, deadline, &self.folders, &events).await?;
        match action {
            LabAction::Start => {
                self.lab.borrow_mut().checked = None;
                labs.start(exercise.context("no exercise")?, deadline).await.map(drop)
            }
            LabAction::Check => {
                let checked = labs.check().await?;
                self.lab.borrow_mut().checked = Some(checked);
                Ok(())
            }
            LabAction::Hint => labs.hint().await.map(drop),
            LabAction::Solve => labs.solve(deadline).await.map(drop),
            LabAction::Reset => labs.reset(false, deadline).await.map(drop),
        }
    }
}

impl Verification {
    /// Records an event.
    fn follow(&mut self, event: Event) {
        match event {
            Event::CheckStarted { id } => self.trying.push(id),
            Event::CheckFinished { verdict } => {
                self.trying.retain(|id| *id != verdict.id);
                self.checks.push(verdict);
            }
            _ => {}
        }
    }
}
