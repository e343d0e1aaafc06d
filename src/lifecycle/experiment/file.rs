//! An experiment, and the fields of its file.

use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::cluster::fault::Kind;
use crate::cluster::policies::Policy;
use crate::spec::Label;

/// An experiment: steady calls, faults over time, and what must hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Experiment {
    /// Its name.
    pub name: Label,
    /// What it shows, in a sentence or two.
    pub description: Option<String>,
    /// What an environment must have for it.
    pub needs: Vec<Need>,
    /// The calls.
    pub calls: Calls,
    /// Policies that are applied before, and removed afterwards.
    pub policies: Vec<Policy>,
    /// The faults, in the order of their begin.
    pub faults: Vec<Planned>,
    /// The rollouts, in the order of their begin.
    pub restarts: Vec<Restart>,
    /// What must hold.
    pub expect: Expect,
}

/// A cluster that an environment must have.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Need {
    /// Its name.
    pub cluster: Label,
    /// Its region, if that matters.
    pub region: Option<String>,
    /// Its zone, if that matters.
    pub zone: Option<String>,
    /// Whether the sample caller must run in it.
    #[serde(default)]
    pub caller: bool,
    /// Whether the sample producer must run in it.
    #[serde(default)]
    pub producer: bool,
}

/// The calls of an experiment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calls {
    /// The cluster from which they are sent.
    pub from: Label,
    /// Calls per second.
    pub qps: u32,
    /// How long they are sent.
    pub lasts: Duration,
    /// The host and the port to call; the sample producer if none.
    pub host: Option<(String, u16)>,
    /// The path to get; if none, the sample producer's messages.
    pub path: Option<String>,
    /// The timeout of each call.
    pub timeout: Duration,
}

/// A fault, and when it happens. Times are relative to the first call.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// When it begins.
    pub at: Duration,
    /// How long it lasts.
    pub lasts: Duration,
    /// What happens.
    pub what: Happening,
}

/// What a fault does.
#[derive(Debug, Clone, PartialEq)]
pub enum Happening {
    /// A fault that a node ends: between two clusters, or of the istiod of one.
    Timed(Kind, Vec<String>),
    /// The nodes of a cluster are killed.
    KillCluster(String),
    /// The nodes of a zone are killed.
    KillZone(String),
}

/// A rollout of the sample producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restart {
    /// When it begins.
    pub at: Duration,
    /// The cluster; every one with producers if none.
    pub cluster: Option<String>,
}

/// What must hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Expect {
    /// The largest part of all calls that may be lost, in percent.
    pub lost: Option<f64>,
    /// The longest time that 99 % of the answered calls may take.
    pub p99: Option<Duration>,
    /// How long after the begin of a fault calls may be lost.
    pub back: Option<Duration>,
    /// How long after the end of a fault calls may be lost.
    pub back_after_end: Option<Duration>,
}

impl Experiment {
    /// Returns when the first fault or rollout begins; the end of the calls if there is none.
    pub fn first(&self) -> Duration {
        let begins =
            self.faults.iter().map(|fault| fault.at).chain(self.restarts.iter().map(|restart| restart.at));
        begins.min().unwrap_or(self.calls.lasts)
    }

    /// Whether nodes are killed.
    pub fn kills(&self) -> bool {
        self.faults.iter().any(|fault| !matches!(fault.what, Happening::Timed(..)))
    }
}

impl Calls {
    /// Returns how many calls are sent.
    pub fn count(&self) -> u64 {
        u64::from(self.qps) * self.lasts.as_millis() as u64 / 1000
    }
}

/// The fields of a file. Values are text until the rules have read them, so that each error says what is valid.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Written {
    pub name: Label,
    pub description: Option<String>,
    #[serde(default)]
    pub needs: Vec<Need>,
    pub calls: WrittenCalls,
    #[serde(default)]
    pub policies: Vec<String>,
    #[serde(default)]
    pub faults: Vec<WrittenFault>,
    #[serde(default)]
    pub restarts: Vec<WrittenRestart>,
    pub expect: WrittenExpect,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenCalls {
    pub from: Label,
    pub qps: String,
    #[serde(rename = "for")]
    pub lasts: String,
    pub host: Option<String>,
    pub path: Option<String>,
    pub timeout: Option<String>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenFault {
    pub at: String,
    pub fault: FaultName,
    pub between: Option<Vec<Label>>,
    pub cluster: Option<Label>,
    pub zone: Option<String>,
    pub value: Option<String>,
    #[serde(rename = "for")]
    pub lasts: String,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenRestart {
    pub at: String,
    pub rollout: Rollout,
    pub cluster: Option<Label>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct WrittenExpect {
    pub lost: Option<String>,
    pub p99: Option<String>,
    pub back: Option<String>,
    pub back_after_end: Option<String>,
}

/// The name of a fault, as `kindmesh fault` takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FaultName {
    Cut,
    Partition,
    Loss,
    Bandwidth,
    Delay,
    Jitter,
    KillCluster,
    KillZone,
    KillIstiod,
}

/// What can be rolled out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Rollout {
    Producer,
}

/// Returns the policies of that name.
pub(super) fn policy(name: &str) -> Option<Policy> {
    Policy::from_str(name, false).ok()
}
