//! `failover.locality`

use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use serde_json::json;

use super::check::{Trial, Undecided, check};
use super::namespaces::Cluster;
use crate::base::wait::Poll;

check!("failover.locality", run,
    claim: "the producer in the caller's own locality answers all calls; when it is removed, the remote one does, \
        and no call fails",
    evidence: "who answered while both ran, during the change, and afterwards",
    sabotage: "outlier detection is off",
    hint: "locality is used only with outlier detection, and requires region labels on the nodes");

/// The label of a node's region.
const REGION: &str = "topology.kubernetes.io/region";
const CALLS: usize = 10;
/// A pod's graceful termination takes 3 s of preStop, and its endpoint update less than a second.
const GONE_TIMEOUT: Duration = Duration::from_secs(20);

async fn run(trial: &Trial<'_>) -> anyhow::Result<()> {
    let bench = trial.bench;
    let (near, far) = (bench.caller(), bench.producer());
    for cluster in [near, far].into_iter().filter(|cluster| cluster.spec.exists()) {
        if !has_region(cluster).await? {
            let why = format!(
                "the nodes of {} have no label {REGION}, so istiod cannot prefer a locality",
                cluster.name()
            );
            return Err(Undecided(why).into());
        }
    }
    trial.apply().await?;
    let mut calling = bench.calling().await?;
    trial
        .until("the local producer to be preferred", async || {
            for _ in 0..CALLS {
                let outcome = calling.message("failover", json!({})).await?;
                if outcome.served_by() != near.name() {
                    return Ok(Poll::NotYet(outcome.describe()));
                }
            }
            Ok(Poll::Ready(()))
        })
        .await?;
    trial
        .record(format!("{CALLS} × POST http://failover:8080/producer/messages: all answered in {}", near.name()));
    bench.scale(near, "near", 0).await?;
    let (mut during, mut failed, mut in_a_row) = (0, Vec::new(), 0);
    trial
        .within(GONE_TIMEOUT, "the remote producers to answer", async || {
            let outcome = calling.message("failover", json!({})).await?;
            during += 1;
            if outcome.status() != 200 {
                failed.push(outcome.describe());
            }
            in_a_row = if outcome.served_by() == far.name() { in_a_row + 1 } else { 0 };
            let ended = bench.pods(near, "near").await?.is_empty() && in_a_row >= CALLS;
            Ok(if ended { Poll::Ready(()) } else { Poll::NotYet(outcome.describe()) })
        })
        .await?;
    trial.record(format!("{} scale deploy near --replicas 0; {during} calls meanwhile", bench.kubectl(near)));
    trial.record(format!("the last {CALLS} were answered in {}", far.name()));
    ensure!(failed.is_empty(), "{} of {during} calls failed in between: {}", failed.len(), failed.join("; "));
    Ok(())
}

async fn has_region(cluster: &Cluster) -> anyhow::Result<bool> {
    let nodes = Api::<Node>::all(cluster.client.clone()).list(&ListParams::default()).await;
    let nodes = nodes.with_context(|| format!("listing the nodes of {}", cluster.name()))?;
    Ok(nodes.iter().all(|node| node.labels().contains_key(REGION)))
}
