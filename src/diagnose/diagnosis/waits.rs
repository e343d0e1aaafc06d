//! Waits whose failure is explained: what keeps them from ending is gathered, and named where it is known.

use kube::Client;
use tokio::time::Instant;

use super::{explained, gather};
use crate::base::event::Step;
use crate::cluster::mesh::{istio, remote};

/// Waits until a Deployment is as its newest version says, all replicas ready.
///
/// # Errors
/// When it is not by the deadline, with what keeps it from being ready.
pub async fn deployment(
    client: &Client,
    namespace: &str,
    name: &str,
    step: &Step,
    deadline: Instant,
) -> anyhow::Result<()> {
    let waited = istio::wait_for_deployment(client, namespace, name, step, deadline).await;
    explained(waited, async || gather::deployment(client, namespace, name).await).await
}

/// Waits until this cluster's istiod has synced every other cluster.
///
/// # Errors
/// When it has not by the deadline, with what istiod says.
pub async fn synced(client: &Client, peers: &[&str], step: &Step, deadline: Instant) -> anyhow::Result<()> {
    let waited = remote::wait_synced(client, peers, step, deadline).await;
    explained(waited, async || gather::istiod(client).await).await
}
