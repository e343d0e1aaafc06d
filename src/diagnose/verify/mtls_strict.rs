//! `mtls.strict`

use anyhow::ensure;
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::json;

use super::check::{Trial, check};
use crate::base::wait::Poll;

check!("mtls.strict", run,
    claim: "a plain-text call to a pod's address succeeds under PERMISSIVE and is reset under STRICT; a mesh \
        call succeeds under both",
    evidence: "plain-text and mesh calls under both modes",
    sabotage: "PERMISSIVE is applied instead of STRICT",
    hint: "look for a PeerAuthentication that overrides it: kubectl get peerauthentications -A");

async fn run(trial: &Trial<'_>) -> anyhow::Result<()> {
    let bench = trial.bench;
    let _guarded = bench.guarded.lock().await;
    let pod = bench.prober(bench.producer(), "guarded").await?.address;
    // Pods of another network are not reached by address.
    let from = if bench.is_apart() { bench.producer() } else { bench.caller() };
    let mut plain = bench.prober(from, "plain").await?;
    let mut calling = bench.calling().await?;

    bench.apply(&trial.policies.iter().cloned().map(permissive).collect::<Vec<_>>(), trial.deadline).await?;
    let outcome = trial.until("a plain-text call to succeed under PERMISSIVE", async || {
        let outcome = plain.message(&pod, json!({})).await?;
        Ok(if outcome.status() == 200 { Poll::Ready(outcome) } else { Poll::NotYet(outcome.describe()) })
    });
    trial.record(format!(
        "PERMISSIVE: plain-text POST http://{pod}:8080/producer/messages: {}",
        outcome.await?.describe()
    ));
    let mesh = calling.message("guarded", json!({})).await?;
    trial.record(format!("PERMISSIVE: POST http://guarded:8080 through the mesh: {}", mesh.describe()));
    ensure!(mesh.status() == 200, "a mesh call failed under PERMISSIVE: {}", mesh.describe());

    trial.apply().await?;
    let outcome = trial.until("a plain-text call to be reset under STRICT", async || {
        let outcome = plain.message(&pod, json!({})).await?;
        Ok(if outcome.probed.status.is_none() { Poll::Ready(outcome) } else { Poll::NotYet(outcome.describe()) })
    });
    let outcome = outcome.await?;
    trial.record(format!("STRICT: the same plain-text call: {}", outcome.describe()));
    let error = outcome.probed.error.clone().unwrap_or_default();
    ensure!(error.contains("reset") || error.contains("closed"), "it was not reset: {error}");
    let mesh = calling.message("guarded", json!({})).await?;
    trial.record(format!("STRICT: through the mesh: {}", mesh.describe()));
    ensure!(mesh.status() == 200, "a mesh call failed under STRICT: {}", mesh.describe());
    for policy in &trial.policies {
        bench.unapply(policy).await?;
    }
    Ok(())
}

/// The same policy, but permissive.
fn permissive(mut policy: DynamicObject) -> DynamicObject {
    if policy.types.as_ref().is_some_and(|types| types.kind == "PeerAuthentication")
        && !policy.name_any().is_empty()
    {
        policy.data["spec"]["mtls"]["mode"] = json!("PERMISSIVE");
    }
    policy
}
