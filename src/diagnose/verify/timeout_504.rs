//! `timeout.504`

use anyhow::ensure;
use serde_json::json;

use super::check::{Trial, check};
use crate::base::wait::Poll;

check!("timeout.504", run,
    claim: "a call to a producer slower than the VirtualService's timeout returns 504 at the timeout, and 200 without it",
    evidence: "the same slow call before and after, with durations",
    sabotage: "the VirtualService is missing",
    hint: "routing takes effect in the caller's cluster; check there: kubectl get virtualservices -A");

const DELAY_MILLIS: u64 = 2500;
const TIMEOUT_MILLIS: u64 = 1000;
/// Envoy counts from the start of an iteration of its event loop: measured 1 ms early.
const EARLY_MILLIS: u64 = 20;

async fn run(trial: &Trial<'_>) -> anyhow::Result<()> {
    let mut calling = trial.bench.calling().await?;
    let slow = json!({"delay": DELAY_MILLIS});
    let before = calling.message("slow", slow.clone()).await?;
    trial.record(format!("without: POST http://slow:8080/producer/messages {slow}: {}", before.describe()));
    ensure!(before.status() == 200, "the slow call failed without a timeout: {}", before.describe());
    trial.apply().await?;
    let after = trial.until("the slow call to return 504", async || {
        let outcome = calling.message("slow", slow.clone()).await?;
        Ok(if outcome.status() == 504 { Poll::Ready(outcome) } else { Poll::NotYet(outcome.describe()) })
    });
    let after = after.await?;
    trial.record(format!("with timeout: 1s: {}", after.describe()));
    let millis = after.probed.millis;
    ensure!(
        (TIMEOUT_MILLIS - EARLY_MILLIS..DELAY_MILLIS).contains(&millis),
        "504 came after {millis} ms, not at the timeout of {TIMEOUT_MILLIS} ms"
    );
    Ok(())
}
