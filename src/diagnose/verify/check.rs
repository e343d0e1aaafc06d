//! A check, and its context while it runs.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use futures::future::LocalBoxFuture;
use kube::api::DynamicObject;
use tokio::time::Instant;

use super::namespaces::TestNamespaces;
use crate::base::event::Events;
use crate::base::wait::{self, Poll};
use crate::cluster::mesh::apply;

/// One claim, and how it is tested.
pub struct Check {
    /// Its ID, stable.
    pub id: &'static str,
    /// The claim, one sentence.
    pub claim: &'static str,
    /// What is recorded as evidence.
    pub evidence: &'static str,
    /// What breaks exactly this claim, and so must make the check fail: how the check itself is tested.
    pub sabotage: &'static str,
    /// What to do about a failure.
    pub hint: &'static str,
    /// The policies that it applies: YAML, with any number of documents.
    pub manifest: &'static str,
    pub(super) run: for<'a> fn(&'a Trial<'a>) -> LocalBoxFuture<'a, anyhow::Result<()>>,
}

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Check({})", self.id)
    }
}

/// Turns an async function into a check's `run`.
macro_rules! check {
    ($id:literal, $run:ident, claim: $claim:literal, evidence: $evidence:literal, sabotage: $sabotage:literal,
        hint: $hint:literal) => {
        pub(super) const CHECK: $crate::diagnose::verify::Check = $crate::diagnose::verify::Check {
            id: $id,
            claim: $claim,
            evidence: $evidence,
            sabotage: $sabotage,
            hint: $hint,
            manifest: include_str!(concat!("../../../mesh-manifests/verify/", $id, ".yaml")),
            run: |trial| Box::pin($run(trial)),
        };
    };
}
pub(super) use check;

/// Why a check has no result.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Undecided(pub String);

/// How long a policy may take to take effect. A push takes about 0.2 s, a second under load.
const EFFECT_TIMEOUT: Duration = Duration::from_secs(8);

/// A running check.
pub(super) struct Trial<'a> {
    pub bench: &'a TestNamespaces,
    /// The policies: the check's own, or their replacements.
    pub policies: Vec<DynamicObject>,
    /// The deadline of the check.
    pub deadline: Instant,
    evidence: Mutex<Vec<String>>,
}

impl<'a> Trial<'a> {
    pub fn new(bench: &'a TestNamespaces, manifest: &str, deadline: Instant) -> anyhow::Result<Self> {
        let policies = apply::objects(manifest).context("reading the check's manifest")?;
        Ok(Self { bench, policies, deadline, evidence: Mutex::default() })
    }

    /// Records a line of evidence.
    pub fn record(&self, line: impl Into<String>) {
        self.evidence.lock().unwrap_or_else(PoisonError::into_inner).push(line.into());
    }

    /// Returns the evidence so far.
    pub fn evidence(&self) -> Vec<String> {
        self.evidence.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Applies the check's policies, and waits until the caller's proxy has received those for it.
    pub async fn apply(&self) -> anyhow::Result<()> {
        self.apply_all(&self.policies).await
    }

    /// The same with these policies instead.
    pub async fn apply_all(&self, policies: &[DynamicObject]) -> anyhow::Result<()> {
        self.bench.apply(policies, self.deadline).await.context("applying the check's policies")?;
        for object in policies {
            let kind = object.types.as_ref().map(|types| types.kind.as_str()).unwrap_or_default();
            let name = object.metadata.name.as_deref().unwrap_or_default();
            self.record(format!("applied {kind} {name}: {}", object.data.get("spec").unwrap_or(&object.data)));
            // istiod adds the source of a route or a cluster to the configuration that it sends.
            let (page, mark) = match kind {
                "VirtualService" => ("dynamic_route_configs", format!("virtual-service/{name}\"")),
                "DestinationRule" => ("dynamic_active_clusters", format!("destination-rule/{name}\"")),
                _ => continue,
            };
            let page = format!("config_dump?resource={page}");
            self.until(&format!("the caller's proxy to receive {kind} {name}"), async || {
                let said = self.bench.proxy_says(&page).await?;
                Ok(if said.contains(&mark) { Poll::Ready(()) } else { Poll::NotYet("not received yet".into()) })
            })
            .await?;
        }
        Ok(())
    }

    /// Waits for an effect. The error contains the last status.
    pub async fn until<T>(
        &self,
        what: &str,
        condition: impl AsyncFnMut() -> anyhow::Result<Poll<T>>,
    ) -> anyhow::Result<T> {
        self.within(EFFECT_TIMEOUT, what, condition).await
    }

    /// The same, with its own timeout.
    pub async fn within<T>(
        &self,
        time: Duration,
        what: &str,
        condition: impl AsyncFnMut() -> anyhow::Result<Poll<T>>,
    ) -> anyhow::Result<T> {
        let step = Events::silent().step("verify", None);
        wait::until(&step, what, self.deadline.min(Instant::now() + time), condition).await
    }
}
