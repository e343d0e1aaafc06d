//! What the checks of protocols share: calls that cross with the caller's identity, and which pods answered them.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};

use super::balance;
use super::check::Trial;
use crate::cluster::call::last_identity;
use crate::sample::{Message, ProducerAnswer, Protocol};

/// As in [`super::balance`].
const CALLS: u32 = balance::CALLS as u32;

/// Sends a series of calls, on one connection if the protocol has several calls on one. Checks that each is answered in the
/// producer's cluster, and that together they reach every pod.
pub(super) async fn calls_reach_every_pod(
    trial: &Trial<'_>,
    service: &str,
    protocol: Protocol,
) -> anyhow::Result<Vec<ProducerAnswer>> {
    let bench = trial.bench;
    let expected = bench.pods(bench.producer(), "producer").await?.len();
    let mut calling = bench.calling().await?;
    let message = Message { protocol: Some(protocol), ..Message::default() };
    let mut answers = Vec::new();
    let mut pods: BTreeMap<String, usize> = BTreeMap::new();
    for called in calling.calls(service, message, CALLS).await? {
        let reason = called.reason.unwrap_or_else(|| format!("status {}", called.status_code));
        let answer = called.answer.with_context(|| format!("a call failed: {reason}"))?;
        ensure!(called.status_code == 200, "a call failed: {reason}");
        let by = &answer.metadata;
        ensure!(
            by.cluster_name == bench.producer().name(),
            "{} responded, not {}",
            by.cluster_name,
            bench.producer().name()
        );
        *pods.entry(by.host_name.clone()).or_default() += 1;
        answers.push(answer);
    }
    trial.record(format!("{CALLS} {protocol} calls of Service {service}: answered by {pods:?}"));
    ensure!(pods.len() == expected, "{} of {expected} producer pods answered {CALLS} calls", pods.len());
    Ok(answers)
}

/// Checks that all calls arrived with the caller's identity, in this version of HTTP.
pub(super) fn carry_identity(trial: &Trial<'_>, answers: &[ProducerAnswer], version: &str) -> anyhow::Result<()> {
    let expected = format!("spiffe://cluster.local/ns/{}/sa/caller", trial.bench.namespace);
    for answer in answers {
        let header = answer.headers.get("x-forwarded-client-cert");
        let header =
            header.context("the producer received no caller identity: the call came without mutual TLS")?;
        let uri = last_identity(header).unwrap_or_default();
        ensure!(uri == expected, "the producer received the identity {uri:?}, not {expected}");
        let seen = answer.http_version.as_deref().unwrap_or_default();
        ensure!(seen == version, "the producer received {seen:?}, not {version}");
    }
    trial.record(format!("all of them: {version} from {expected}"));
    Ok(())
}
