//! The dashboard's session: the environment, connections, and the latest state. It lives on one thread, since the
//! checks of a verification do; requests reach it through a channel.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use futures::future::LocalBoxFuture;
use kube::Client;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::log::Log;
use super::shown::{Lab, State, Steady, Topology, Verification};
use super::traffic::Traffic;
use crate::apps::labs::{Checked, Exercise, Progress};
use crate::base::interrupt::Interrupt;
use crate::cluster::call::Caller;
use crate::cluster::environment::Environment;
use crate::host::docker::Engine;
use crate::host::state::Directories;
use crate::plan::Plan;

use super::shown::{Calls, Failure};

/// A request to the session: a function that runs on its thread.
pub(super) type Work = Box<dyn FnOnce(Rc<Session>) -> LocalBoxFuture<'static, ()> + Send>;

/// The dashboard's session.
pub(super) struct Session {
    pub environment: Environment,
    pub folders: Directories,
    /// None if all clusters exist already.
    pub engine: Option<Engine>,
    pub plan: Plan,
    /// The caller's cluster.
    pub from: String,
    pub client: Client,
    pub interrupt: Interrupt,
    /// Idle connections to the caller.
    pub idle: RefCell<Vec<Caller>>,
    pub log: RefCell<Log>,
    pub steady: RefCell<Option<Steady>>,
    pub steady_changed: Notify,
    pub under_way: Cell<usize>,
    pub topology: RefCell<(Option<Topology>, Option<String>)>,
    /// Triggers a refresh after a change.
    pub look_again: Notify,
    pub traffic: RefCell<(Option<Traffic>, Option<String>)>,
    pub verify: RefCell<Verification>,
    /// Whether a verification is running, for code that waits for its end.
    pub verifying: watch::Sender<bool>,
    pub lab: RefCell<LabWork>,
}

/// The running exercise action, and its result.
#[derive(Debug, Default)]
pub(super) struct LabWork {
    pub running: Option<&'static str>,
    pub checked: Option<Checked>,
    pub failure: Option<Failure>,
}

impl Session {
    /// Returns the displayed state.
    pub fn state(&self) -> State {
        let (topology, topology_error) = self.topology.borrow().clone();
        let (traffic, traffic_error) = self.traffic.borrow().clone();
        let log = self.log.borrow();
        State {
            schema_version: 1,
            environment: self.environment.name().to_owned(),
            from: self.from.clone(),
            topology,
            topology_error,
            traffic,
            traffic_error,
            calls: Calls {
                counts: log.counts,
                steady: self.steady.borrow().clone(),
                last_answered: log.last_answered().cloned(),
            },
            verify: self.verify.borrow().clone(),
            lab: self.lab_state(),
        }
    }

    fn lab_state(&self) -> Lab {
        let work = self.lab.borrow();
        let (progress, failure) = match Progress::read(&self.environment.files) {
            Ok(progress) => (progress, work.failure.clone()),
            Err(error) => (Progress::default(), Some((&error).into())),
        };
        let current = progress.current();
        let given = current.and_then(|current| progress.of(current)).map_or(0, |attempt| attempt.hints);
        let hints = current.map(|current| current.hints.as_slice()).unwrap_or_default();
        let of_current = |checked: &&Checked| current.is_some_and(|current| current.id == checked.exercise.id);
        Lab {
            exercises: Exercise::all().iter().map(Exercise::listed).collect(),
            page: current.map(Exercise::page),
            hints: hints.iter().take(given).cloned().collect(),
            hints_of: hints.len(),
            running: work.running.map(str::to_owned),
            checked: work.checked.as_ref().filter(of_current).cloned(),
            failure,
            progress,
        }
    }

    /// Returns the samples' namespace.
    pub fn namespace(&self) -> &str {
        self.environment.spec.samples.namespace.as_str()
    }
}

/// A handle to the session, for requests.
#[derive(Clone)]
pub(super) struct Window(pub mpsc::Sender<Work>);

impl Window {
    /// Runs a function in the session; returns its result.
    pub async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(Rc<Session>) -> LocalBoxFuture<'static, T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let (answer, answered) = oneshot::channel();
        let work: Work = Box::new(move |session| {
            Box::pin(async move {
                // The requester may be gone.
                let _ = answer.send(work(session).await);
            })
        });
        self.0.send(work).await.map_err(|_| anyhow::anyhow!("kindmesh ui is exiting"))?;
        answered.await.map_err(|_| anyhow::anyhow!("kindmesh ui is exiting"))
    }
}
