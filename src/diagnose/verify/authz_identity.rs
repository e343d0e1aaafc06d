//! `authz.identity`

use anyhow::ensure;
use serde_json::json;

use super::check::{Trial, check};
use crate::base::wait::Poll;

check!("authz.identity", run,
    claim: "a policy that allows only the caller's identity denies another identity of the mesh with 403",
    evidence: "calls of both identities before and after the policy",
    sabotage: "the policy allows every identity",
    hint: "look for other policies on the same pods: kubectl get authorizationpolicies -A");

async fn run(trial: &Trial<'_>) -> anyhow::Result<()> {
    let bench = trial.bench;
    let _guarded = bench.guarded.lock().await;
    let mut stranger = bench.prober(bench.caller(), "stranger").await?;
    let mut calling = bench.calling().await?;
    let before = trial.until("the other identity to be allowed without a policy", async || {
        let outcome = stranger.message("guarded", json!({})).await?;
        Ok(if outcome.status() == 200 { Poll::Ready(outcome) } else { Poll::NotYet(outcome.describe()) })
    });
    trial.record(format!(
        "before: POST http://guarded:8080/producer/messages as sa/stranger: {}",
        before.await?.describe()
    ));
    trial.apply().await?;
    let refused = trial.until("the other identity to be denied", async || {
        let outcome = stranger.message("guarded", json!({})).await?;
        Ok(if outcome.status() == 403 { Poll::Ready(outcome) } else { Poll::NotYet(outcome.describe()) })
    });
    trial.record(format!("after: as sa/stranger: {}", refused.await?.describe()));
    let allowed = calling.message("guarded", json!({})).await?;
    trial.record(format!("after: as sa/caller: {}", allowed.describe()));
    ensure!(allowed.status() == 200, "the allowed identity was denied: {}", allowed.describe());
    for policy in &trial.policies {
        bench.unapply(policy).await?;
    }
    Ok(())
}
