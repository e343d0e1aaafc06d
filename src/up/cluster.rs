//! One cluster, from nothing to an istiod that is ready: a chain of its own, beside the other clusters'.

use futures::future::try_join_all;
use kube::Client;

use super::Run;
use crate::diagnosis::{self, gather};
use crate::event::Outcome;
use crate::kind::{self, Kind, Revived};
use crate::link;
use crate::mesh::apply::Applier;
use crate::mesh::remote::{self, Reader};
use crate::mesh::{ISTIO_NAMESPACE, cacerts, client, istio, render};
use crate::plan::Cluster;
use crate::trust::Intermediate;
use crate::wait::{self, Poll};

/// A cluster with a control plane of the mesh.
pub(super) struct Made<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) client: Client,
    pub(super) reader: Reader,
}

impl Run {
    pub(super) async fn ensure_cluster<'a>(&self, cluster: &'a Cluster) -> anyhow::Result<Made<'a>> {
        let client = self.ensure_kubernetes(cluster).await?;
        self.ensure_link(cluster).await?;
        futures::try_join!(self.ensure_cacerts(cluster, &client), self.ensure_images_on_nodes(cluster))?;
        self.ensure_istio(cluster, &client).await?;
        let reader = self.ensure_reader(cluster, &client).await?;
        Ok(Made { cluster, client, reader })
    }

    /// The nodes run and the API server answers.
    async fn ensure_kubernetes(&self, cluster: &Cluster) -> anyhow::Result<Client> {
        let kind = Kind { engine: &self.engine, plan: &self.plan, files: &self.files };
        let step = self.events.step("cluster", Some(&cluster.name));
        step.run(async |step| {
            let revived = kind.revive(cluster, &self.existing).await?;
            if revived == Revived::HalfMade {
                kind.create(cluster, &self.tools.kind().await?, step).await?;
            }
            let kubeconfig = kind.ensure_kubeconfig(cluster, async || self.tools.kind().await).await?.value;
            let client = client::connect(&kubeconfig).await?;
            let waited = wait::until(step, "the API server to answer", self.wait_deadline(), async || {
                Ok(match client.apiserver_version().await {
                    Ok(_) => Poll::Ready(()),
                    Err(error) => Poll::NotYet(error.to_string()),
                })
            })
            .await;
            diagnosis::explained(waited, async || gather::node(&self.engine, cluster.control_plane()).await)
                .await?;
            Ok(Outcome { value: client, changed: revived != Revived::Running })
        })
        .await
    }

    async fn ensure_link(&self, cluster: &Cluster) -> anyhow::Result<()> {
        let step = self.events.step("link", Some(&cluster.name));
        step.run(async |_| {
            let nodes = cluster.nodes.iter().map(|node| link::ensure(&self.engine, &self.plan, cluster, node));
            let changed = try_join_all(nodes).await?.iter().any(|outcome| outcome.changed);
            Ok(Outcome { value: (), changed })
        })
        .await
    }

    async fn ensure_images_on_nodes(&self, cluster: &Cluster) -> anyhow::Result<()> {
        self.ensure_images().await?;
        let step = self.events.step("images", Some(&cluster.name));
        step.run(async |_| {
            let nodes = cluster.nodes.iter().map(|node| self.load.ensure_on(&self.engine, node));
            let changed = try_join_all(nodes).await?.iter().any(|outcome| outcome.changed);
            Ok(Outcome { value: (), changed })
        })
        .await
    }

    /// The cluster's intermediate is where istiod looks for it.
    async fn ensure_cacerts(&self, cluster: &Cluster, client: &Client) -> anyhow::Result<()> {
        let step = self.events.step("cacerts", Some(&cluster.name));
        step.run(async |step| {
            let environment = &self.plan.environment;
            let intermediate =
                Intermediate::ensure(&self.files.trust(), &self.root, environment, &cluster.name)?.value;
            let objects = cacerts::objects(&self.plan.mesh, &intermediate)?;
            let changed = Applier::new(client.clone(), step, self.wait_deadline()).apply(objects).await?;
            Ok(Outcome { value: (), changed })
        })
        .await
    }

    /// istiod is as rendered and ready; it is not created before kube-proxy works.
    async fn ensure_istio(&self, cluster: &Cluster, client: &Client) -> anyhow::Result<()> {
        let step = self.events.step("istio", Some(&cluster.name));
        step.run(async |step| {
            let rendered =
                render::manifests(&self.cache, &self.plan, cluster, async || self.tools.istioctl().await).await?;
            let objects = istio::objects(&rendered.value, &self.root.digest())?;
            let waited = kind::wait_for_kube_proxy(&self.engine, cluster, step, self.wait_deadline()).await;
            let look = async || gather::node_in_cluster(&self.engine, cluster.control_plane(), client).await;
            diagnosis::explained(waited, look).await?;
            let changed = Applier::new(client.clone(), step, self.wait_deadline()).apply(objects).await?;
            Ok(Outcome { value: (), changed })
        })
        .await?;
        let step = self.events.step("istiod", Some(&cluster.name));
        step.run(async |step| {
            let (name, deadline) = (istio::ISTIOD, self.wait_deadline());
            istio::wait_for_deployment(client, ISTIO_NAMESPACE, name, step, deadline).await?;
            Ok(Outcome::unchanged(()))
        })
        .await
    }

    async fn ensure_reader(&self, cluster: &Cluster, client: &Client) -> anyhow::Result<Reader> {
        let step = self.events.step("reader", Some(&cluster.name));
        step.run(async |step| Ok(Outcome::unchanged(remote::reader(client, step, self.wait_deadline()).await?)))
            .await
    }
}
