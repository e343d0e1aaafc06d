//! The run itself: calls are sent and watched while faults and rollouts happen at their times.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use futures::FutureExt;
use futures::future::{LocalBoxFuture, join_all};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::Api;
use tokio::time::Instant;

use super::caller::{Caller, Watched};
use super::file::{Experiment, Happening, Planned, Restart};
use super::measure::{Tally, baseline};
use super::{Happened, interrupted};
use crate::base::error::Error;
use crate::base::event::{Outcome, Step};
use crate::base::interrupt::Interrupt;
use crate::base::names::PRODUCER_NAME;
use crate::cluster::fault::{self, Fault};
use crate::host::state::Lock;
use crate::lifecycle::fault::{Scene, Target};
use crate::lifecycle::locked;
use crate::plan::Plan;
use crate::sample::Sent;

/// How much longer than planned a fault would last if this command were killed: it ends faults itself.
const MARGIN: Duration = Duration::from_secs(10);
/// How often the calls are looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// The time span of the progress, in seconds.
const RECENT: f64 = 5.0;

impl Planned {
    /// Returns the fault, if a node ends it.
    pub(super) fn timed(&self) -> Option<Fault> {
        match &self.what {
            Happening::Timed(kind, clusters) => Some(Fault::new(*kind, clusters.clone(), self.lasts + MARGIN)),
            Happening::KillCluster(_) | Happening::KillZone(_) => None,
        }
    }
}

/// An experiment under way.
pub(super) struct Stage<'a> {
    scene: &'a Scene<'a>,
    plan: &'a Plan,
    experiment: &'a Experiment,
    caller: &'a Caller,
    happened: Mutex<Vec<Happened>>,
    /// Requested when faults have to end before their time.
    stop: Interrupt,
}

impl<'a> Stage<'a> {
    pub fn new(scene: &'a Scene<'a>, plan: &'a Plan, experiment: &'a Experiment, caller: &'a Caller) -> Self {
        Self { scene, plan, experiment, caller, happened: Mutex::default(), stop: Interrupt::default() }
    }

    /// Sends the calls, and returns all of them and what happened meanwhile. No fault is active when it returns.
    pub async fn run(&self, interrupt: &Interrupt) -> anyhow::Result<(Vec<Sent>, Vec<Happened>)> {
        let step = self.scene.events.step("experiment", None);
        step.run(async |step| {
            let watched = self.caller.start().await?;
            let started = Instant::now();
            let watching = async {
                let watched = tokio::select! {
                    watched = self.watch(watched, step) => watched,
                    () = interrupt.requested() => Err(interrupted()),
                    () = self.stop.requested() => Err(anyhow::anyhow!("stopped")),
                };
                if watched.is_err() {
                    self.stop.request();
                }
                watched
            };
            // Neither is dropped: a fault that is being injected has to be ended.
            let (acted, watched) = tokio::join!(self.act(started), watching);
            acted?;
            let mut happened = std::mem::take(&mut *self.happened.lock().unwrap_or_else(PoisonError::into_inner));
            happened.sort_by(|one, other| one.begin.total_cmp(&other.begin));
            Ok(Outcome::changed((watched?, happened)))
        })
        .await
    }

    /// Does everything at its time. After a failure, the others end, too.
    async fn act(&self, started: Instant) -> anyhow::Result<()> {
        let faults = self.experiment.faults.iter().map(|planned| self.fault(planned, started).boxed_local());
        let restarts = self.experiment.restarts.iter().map(|restart| self.restart(restart, started).boxed_local());
        let all: Vec<LocalBoxFuture<'_, anyhow::Result<()>>> = faults.chain(restarts).collect();
        let ended = join_all(all.into_iter().map(async |one| {
            let ended = one.await;
            if ended.is_err() {
                self.stop.request();
            }
            ended
        }));
        ended.await.into_iter().collect()
    }

    /// Waits until a time; false if everything has to end before.
    async fn until(&self, time: Instant) -> bool {
        tokio::select! {
            biased;
            () = self.stop.requested() => false,
            () = tokio::time::sleep_until(time) => true,
        }
    }

    /// Returns the lock for a change, unless it is held during the whole experiment.
    async fn lock(&self) -> anyhow::Result<Option<Lock>> {
        if !self.experiment.kills() {
            return Ok(None);
        }
        let environment = self.scene.environment;
        locked::shared(&environment.files, environment.name(), None, self.scene.events).await.map(Some)
    }

    /// Records that something begins.
    fn begins(&self, what: &str, started: Instant) -> usize {
        let begin = started.elapsed().as_secs_f64();
        self.scene.events.note(format!("{begin:.1} s: {what}"));
        let mut happened = self.happened.lock().unwrap_or_else(PoisonError::into_inner);
        happened.push(Happened { what: what.to_owned(), begin, end: None });
        happened.len() - 1
    }

    /// Records that it has ended.
    fn ends(&self, number: usize, started: Instant) {
        let end = started.elapsed().as_secs_f64();
        let mut happened = self.happened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(one) = happened.get_mut(number) {
            one.end = Some(end);
            self.scene.events.note(format!("{end:.1} s: end of {}", one.what));
        }
    }

