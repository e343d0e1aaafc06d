//! What a deployment does, decided before anything is changed: the cluster of each object, stubs, images and notes.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;

use super::manifests::Found;
use super::place::{Placed, Rules, Source};
use super::set::Set;
use super::{Options, Origin, Sides, headless, images, outside, place, stubs};
use crate::base::event::Events;
use crate::cluster::environment::{Environment, Planned};
use crate::cluster::mesh::apply::kind;
use crate::cluster::rollout::Workload;
use crate::host::docker::Engine;
use crate::lifecycle::lint;
use crate::plan::Plan;

/// The decisions of a deployment.
pub(super) struct Decided {
    pub engine: Option<Engine>,
    pub plan: Plan,
    /// The objects of the manifests.
    pub placed: Vec<Placed>,
    /// The stub Services.
    pub stubs: Vec<stubs::Stub>,
    /// The images that the pods of each cluster need.
    pub needed: BTreeMap<String, BTreeSet<String>>,
    /// The images that the engine has, with their IDs.
    pub ours: BTreeMap<String, String>,
    /// What to apply in each cluster.
    pub sets: Vec<Set>,
    /// Notes.
    pub notes: Vec<String>,
}

impl Decided {
    /// Decides what a deployment does. No cluster is changed. With `pull`, the engine pulls images that it lacks and the nodes
    /// cannot pull.
    ///
    /// # Errors
    /// A usage error for objects that cannot be placed, that no cluster serves, or that kindmesh did not create; otherwise
    /// errors of the API servers and the engine.
    pub(super) async fn decide(
        environment: &Environment,
        found: Found,
        origin: &Origin,
        options: &Options,
        pull: Option<&Events>,
    ) -> anyhow::Result<Self> {
        let clusters: Vec<String> = environment.cluster_names().into_iter().map(str::to_owned).collect();
        if let Some(to) = &options.to {
            environment.cluster(to)?;
        }
        let spec = &environment.spec;
        let primary = |cluster: &crate::spec::Cluster| {
            Some((cluster.name.to_string(), spec.primary_of(cluster)?.name.to_string()))
        };
        let primaries = spec.clusters.iter().filter_map(primary).collect();
        let rules = Rules {
            to: options.to.as_deref(),
            spec: &options.places,
            clusters: &clusters,
            primaries: &primaries,
            namespace: &options.namespace,
            force_namespace: options.force_namespace,
        };
        let mut placed = place::place(found.manifests, &rules)?;
        let sides = Sides::open(environment).await?;
        let live = sides.services(origin).await?;
        let Planned { engine, plan } = environment.planned().await?;
        let networks = plan.clusters.iter().map(|cluster| (cluster.name.to_string(), cluster.network.clone()));
        let captured = headless::captures_dns(&environment.spec.mesh.values);
        let names = headless::Names { captured, networks: networks.collect() };
        let candidates = stubs::candidates(&placed, &live, &clusters);
        let (stubs, about_stubs) = stubs::stubs(&placed, &candidates, &clusters, &names);
        let mut notes = found.notes;
        notes.extend(about_stubs);
        notes.extend(lint::notes(&placed, &live));

        images::check(&placed)?;
        let needed = images::needed(&placed);
        // The nodes of a cluster that exists pull their images.
        let owned = |cluster: &String| plan.cluster(cluster).is_some_and(|cluster| cluster.host.kind().is_some());
        let on_ours: BTreeSet<_> =
            needed.iter().filter(|(cluster, _)| owned(cluster)).flat_map(|(_, images)| images).collect();
        if let (Some(engine), Some(events)) = (&engine, pull) {
            notes.extend(images::pull(engine, on_ours.iter().copied(), events).await?);
        }
        let ours = match &engine {
            Some(engine) => images::in_engine(engine, on_ours.iter().copied()).await?,
            None => BTreeMap::new(),
        };
        let loaded = placed.iter_mut().filter(|placed| placed.clusters.iter().all(owned));
        notes.extend(loaded.filter_map(|placed| images::use_loaded(placed, &ours)));
        let elsewhere = on_ours.iter().filter(|image| !ours.contains_key(**image));
        notes.extend(elsewhere.map(|image| format!("{image} is not in the engine: the nodes pull it")));

        let mut sets = Vec::new();
        for (cluster, client) in &sides.0 {
            let here = placed.iter().filter(|placed| placed.clusters.contains(cluster));
            let mut objects: Vec<_> = here.map(|placed| (placed.object.clone(), placed.source.clone())).collect();
            let balanced = plan
                .cluster(cluster)
                .is_some_and(|cluster| cluster.host.kind().is_none_or(|kind| kind.balancers.is_some()));
            notes.extend(
                outside::notes((cluster, client), objects.iter().map(|(object, _)| object), balanced).await?,
            );
            let stubs = stubs.iter().filter(|stub| stub.cluster == *cluster);
            objects.extend(stubs.map(|stub| (stub.object.clone(), Source::default())));
            sets.push(Set::prepare(environment, cluster, client, objects, origin, &mut notes).await?);
        }
        if options.wait {
            notes.extend(placed.iter().filter_map(unawaited));
        }
        Ok(Self { engine, plan, placed, stubs, needed, ours, sets, notes })
    }
}

/// Returns a note about an object whose pods nobody waits for, as their controller is not known.
fn unawaited(placed: &Placed) -> Option<String> {
    let object = &placed.object;
    let runs = place::pod_template(object).is_some() && kind(object) != "CronJob";
    let is_awaited = Workload::of(object).is_some();
    (runs && !is_awaited)
        .then(|| format!("{} {}: deploy does not wait for its pods", kind(object), object.name_any()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::mesh::apply::objects;

    #[test]
    fn pods_of_unknown_controllers_are_not_awaited() {
        let note = |kind: &str| {
            let yaml = format!(
                "{{apiVersion: apps/v1, kind: {kind}, metadata: {{name: web}}, spec: {{template: {{spec: {{containers: [{{name: a}}]}}}}}}}}"
            );
            let object = objects(&yaml).unwrap().remove(0);
            unawaited(&Placed { object, clusters: Vec::new(), by: place::By::To, source: Source::default() })
        };
        assert_eq!(note("Rollout").unwrap(), "Rollout web: deploy does not wait for its pods");
        assert_eq!((note("Deployment"), note("CronJob")), (None, None));
    }
}
