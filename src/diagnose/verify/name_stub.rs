//! `name.stub`

use anyhow::ensure;
use serde_json::json;

use super::check::{Trial, check};
use crate::base::wait::Poll;

check!("name.stub", run,
    claim: "with nothing but a stub Service in the caller's cluster, the same call is answered in another cluster",
    evidence: "the failed call before, and the successful call after",
    sabotage: "the Service is created under another name",
    hint: "see mesh.synced: the mesh must know the other cluster's endpoints");

async fn run(trial: &Trial<'_>) -> anyhow::Result<()> {
    let bench = trial.bench;
    let mut calling = bench.calling().await?;
    let before = calling.message("stub", json!({})).await?;
    trial.record(format!("before: POST http://stub:8080/producer/messages: {}", before.describe()));
    ensure!(
        before.probed.status.is_none(),
        "the call succeeded before the Service existed: {}",
        before.describe()
    );
    trial.apply().await?;
    let after = trial.until("the call to succeed", async || {
        let outcome = calling.message("stub", json!({})).await?;
        Ok(if outcome.status() == 200 { Poll::Ready(outcome) } else { Poll::NotYet(outcome.describe()) })
    });
    let after = after.await?;
    trial.record(format!("after: the same call: {}", after.describe()));
    let producer = bench.producer().name();
    ensure!(after.served_by() == producer, "{} responded, not {producer}", after.served_by());
    Ok(())
}
