//! `balance.replicas`

use std::collections::BTreeMap;

use anyhow::ensure;
use serde_json::json;

use super::balance::{self, CALLS};
use super::check::{Trial, check};

check!("balance.replicas", run,
    claim: "a series of calls reaches every producer pod",
    evidence: "how many calls each pod answered",
    sabotage: "a DestinationRule sends all calls of one caller to one pod",
    hint: "look for a DestinationRule with consistentHash or subsets, and check the endpoints in mesh.synced");

async fn run(trial: &Trial<'_>) -> anyhow::Result<()> {
    let bench = trial.bench;
    balance::apply_for(trial, "replicas").await?;
    let expected = bench.pods(bench.producer(), "producer").await?.len();
    let mut calling = bench.calling().await?;
    let mut pods: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..CALLS {
        let outcome = calling.message("replicas", json!({})).await?;
        ensure!(outcome.status() == 200, "a call failed: {}", outcome.describe());
        *pods.entry(outcome.pod().to_owned()).or_default() += 1;
    }
    trial.record(format!("{CALLS} × POST http://replicas:8080/producer/messages: answered by {pods:?}"));
    ensure!(pods.len() == expected, "{} of {expected} producer pods answered {CALLS} calls", pods.len());
    Ok(())
}
