//! Connects the clusters: each istiod gets a remote secret for every peer, to read that cluster's API server.

use anyhow::Context;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, DynamicObject};
use kube::{Client, ResourceExt};

use super::Run;
use super::cluster::Ready;
use crate::base::event::Outcome;
use crate::base::names::API_PORT;
use crate::cluster::mesh::remote::{self, Reader};
use crate::diagnose::diagnosis::waits;
use crate::plan::{Cluster, Host};

/// What peers need to read a cluster.
pub(super) struct Published {
    pub(super) client: Client,
    pub(super) reader: Reader,
    /// The URL of its API server for clusters that exist: they do not resolve the names of kind's nodes.
    outside: String,
}

/// A peer of a cluster.
pub(super) struct Peer<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) reader: &'a Reader,
    /// The URL at which the cluster reaches the API server of this peer.
    pub(super) url: &'a str,
}

impl Peer<'_> {
    pub(super) fn secret(&self) -> anyhow::Result<DynamicObject> {
        remote::secret(&self.cluster.name, self.url, self.reader)
    }
}

impl Run {
    /// Publishes what peers need to read this cluster.
    pub(super) async fn ensure_reader(&self, made: &Ready<'_>) -> anyhow::Result<()> {
        let step = self.events.step("reader", Some(&made.cluster.name));
        let published = step
            .run(async |step| {
                let mut changed = false;
                // Otherwise applied with Istio's objects.
                if !made.cluster.installs_istio() {
                    changed = made.applier(step, self.wait_deadline()).apply(remote::token_objects()?).await?;
                }
                let mut reader = remote::reader(&made.client, &made.record, step, self.wait_deadline()).await?;
                if let Some(connected) = self.connected.get(&made.cluster.name) {
                    reader = reader.trusting(&connected.ca)?;
                }
                let outside = self.outside(made).await?;
                let value = Published { client: made.client.clone(), reader, outside };
                Ok(Outcome { value, changed })
            })
            .await?;
        if let Some(known) = self.readers.get(&made.cluster.name) {
            let _ = known.set(published);
        }
        Ok(())
    }

    /// Returns the URL of a cluster's API server for clusters that exist.
    async fn outside(&self, made: &Ready<'_>) -> anyhow::Result<String> {
        match &made.cluster.host {
            Host::Kind(kind) if !self.connected.is_empty() => {
                let address = internal_address(&made.client, kind.control_plane()).await?;
                Ok(format!("https://{address}:{API_PORT}"))
            }
            _ => Ok(made.cluster.api_server.clone()),
        }
    }

    /// Waits until everything is known that a cluster needs to read its peers, remote clusters included.
    pub(super) async fn peers<'a>(&'a self, cluster: &'a Cluster) -> Vec<Peer<'a>> {
        let mut peers = Vec::new();
        for peer in self.plan.peers(cluster) {
            if let Some(published) = self.readers.get(&peer.name) {
                let published = published.wait().await;
                let url = match cluster.host {
                    Host::Kind(_) => &peer.api_server,
                    Host::Existing(_) => &published.outside,
                };
                peers.push(Peer { cluster: peer, reader: &published.reader, url });
            }
        }
        peers
    }

    /// Gives this cluster's istiod access to every peer, remote clusters included.
    pub(super) async fn ensure_remote_clusters(&self, made: &Ready<'_>) -> anyhow::Result<()> {
        let name = &made.cluster.name;
        let peers = self.peers(made.cluster).await;
        self.reached.wait().await;
        let step = self.events.step("remote-secrets", Some(name));
        step.run(async |step| {
            let secrets = peers.iter().map(Peer::secret).collect::<Result<_, _>>()?;
            let changed = made.applier(step, self.wait_deadline()).apply(secrets).await?;
            Ok(Outcome { value: (), changed })
        })
        .await?;
        let step = self.events.step("sync", Some(name));
        step.run(async |step| {
            let peers: Vec<&str> = peers.iter().map(|peer| peer.cluster.name.as_str()).collect();
            waits::synced(&made.client, &peers, &made.record, step, self.wait_deadline()).await?;
            Ok(Outcome::unchanged(()))
        })
        .await
    }
}

/// Returns the address of a node.
async fn internal_address(client: &Client, node: &str) -> anyhow::Result<String> {
    let api: Api<Node> = Api::all(client.clone());
    let found = api.get(node).await.with_context(|| format!("getting node {node}"))?;
    let addresses = found.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let internal = addresses.into_iter().find(|address| address.type_ == "InternalIP");
    let internal = internal.map(|address| address.address.clone());
    internal.with_context(|| format!("node {} has no address", found.name_any()))
}