    async fn fault(&self, planned: &Planned, started: Instant) -> anyhow::Result<()> {
        if !self.until(started + planned.at).await {
            return Ok(());
        }
        let (target, what) = match &planned.what {
            Happening::KillCluster(name) => (Target::Cluster(name.clone()), format!("all nodes of {name} killed")),
            Happening::KillZone(zone) => (Target::Zone(zone.clone()), format!("all nodes in {zone} killed")),
            Happening::Timed(..) => return self.timed(planned, started).await,
        };
        let mut number = 0;
        let held = self.scene.begin(&target, planned.lasts, || number = self.begins(&what, started)).await?;
        self.until(Instant::now() + planned.lasts).await;
        self.scene.start(held).await?;
        self.ends(number, started);
        Ok(())
    }

    async fn timed(&self, planned: &Planned, started: Instant) -> anyhow::Result<()> {
        let fault = planned.timed().context("a node ends this fault")?;
        let (engine, plan) = (self.scene.engine, self.plan);
        let lock = self.lock().await?;
        let number = self.begins(&fault.to_string(), started);
        let step = self.scene.events.step("fault", None);
        step.run(async |_| Ok(Outcome::changed(fault::inject(engine, plan, &fault).await?))).await?;
        drop(lock);
        // From now on: a fault that began late lasts as long as the others.
        self.until(Instant::now() + planned.lasts).await;
        let _lock = self.lock().await?;
        let step = self.scene.events.step("fault-clear", None);
        step.run(async |_| Ok(Outcome::changed(fault::end(engine, plan, &fault).await?))).await?;
        self.ends(number, started);
        Ok(())
    }

    /// Replaces every pod of the producer. Does not wait for the new ones: without istiod they are not ready.
    async fn restart(&self, restart: &Restart, started: Instant) -> anyhow::Result<()> {
        if !self.until(started + restart.at).await {
            return Ok(());
        }
        let _lock = self.lock().await?;
        let environment = self.scene.environment;
        let samples = &environment.spec.samples;
        let clusters: Vec<&str> = match &restart.cluster {
            Some(cluster) => vec![cluster],
            None => samples.producer.clusters.iter().map(|cluster| cluster.as_str()).collect(),
        };
        self.begins(&format!("rollout of {PRODUCER_NAME} in {}", clusters.join(", ")), started);
        for cluster in clusters {
            let client = environment.client(cluster).await?;
            let api: Api<Deployment> = Api::namespaced(client, samples.namespace.as_str());
            let restarted = api.restart(PRODUCER_NAME).await;
            restarted.with_context(|| format!("restarting {PRODUCER_NAME} in {cluster}"))?;
        }
        Ok(())
    }

    /// Collects the calls until all have ended.
    async fn watch(&self, mut watched: Watched<'_>, step: &Step) -> anyhow::Result<Vec<Sent>> {
        let (first, calls) = (self.experiment.first().as_secs_f64(), &self.experiment.calls);
        let mut sent: Vec<Sent> = Vec::new();
        let mut ticks = tokio::time::interval(INTERVAL);
        loop {
            ticks.tick().await;
            let Some(progress) = watched.progress(sent.len()).await? else { continue };
            sent.extend(progress.ended);
            let now = progress.millis / 1000.0;
            baseline(&sent, progress.sent, calls.qps, first, now).map_err(|why| {
                Error::environment(format!("calls fail before the first fault: {why}")).hint(
                    "without faults, every call has to be answered: kindmesh status shows what does not work",
                )
            })?;
            if progress.over {
                sent.sort_by(|one, other| one.at_millis.total_cmp(&other.at_millis));
                return Ok(sent);
            }
            let what = format!("{} s of calls", calls.lasts.as_secs_f64());
            step.waiting(&what, &told(&sent, progress.sent, now));
        }
    }
}

/// Returns the progress in one line: the time, the calls so far, and how those of the last seconds went.
fn told(sent: &[Sent], count: usize, now: f64) -> String {
    let lost = Tally::of(sent).lost;
    let from = (now - RECENT).max(0.0) * 1000.0;
    let recent: Vec<Sent> = sent.iter().filter(|call| call.at_millis + call.millis >= from).cloned().collect();
    let tally = Tally::of(&recent);
    let rate = |calls: usize| calls as f64 / now.clamp(1.0, RECENT);
    let latency = tally.latency_millis.map_or_else(String::new, |latency| {
        format!(", median {:.0} ms, slowest {:.0} ms", latency.p50, latency.max)
    });
    format!(
        "{now:.0} s: {count} sent, {lost} lost; last {RECENT:.0} s: {:.0} answered and {:.0} lost per second{latency}",
        rate(tally.answered),
        rate(tally.lost)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_has_real_units() {
        let call = |at_millis: f64, status| Sent { at_millis, millis: 4.0, status, reason: None };
        let mut calls: Vec<Sent> = (0..100).map(|number| call(f64::from(number) * 100.0, Some(200))).collect();
        for lost in &mut calls[80..] {
            lost.status = Some(503);
        }
        assert_eq!(
            told(&calls, 100, 10.0),
            "10 s: 100 sent, 20 lost; last 5 s: 6 answered and 4 lost per second, median 4 ms, slowest 4 ms"
        );
        assert_eq!(told(&[], 3, 0.2), "0 s: 3 sent, 0 lost; last 5 s: 0 answered and 0 lost per second");
    }
}
