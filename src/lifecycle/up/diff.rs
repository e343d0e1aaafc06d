//! What `up` would change in clusters that exist, object by object, by the API servers' dry run. Nothing is changed.

use std::path::Path;
use std::time::Duration;

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ApiResource, DynamicObject};
use tokio::time::Instant;

use super::existing::{self, Connected, Existing};
use super::tools::Tools;
use crate::base::event::{Events, Outcome};
use crate::base::names;
use crate::cluster::existing::record;
use crate::cluster::mesh::apply::{self, Applier, Change, Changes, Effect};
use crate::cluster::mesh::{ISTIO_NAMESPACE, cacerts, remote};
use crate::cluster::workloads;
use crate::plan::{Cluster, Plan};
use crate::spec::Spec;

/// The timeout of one cluster. A dry run of all of Istio's objects takes seconds.
const DIFF_TIMEOUT: Duration = Duration::from_secs(120);

/// Returns what `up` would change in each cluster that exists.
///
/// # Errors
/// istioctl's, or an API server's, except its refusals of single objects.
pub async fn diff(
    spec: &Spec,
    plan: &Plan,
    existing: &Existing,
    cache: &Path,
    events: &Events,
) -> anyhow::Result<Vec<Changes>> {
    let tools = Tools::new(cache.to_owned(), plan, events.clone());
    let connected = existing.connected();
    let of = plan.clusters.iter().filter_map(|cluster| Some((cluster, connected.get(&cluster.name)?)));
    let each = of.map(async |(cluster, connected)| {
        let rendered = tools.rendered(cluster).await?;
        let step = events.step("dry-run", Some(&cluster.name));
        let objects = step.run(async |step| {
            let deadline = Instant::now() + DIFF_TIMEOUT;
            let mut applier = Applier::new(connected.client.clone(), step, deadline).only_ours();
            let wanted = wanted(spec, plan, cluster, connected, &rendered).await?;
            Ok(Outcome::unchanged(changes(plan, cluster, &wanted, &mut applier).await?))
        });
        anyhow::Ok(Changes { cluster: cluster.name.clone(), objects: objects.await? })
    });
    try_join_all(each).await
}

/// Returns the objects that `up` applies, except the secrets below.
async fn wanted(
    spec: &Spec,
    plan: &Plan,
    cluster: &Cluster,
    connected: &Connected,
    rendered: &str,
) -> anyhow::Result<Vec<DynamicObject>> {
    let trust = match cluster.has_cacerts() {
        true => cacerts::revision_of_others(&connected.client).await?,
        false => cacerts::live_revision(&connected.client).await?.unwrap_or_default(),
    };
    let mut wanted = existing::everything(plan, spec, cluster, rendered, &trust)?;
    wanted.push(apply::object(record(&plan.environment, cluster.installs_istio(), &connected.trusting))?);
    Ok(wanted)
}

async fn changes(
    plan: &Plan,
    cluster: &Cluster,
    wanted: &[DynamicObject],
    applier: &mut Applier<'_>,
) -> anyhow::Result<Vec<Change>> {
    let mut changes = applier.dry_run(wanted).await?;
    let secrets = secrets(plan, cluster);
    for (secret, live) in secrets.iter().zip(applier.live(&secrets).await?) {
        changes.push(Change::unknown(secret, if live.is_some() { Effect::Keep } else { Effect::Create }));
    }
    let label = format!("{}={}", names::PART_OF_LABEL, names::PART_OF);
    changes.extend(applier.dry_prune(&workloads::kinds(), &label, wanted).await?);
    Ok(changes)
}

/// Returns the secrets whose content only `up` knows: their names.
fn secrets(plan: &Plan, cluster: &Cluster) -> Vec<DynamicObject> {
    let own = (!cluster.has_cacerts()).then(|| "cacerts".to_owned());
    let remote = plan.peers(cluster).map(|peer| remote::secret_name(&peer.name));
    let resource = ApiResource::erase::<Secret>(&());
    let secret = |name: String| DynamicObject::new(&name, &resource).within(ISTIO_NAMESPACE);
    own.into_iter().chain(remote).map(secret).collect()
}
