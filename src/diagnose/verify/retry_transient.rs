//! `retry.transient`

use anyhow::ensure;
use serde_json::json;

use super::check::{Trial, check};
use crate::base::wait::Poll;

check!("retry.transient", run,
    claim: "with retries on 5xx, a call whose first attempt fails returns 200 at the second attempt; without \
        retries it returns the error",
    evidence: "the same call before and after, and the attempt that the producer received",
    sabotage: "the VirtualService has no retries",
    hint: "routing takes effect in the caller's cluster; check there: kubectl get virtualservices -A");

async fn run(trial: &Trial<'_>) -> anyhow::Result<()> {
    let mut calling = trial.bench.calling().await?;
    // The mesh does not retry 500 by default.
    let flaky = json!({"responseCode": 500, "failAttempts": 1});
    let before = calling.message("flaky", flaky.clone()).await?;
    trial.record(format!("without: POST http://flaky:8080/producer/messages {flaky}: {}", before.describe()));
    ensure!(before.status() == 500, "without retries the call returned {}, not 500", before.describe());
    trial.apply().await?;
    let after = trial.until("the call to be retried", async || {
        let outcome = calling.message("flaky", flaky.clone()).await?;
        Ok(if outcome.status() == 200 { Poll::Ready(outcome) } else { Poll::NotYet(outcome.describe()) })
    });
    let after = after.await?;
    let attempt = after.header("x-envoy-attempt-count").unwrap_or("none");
    trial.record(format!("with retries: {}, x-envoy-attempt-count: {attempt}", after.describe()));
    ensure!(attempt == "2", "the response came at attempt {attempt}, not 2");
    Ok(())
}
