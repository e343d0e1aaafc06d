//! Waits that add evidence to their errors, and the cause if it is known.

use kube::Client;
use tokio::time::Instant;

use super::{explain, explained, gather};
use crate::base::error::Error;
use crate::base::event::Step;
use crate::cluster::mesh::remote;
use crate::cluster::refusal::Record;
use crate::cluster::rollout::{self, Workload};
use crate::host::docker::Engine;

/// Waits until kind has created a cluster with this control plane, but not if that can never become ready: kubeadm waits for minutes.
///
/// # Errors
/// kind's, or what the node's logs show.
pub async fn creation(
    engine: &Engine,
    (cluster, control_plane): (&str, &str),
    created: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    tokio::select! {
        created = created => match created {
            Ok(()) => Ok(()),
            Err(error) => Err(explain(error, &gather::node(engine, control_plane).await)),
        },
        evidence = gather::hopeless(engine, control_plane) => {
            let error = Error::environment(format!("kind cannot create cluster {cluster}"));
            Err(explain(error.into(), &evidence))
        }
    }
}

/// Waits until the pods of a workload's latest revision are ready. `record` is the cluster's record of refusals.
///
/// # Errors
/// If they are not ready by the deadline, or cannot become ready, with the reason.
pub async fn workload(
    client: &Client,
    workload: &Workload,
    record: &Record,
    step: &Step,
    deadline: Instant,
) -> anyhow::Result<()> {
    let waited = rollout::wait(client, workload, record, step, deadline).await;
    explained(waited, async || gather::workload(client, workload).await).await
}

/// Waits until a cluster's istiod has synced every peer. `record` is the cluster's record of refusals.
///
/// # Errors
/// If it has not synced them by the deadline, with istiod's log.
pub async fn synced(
    client: &Client,
    peers: &[&str],
    record: &Record,
    step: &Step,
    deadline: Instant,
) -> anyhow::Result<()> {
    let waited = remote::wait_synced(client, peers, record, step, deadline).await;
    explained(waited, async || gather::istiod(client).await).await
}
