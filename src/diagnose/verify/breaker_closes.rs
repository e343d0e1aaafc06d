//! `breaker.closes`

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::json;
use tokio::time::Instant;

use super::breaker;
use super::check::{Trial, check};
use crate::base::wait::Poll;

check!("breaker.closes", run,
    claim: "within baseEjectionTime × ejections + interval the circuit closes, and a call returns 200 again",
    evidence: "when the circuit opened, and when the first call succeeded",
    sabotage: "baseEjectionTime is an hour",
    hint: "ejected endpoints return only at ticks of the interval, after baseEjectionTime × their ejections");

/// Envoy's workers notice it up to a second late, and the call itself takes time.
const SLACK: Duration = Duration::from_secs(2);

async fn run(trial: &Trial<'_>) -> anyhow::Result<()> {
    const SERVICE: &str = "breaker-closes";
    let base =
        breaker::seconds(trial, "baseEjectionTime").context("the DestinationRule has no baseEjectionTime")?;
    let interval = breaker::seconds(trial, "interval").context("the DestinationRule has no interval")?;
    let mut calling = trial.bench.calling().await?;
    let opened = breaker::open(trial, &mut calling, SERVICE).await?;
    // Each Service has one check, and each check ejects once.
    let promised = Duration::from_secs(base + interval) + SLACK;
    ensure!(
        opened.at + promised < trial.deadline,
        "the circuit stays open for {base} s + {interval} s, longer than this check may take (--timeout)"
    );
    let closed = trial.within(promised, "a call to succeed again", async || {
        let outcome = calling.message(SERVICE, json!({})).await?;
        Ok(if outcome.status() == 200 { Poll::Ready(outcome) } else { Poll::NotYet(outcome.describe()) })
    });
    let closed = closed.await?;
    let after = (Instant::now() - opened.at).as_secs_f64();
    trial.record(format!(
        "{after:.1} s after the last ejection: {} (before: {})",
        closed.describe(),
        opened.refused.describe()
    ));
    Ok(())
}
