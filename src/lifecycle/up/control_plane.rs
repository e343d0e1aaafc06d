//! Primaries and remote clusters: a primary exposes its istiod, and the chain of a remote cluster waits for it.

use anyhow::Context;
use kube::api::DynamicObject;

use super::Run;
use super::cluster::Ready;
use crate::base::event::Outcome;
use crate::cluster::mesh::{gateway, istio, primary};
use crate::plan::Cluster;

impl Run {
    /// Exposes istiod to remote clusters, if there are any.
    pub(super) async fn ensure_exposed(&self, made: &Ready<'_>) -> anyhow::Result<()> {
        let objects = primary::objects(made.cluster)?;
        if objects.is_empty() {
            return Ok(());
        }
        let step = self.events.step("expose", Some(&made.cluster.name));
        step.run(async |step| {
            let deadline = self.wait_deadline();
            let changed = made.applier(step, deadline).apply(objects).await?;
            primary::wait_for_address(&made.client, made.cluster, &made.record, step, deadline).await?;
            Ok(Outcome { value: (), changed })
        })
        .await
    }

    /// Tells the chains of remote clusters that this primary's istiod is exposed and reads them.
    pub(super) fn announce(&self, made: &Ready<'_>) {
        if let Some(known) = self.control_planes.get(&made.cluster.name) {
            let _ = known.set(made.trust.clone());
        }
    }

    /// Everything of the mesh in a remote cluster, and the samples.
    pub(super) async fn ensure_remote_cluster(&self, made: &mut Ready<'_>, rendered: &str) -> anyhow::Result<()> {
        let objects = istio::objects(rendered, "")?;
        let (mut gateway, objects): (Vec<_>, Vec<_>) = objects.into_iter().partition(gateway::is_part);
        futures::try_join!(
            self.ensure_dns(made),
            self.ensure_remote_mesh(made, objects),
            self.ensure_sample_image(made.cluster)
        )?;
        made.trust = self.ensure_control_plane(made).await?;
        for object in &mut gateway {
            istio::bind_to_trust(object, &made.trust);
        }
        futures::try_join!(self.ensure_gateway(made, gateway), self.ensure_samples(made))?;
        Ok(())
    }

    async fn ensure_remote_mesh(&self, made: &Ready<'_>, objects: Vec<DynamicObject>) -> anyhow::Result<()> {
        let (kinds, mut rest): (Vec<_>, Vec<_>) = objects.into_iter().partition(istio::is_of_own_kinds);
        rest.push(primary::namespace(made.cluster)?);
        futures::try_join!(self.ensure_objects(made, "istio", rest), self.ensure_images(made.cluster))?;
        futures::try_join!(self.ensure_reader(made), self.ensure_objects(made, "kinds", kinds))?;
        Ok(())
    }

    /// Waits until the istiod of the primary serves this cluster. Returns the revision of the CA that it signs with.
    async fn ensure_control_plane(&self, made: &Ready<'_>) -> anyhow::Result<String> {
        let primary: &Cluster = self.plan.control_plane_of(made.cluster);
        let known = self.control_planes.get(&primary.name);
        let trust = known.with_context(|| format!("the plan has no cluster {}", primary.name))?.wait().await;
        let step = self.events.step("control-plane", Some(&made.cluster.name));
        step.run(async |step| {
            let served = (made.cluster, self.authority()?.root_pem());
            primary::wait_served(&made.client, served, &made.record, step, self.wait_deadline()).await?;
            Ok(Outcome::unchanged(trust.clone()))
        })
        .await
    }
}
