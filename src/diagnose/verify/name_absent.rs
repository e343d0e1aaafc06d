//! `name.absent`

use anyhow::ensure;
use serde_json::json;

use super::check::{Trial, check};

check!("name.absent", run,
    claim: "without a Service in the caller's cluster, the name does not resolve, and the call fails at once",
    evidence: "the call on a new connection, with its error and duration",
    sabotage: "the Service exists in the caller's cluster",
    hint: "something resolves the name: DNS capture of the proxies (ISTIO_META_DNS_CAPTURE), or a wildcard domain");

/// Far below any timeout: the cluster's own DNS server rejects the name.
const AT_ONCE_MILLIS: u64 = 5000;

async fn run(trial: &Trial<'_>) -> anyhow::Result<()> {
    trial.apply().await?;
    let outcome = trial.bench.calling().await?.message("absent", json!({})).await?;
    let at = trial.bench.producer().name();
    trial.record(format!(
        "POST http://absent:8080/producer/messages (a Service of {at} only): {}",
        outcome.describe()
    ));
    ensure!(outcome.probed.status.is_none(), "the call succeeded: {}", outcome.describe());
    let error = outcome.probed.error.clone().unwrap_or_default();
    ensure!(error.contains("does not resolve"), "the call failed, but not because of its name: {error}");
    ensure!(outcome.probed.millis < AT_ONCE_MILLIS, "the call failed only after {} ms", outcome.probed.millis);
    Ok(())
}
