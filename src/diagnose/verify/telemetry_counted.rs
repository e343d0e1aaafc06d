//! `telemetry.counted`

use anyhow::ensure;
use serde_json::json;

use super::check::{Trial, check};
use crate::base::wait::Poll;

check!("telemetry.counted", run,
    claim: "the caller's proxy counts exactly the calls that were sent",
    evidence: "rq_total of the caller's proxy for the producers, before and after",
    sabotage: "a VirtualService mirrors every call to the producers once more",
    hint: "look for retries and mirrors in VirtualServices of the caller's cluster");

const CALLS: u64 = 10;

async fn run(trial: &Trial<'_>) -> anyhow::Result<()> {
    let bench = trial.bench;
    trial.apply().await?;
    let mut calling = bench.calling().await?;
    trial
        .until("a call to succeed", async || {
            let outcome = calling.message("counted", json!({})).await?;
            Ok(if outcome.status() == 200 { Poll::Ready(()) } else { Poll::NotYet(outcome.describe()) })
        })
        .await?;
    let before = total(&bench.proxy_says("clusters").await?, &bench.proxy_cluster("counted"));
    for _ in 0..CALLS {
        let outcome = calling.message("counted", json!({})).await?;
        ensure!(outcome.status() == 200, "a call failed: {}", outcome.describe());
    }
    let after = total(&bench.proxy_says("clusters").await?, &bench.proxy_cluster("counted"));
    trial.record(format!("{CALLS} × POST http://counted:8080/producer/messages: 200 each"));
    trial.record(format!("rq_total of the caller's proxy: {before} before, {after} after"));
    ensure!(after == before + CALLS, "{CALLS} calls were counted as {}", after.saturating_sub(before));
    Ok(())
}

/// The requests of all endpoints of a cluster in Envoy's `/clusters`.
fn total(said: &str, cluster: &str) -> u64 {
    let line = |line: &str| {
        let (_, count) = line.strip_prefix(cluster)?.strip_prefix("::")?.split_once("::rq_total::")?;
        count.parse::<u64>().ok()
    };
    said.lines().filter_map(line).sum()
}
