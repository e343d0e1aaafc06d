//! `balance.replicas`

use std::collections::BTreeMap;

use anyhow::ensure;
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::json;

use super::check::{Trial, check};
use crate::cluster::mesh::apply;
use crate::spec::merge::merge;

check!("balance.replicas", run,
    claim: "a series of calls reaches every producer pod",
    evidence: "how many calls each pod answered",
    sabotage: "a DestinationRule sends all calls of one caller to one pod",
    hint: "look for a DestinationRule with consistentHash or subsets, and check the endpoints in mesh.synced");

/// For producers behind a gateway.
const ONE_CALL_PER_CONNECTION: &str = include_str!("../../../mesh-manifests/verify/balance.gateway.yaml");
/// With two pods chosen at random, all calls miss one of them once in 2^39 runs.
const CALLS: usize = 40;

/// Returns the check's policies with the setting of [`ONE_CALL_PER_CONNECTION`].
fn one_call_per_connection(policies: &[DynamicObject]) -> anyhow::Result<Vec<DynamicObject>> {
    let mut combined = apply::objects(ONE_CALL_PER_CONNECTION)?;
    for policy in policies {
        match combined
            .iter_mut()
            .find(|object| object.types == policy.types && object.name_any() == policy.name_any())
        {
            Some(object) => merge(&mut object.data, policy.data.clone()),
            None => combined.push(policy.clone()),
        }
    }
    Ok(combined)
}

async fn run(trial: &Trial<'_>) -> anyhow::Result<()> {
    let bench = trial.bench;
    if bench.is_apart() {
        trial.record(
            "the gateway chooses a pod for each connection: one call for each (maxRequestsPerConnection: 1)",
        );
        trial.apply_all(&one_call_per_connection(&trial.policies)?).await?;
    } else {
        trial.apply().await?;
    }
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
