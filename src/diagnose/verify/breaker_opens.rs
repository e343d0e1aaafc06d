//! `breaker.opens`

use anyhow::ensure;
use serde_json::json;

use super::breaker;
use super::check::{Trial, check};
use super::probe::Prober;

check!("breaker.opens", run,
    claim: "after 3 consecutive errors on every endpoint, calls return 503 without reaching a producer",
    evidence: "the proxy's health flags, the rejected calls, and the producers' counts before and after",
    sabotage: "consecutive5xxErrors is so high that it is never reached",
    hint: "outlier detection takes effect in the caller's cluster; with maxEjectionPercent 10 no endpoint is \
        ejected");

const CALLS: usize = 5;

async fn run(trial: &Trial<'_>) -> anyhow::Result<()> {
    const SERVICE: &str = "breaker-opens";
    let bench = trial.bench;
    let mut calling = bench.calling().await?;
    breaker::open(trial, &mut calling, SERVICE).await?;
    let mut producers = Vec::new();
    for pod in bench.pods(bench.producer(), "producer").await? {
        producers.push(Prober::open(&bench.producer().client, &bench.namespace, &pod).await?);
    }
    let before = received(&mut producers, SERVICE).await?;
    for _ in 0..CALLS {
        let outcome = calling.message(SERVICE, json!({})).await?;
        ensure!(outcome.status() == 503, "a call while the circuit is open returned: {}", outcome.describe());
    }
    let after = received(&mut producers, SERVICE).await?;
    trial
        .record(format!("{CALLS} more calls: 503 each; received by producers before {before:?}, after {after:?}"));
    ensure!(before == after, "calls reached a producer while the circuit was open: {before:?} became {after:?}");
    Ok(())
}

async fn received(producers: &mut [Prober], service: &str) -> anyhow::Result<Vec<u64>> {
    let mut counts = Vec::new();
    for producer in producers {
        counts.push(producer.received(service).await?);
    }
    Ok(counts)
}
