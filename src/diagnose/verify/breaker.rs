//! The first part of both checks of the circuit breaker: open it.

use anyhow::ensure;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::check::Trial;
use super::probe::{Outcome, Prober};
use crate::base::names::PORT;
use crate::base::wait::Poll;
use crate::cluster::mesh::{envoy, gateway};

/// An open circuit breaker.
pub(super) struct Opened {
    /// The first rejected call.
    pub refused: Outcome,
    /// When the last endpoint was ejected, at the latest.
    pub at: Instant,
}

/// Sends calls with 500 until every endpoint is ejected, then until the caller's own proxy rejects a call.
pub(super) async fn open(trial: &Trial<'_>, calling: &mut Prober, service: &str) -> anyhow::Result<Opened> {
    let bench = trial.bench;
    trial.apply().await?;
    // Endpoints that cannot be reached are ejected too, which would prove nothing.
    let works = trial.until("a call to succeed before", async || {
        let outcome = calling.message(service, json!({})).await?;
        Ok(if outcome.status() == 200 {
            Poll::Ready(outcome.describe())
        } else {
            Poll::NotYet(outcome.describe())
        })
    });
    trial.record(format!("before: POST http://{service}:8080/producer/messages: {}", works.await?));
    let failing = json!({"responseCode": 500});
    let mut sent = 0;
    let endpoints = trial.until("every endpoint to be ejected after 3 consecutive errors", async || {
        for _ in 0..6 {
            calling.message(service, failing.clone()).await?;
            sent += 1;
        }
        let flags = flags(&bench.proxy_says("clusters").await?, &bench.proxy_cluster(service));
        let ejected = flags.iter().filter(|flags| flags.contains("failed_outlier_check")).count();
        let told = format!("after {sent} calls with 500: {}", flags.join(", "));
        Ok(if ejected > 0 && ejected == flags.len() { Poll::Ready(told) } else { Poll::NotYet(told) })
    });
    trial.record(format!("POST http://{service}:8080/producer/messages {failing}: {}", endpoints.await?));
    trial.record(format!(
        "{} exec deploy/caller -c istio-proxy -- pilot-agent request GET clusters",
        bench.kubectl(bench.caller())
    ));
    let at = Instant::now();
    // Envoy notifies its workers of ejections at most once per second.
    let refused = trial.until("calls to be rejected by the caller's own proxy", async || {
        let outcome = calling.message(service, json!({})).await?;
        Ok(if outcome.status() == 503 { Poll::Ready(outcome) } else { Poll::NotYet(outcome.describe()) })
    });
    let refused = refused.await?;
    trial.record(format!("then: {}", refused.describe()));
    ensure!(
        refused.probed.body.contains("no healthy upstream"),
        "something other than the caller's proxy rejected the call: {}",
        refused.describe()
    );
    Ok(Opened { refused, at })
}

/// The endpoints of a cluster with their health flags.
fn flags(said: &str, cluster: &str) -> Vec<String> {
    let ports = [PORT, gateway::PORT].map(|port| format!(":{port}"));
    let is_one = |address: &str| ports.iter().any(|port| address.ends_with(port));
    let of = envoy::endpoints(said).filter(|found| found.of == cluster && is_one(found.address));
    of.map(|endpoint| format!("{} {}", endpoint.address, endpoint.health)).collect()
}

/// Returns the seconds of a duration in the DestinationRule's outlier detection: `4s`.
pub(super) fn seconds(trial: &Trial<'_>, field: &str) -> Option<u64> {
    let rule =
        trial.policies.iter().find_map(|policy| policy.data.pointer("/spec/trafficPolicy/outlierDetection"))?;
    let text = rule.get(field).and_then(Value::as_str)?;
    let (number, factor) = match text.strip_suffix('s') {
        Some(number) => (number, 1),
        None => (text.strip_suffix('m').or(text.strip_suffix('h'))?, if text.ends_with('m') { 60 } else { 3600 }),
    };
    number.parse::<u64>().ok().map(|number| number * factor)
}
