//! The objects of one cluster: labels them, checks their owner, applies them and waits until they are ready.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use futures::future::try_join_all;
use kube::api::DynamicObject;
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::time::Instant;

use super::headless::is_headless;
use super::place::Source;
use super::stubs::STUB;
use super::{DEPLOY, FROM, Object, Options, Origin, place, remove, schema};
use crate::base::error::Error;
use crate::base::event::{Events, Outcome, Step};
use crate::cluster::environment::Environment;
use crate::cluster::existing;
use crate::cluster::kinds;
use crate::cluster::mesh::apply::{self, Applier, Change, Changes, Effect, Refused, kind};
use crate::cluster::refusal::Record;
use crate::cluster::rollout::Workload;
use crate::diagnose::diagnosis::waits;
use crate::plan::{MANAGED_BY, MANAGED_BY_LABEL};

const INJECTION: &str = "istio-injection";

/// The objects to apply in one cluster.
pub(super) struct Set {
    cluster: String,
    client: Client,
    record: Record,
    /// The kinds that the API server serves.
    kinds: kinds::Kinds,
    objects: Vec<DynamicObject>,
    /// Where the objects were read.
    sources: BTreeMap<Object, Source>,
    /// The arguments with which kubectl addresses the cluster.
    kubectl: String,
    /// Existing Services to delete first: a Service cannot become headless, nor get a cluster IP later.
    recreated: Vec<DynamicObject>,
    /// Whether the cluster existed before the environment.
    exists: bool,
}

/// Returns the error about an object whose kind or version a cluster does not serve. `versions` are those that it serves of
/// the kind.
fn unserved(object: &DynamicObject, cluster: &str, at: Option<String>, versions: &[String]) -> Error {
    let (what, name) = (kind(object), object.name_any());
    let at = at.map(|at| format!("{at}: ")).unwrap_or_default();
    let version = object.types.as_ref().map(|types| types.api_version.as_str()).unwrap_or_default();
    // Istio's Gateway is none of the Gateway API's.
    let is_own = |version: &str| version.split_once('/').is_none_or(|(group, _)| is_built_in(group));
    let same = |other: &String| {
        other.split_once('/').map(|(group, _)| group) == version.split_once('/').map(|(group, _)| group)
            || is_own(other) && is_own(version)
    };
    let versions: Vec<String> = versions.iter().filter(|other| same(other)).cloned().collect();
    match versions.first() {
        Some(serves) => {
            Error::usage(format!("{at}cluster {cluster} does not serve {version}, the version of {what} {name}"))
                .evidence(format!("it serves {what} in {}", versions.join(", ")))
                .hint(format!(
                    "set apiVersion: {serves}, and adapt the fields: kubectl explain {} --api-version={serves}",
                    what.to_lowercase()
                ))
        }
        None => Error::usage(format!("{at}cluster {cluster} has no kind {what} of {version}, the kind of {name}"))
            .hint("add its CustomResourceDefinition to the directory, or remove the object"),
    }
}

/// Whether an API group is one of Kubernetes itself, which has moved kinds from one group to another.
fn is_built_in(group: &str) -> bool {
    !group.contains('.') || (group.ends_with(".k8s.io") && group != "gateway.networking.k8s.io")
}

/// Returns the group and the kind that an object defines, if it is a CustomResourceDefinition.
fn definition(object: &DynamicObject) -> Option<(String, String)> {
    let text = |path: &str| Some(object.data.pointer(path)?.as_str()?.to_owned());
    let is_definition = kind(object) == "CustomResourceDefinition";
    is_definition.then(|| Some((text("/spec/group")?, text("/spec/names/kind")?))).flatten()
}

fn group_and_kind(object: &DynamicObject) -> (String, String) {
    let version = object.types.as_ref().map(|types| types.api_version.as_str()).unwrap_or_default();
    let group = version.split_once('/').map(|(group, _)| group).unwrap_or_default();
    (group.to_owned(), kind(object).to_owned())
}

/// Returns one error about several refused objects.
fn together(errors: Vec<Error>) -> Error {
    let mut errors = errors.into_iter();
    let first = errors.next().unwrap_or_else(|| Error::usage("the API server refused an object"));
    errors.fold(first, |all, other| {
        let all = all.evidence(other.message);
        other.evidence.into_iter().fold(all, |all, evidence| all.evidence(evidence))
    })
}

fn is_of(live: &DynamicObject, origin: &Origin) -> bool {
    let labels = live.labels();
    labels.get(MANAGED_BY_LABEL).is_some_and(|by| by == MANAGED_BY) && labels.get(DEPLOY) == Some(&origin.label)
}

/// An existing object that is not part of this deployment.
struct Conflict {
    called: String,
    whose: String,
    /// The arguments with which kubectl deletes it.
    delete: String,
}

impl Conflict {
    fn of(live: &DynamicObject, what: &str, cluster: &str) -> Self {
        let name = live.name_any();
        let called = format!("{what} {name} in cluster {cluster}");
        let other = live.annotations().get(FROM).filter(|_| live.labels().contains_key(DEPLOY));
        let whose = match (other, live.labels().get(MANAGED_BY_LABEL).map(String::as_str)) {
            (Some(folder), _) => format!("{called} was deployed from {folder}"),
            (None, Some(MANAGED_BY)) => format!("{called} is part of kindmesh itself"),
            _ => format!(
                "{called} exists, but kindmesh did not create it: it has no label \
                {MANAGED_BY_LABEL}={MANAGED_BY}"
            ),
        };
        let namespace = live.namespace().map(|namespace| format!("-n {namespace} ")).unwrap_or_default();
        Self { called, whose, delete: format!("{namespace}delete {} {name}", what.to_lowercase()) }
    }
}

fn is_injected(namespace: &DynamicObject) -> bool {
    let labels = namespace.labels();
    labels.get(INJECTION).is_some_and(|value| value == "enabled") || labels.contains_key("istio.io/rev")
}

/// Labels a new namespace for sidecar injection, unless its manifest says otherwise.
fn in_mesh(namespace: &mut DynamicObject) {
    if !namespace.labels().keys().any(|key| key == INJECTION || key == "istio.io/rev") {
        namespace.labels_mut().insert(INJECTION.to_owned(), "enabled".to_owned());
    }
}

/// Labels an object's pods for sidecar injection in a namespace that kindmesh did not create, unless they already
/// have the label. Returns a note if it labels them.
fn inject(object: &mut DynamicObject) -> Option<String> {
    const LABEL: &str = "sidecar.istio.io/inject";
    let note = format!(
        "namespace {} is outside the mesh, and kindmesh did not create it: the pods of {} {} are labeled \
            {LABEL}=true",
        object.namespace().unwrap_or_default(),
        kind(object),
        object.name_any()
    );
    if kind(object) == "Pod" {
        let said = object.labels_mut().contains_key(LABEL);
        object.labels_mut().entry(LABEL.to_owned()).or_insert_with(|| "true".to_owned());
        return (!said).then_some(note);
    }
    let template = object.data.pointer_mut(place::pod_template(object)?)?;
    if template["metadata"]["labels"].get(LABEL).is_some() {
        return None;
    }
    template["metadata"]["labels"][LABEL] = json!("true");
    Some(note)
}

impl Set {
    /// Labels a cluster's objects, adds the namespaces that they need, and checks that kindmesh owns each of them.
    pub(super) async fn prepare(
        environment: &Environment,
        cluster: &str,
        client: &Client,
        objects: Vec<(DynamicObject, Source)>,
        origin: &Origin,
        notes: &mut Vec<String>,
    ) -> anyhow::Result<Self> {
        let sources: BTreeMap<Object, Source> =
            objects.iter().map(|(object, source)| (named(cluster, object), source.clone())).collect();
        let mut objects: Vec<DynamicObject> = objects.into_iter().map(|(object, _)| object).collect();
        // If all objects are moved to another namespace, a namespace of the manifests would be empty.
        let used: BTreeSet<String> = objects.iter().filter_map(ResourceExt::namespace).collect();
        objects
            .retain(|object| kind(object) != "Namespace" || used.contains(&object.name_any()) || used.is_empty());
        for namespace in &used {
            let given = |object: &DynamicObject| kind(object) == "Namespace" && object.name_any() == *namespace;
            if !objects.iter().any(given) {
                objects.push(apply::object(json!({"apiVersion": "v1", "kind": "Namespace",
                    "metadata": {"name": namespace}}))?);
            }
        }
        let step = Events::silent().step("deploy", None);
        let kinds = kinds::Kinds::default();
        let mut applier = Applier::new(client.clone(), &step, Instant::now()).sharing(&kinds);
        let live = applier.live(&objects).await.with_context(|| format!("inspecting objects in {cluster}"))?;
        let mut kept = Vec::new();
        let mut outside = BTreeSet::new();
        let (mut refused, mut recreated) = (Vec::new(), Vec::new());
        let defines: BTreeSet<_> = objects.iter().filter_map(definition).collect();
        for (mut object, live) in objects.into_iter().zip(live) {
            let (what, name) = (kind(&object).to_owned(), object.name_any());
            if !applier.knows(&object) && !defines.contains(&group_and_kind(&object)) {
                let at = sources.get(&named(cluster, &object)).and_then(|source| source.at("/apiVersion"));
                return Err(unserved(&object, cluster, at, &applier.versions(&what)).into());
            }
            if what == "Namespace" {
                match &live {
                    Some(live) if !is_of(live, origin) => {
                        // Other namespaces are not changed; their pods are labeled individually.
                        if !is_injected(live) {
                            outside.insert(name);
                        }
                        continue;
                    }
                    _ => in_mesh(&mut object),
                }
            } else if let Some(live) = live {
                if !is_of(&live, origin) && !live.labels().contains_key(STUB) {
                    refused.push(Conflict::of(&live, &what, cluster));
                } else if what == "Service" && is_headless(&live) != is_headless(&object) {
                    recreated.push(live);
                }
            }
            object.labels_mut().insert(DEPLOY.to_owned(), origin.label.clone());
            object.annotations_mut().insert(FROM.to_owned(), origin.path.clone());
            kept.push(object);
        }
        let kubectl = format!("kubectl --context {}", environment.context(cluster));
        if let Some(first) = refused.first() {
            let whose: Vec<_> = refused.iter().map(|foreign| foreign.whose.as_str()).collect();
            return Err(Error::usage(format!(
                "{} is not part of this deployment: nothing was changed",
                first.called
            ))
            .evidence(whose.join("\n"))
            .hint(format!("rename yours, or delete the other: {kubectl} {}", first.delete))
            .into());
        }
        for object in &mut kept {
            if object.namespace().is_some_and(|namespace| outside.contains(&namespace))
                && let Some(note) = inject(object)
            {
                notes.push(format!("{cluster}: {note}"));
            }
        }
        let record = environment.record(cluster);
        let exists = environment.exists(cluster);
        let (cluster, client) = (cluster.to_owned(), client.clone());
        Ok(Self { cluster, client, record, kinds, objects: kept, sources, kubectl, recreated, exists })
    }

    /// Returns the error about a refused object, with where it was read, and what is wrong with it.
    async fn explained(&self, refused: &Refused) -> Error {
        let object = named(&self.cluster, &refused.object);
        // A namespace of an object without one is removed when it is applied.
        let same = |(other, _): &(&Object, &Source)| {
            (&other.kind, &other.name) == (&object.kind, &object.name)
                && (object.namespace.is_empty() || other.namespace == object.namespace)
        };
        let schemas = match schema::schemas_path(refused) {
            Some(path) => self.schemas(&path).await,
            None => None,
        };
        let source = self.sources.iter().find(same).map(|(_, source)| source.clone()).unwrap_or_default();
        schema::explained(refused, &source, &self.cluster, &self.kubectl, schemas.as_ref())
    }

    /// Returns an OpenAPI document of the API server. It only serves to suggest a field, so its errors are ignored.
    async fn schemas(&self, path: &str) -> Option<serde_json::Value> {
        let request = http::Request::get(path).body(Vec::new()).ok()?;
        self.client.request(request).await.ok()
    }

    pub(super) async fn apply(
        &self,
        origin: &Origin,
        options: &Options,
        events: &Events,
    ) -> anyhow::Result<(bool, Vec<Object>, Vec<String>)> {
        let step = events.step("deploy", Some(&self.cluster));
        step.run(async |step| {
            let applier = Applier::new(self.client.clone(), step, options.deadline).sharing(&self.kinds);
            let mut applier = applier.recording(&self.record);
            for service in &self.recreated {
                let deleted = remove::delete(&kinds::api_of(&self.client, service)?, service).await;
                deleted.with_context(|| format!("deleting Service {}", service.name_any()))?;
            }
            // Before, so that `down` finds what a killed run has applied; and after, for kinds that this run defines.
            self.record_kinds(&mut applier).await?;
            let changed = match applier.apply(self.objects.clone()).await {
                Ok(changed) => changed,
                Err(error) => match error.chain().find_map(|cause| cause.downcast_ref::<Refused>()) {
                    Some(refused) => return Err(self.explained(refused).await.into()),
                    None => return Err(error),
                },
            };
            self.record_kinds(&mut applier).await?;
            let (removed, notes) = match origin.prune {
                true => self.unwanted(origin).await?.delete().await?,
                false => Default::default(),
            };
            let changed = changed || !removed.is_empty();
            Ok(Outcome { value: (changed, removed, notes), changed })
        })
        .await
    }

    /// Finds the objects of an earlier deployment of the same manifests that they no longer contain.
    async fn unwanted(&self, origin: &Origin) -> anyhow::Result<remove::Unwanted<'_>> {
        let wanted = self.objects.iter().map(|object| named(&self.cluster, object)).collect();
        remove::unwanted((&self.cluster, &self.client), self.exists, &origin.label, &wanted, &self.kinds).await
    }

    /// Returns what applying the objects would change, and notes. Nothing is changed.
    ///
    /// # Errors
    /// A usage error that names each object that the API server would refuse; otherwise its errors.
    pub(super) async fn dry_run(
        &self,
        origin: &Origin,
        deadline: Instant,
        events: &Events,
    ) -> anyhow::Result<(Changes, Vec<String>)> {
        let step = events.step("dry-run", Some(&self.cluster));
        step.run(async |step| {
            let mut applier = Applier::new(self.client.clone(), step, deadline).sharing(&self.kinds);
            let mut objects = applier.dry_run(&self.objects).await?;
            let mut refusals = Vec::new();
            for (change, object) in objects.iter_mut().zip(&self.objects) {
                if let Some(recreated) = self.recreated.iter().find(|other| named("", other) == named("", object))
                {
                    let why = "it would be deleted and created again";
                    *change = Change::of(recreated, Effect::Change).noted(why);
                } else if let Some(status) = change.refusal.take() {
                    let error = Error::environment(status.message.clone());
                    refusals.push(self.explained(&Refused::new(object, *status, error)).await);
                }
            }
            if !refusals.is_empty() {
                return Err(together(refusals).into());
            }
            let (removed, notes) = match origin.prune {
                true => self.unwanted(origin).await?.dry_run().await?,
                false => Default::default(),
            };
            objects.extend(removed.iter().map(|gone| {
                let namespace = Some(gone.namespace.as_str()).filter(|namespace| !namespace.is_empty());
                Change::named((&gone.kind, &gone.name, namespace), Effect::Delete)
            }));
            Ok(Outcome::unchanged((Changes { cluster: self.cluster.clone(), objects }, notes)))
        })
        .await
    }

    /// In a cluster that exists, records which kinds are applied.
    async fn record_kinds(&self, applier: &mut Applier<'_>) -> anyhow::Result<()> {
        if self.exists {
            existing::add_kinds(&self.client, &applier.kinds_of(&self.objects).await?).await?;
        }
        Ok(())
    }

    pub(super) async fn ready(&self, deadline: Instant, events: &Events) -> anyhow::Result<()> {
        let awaited: Vec<_> = self.objects.iter().filter_map(Workload::of).collect();
        if awaited.is_empty() {
            return Ok(());
        }
        let step = events.step("rollout", Some(&self.cluster));
        step.run(async |step: &Step| {
            let (client, record) = (&self.client, &self.record);
            let waits = awaited.iter().map(|workload| waits::workload(client, workload, record, step, deadline));
            try_join_all(waits).await?;
            Ok(Outcome::unchanged(()))
        })
        .await
    }
}

/// Returns a reference to an object, for messages.
pub(super) fn named(cluster: &str, object: &DynamicObject) -> Object {
    Object {
        cluster: cluster.to_owned(),
        kind: kind(object).to_owned(),
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_that_is_gone_names_the_one_that_serves_the_kind() {
        let old = json!({"apiVersion": "extensions/v1beta1", "kind": "Deployment", "metadata": {"name": "web"}});
        let old = apply::object(old).unwrap();
        let error = unserved(&old, "cluster1", Some("web.yaml:1:1".into()), &["apps/v1".into()]);
        assert_eq!(
            error.message,
            "web.yaml:1:1: cluster cluster1 does not serve extensions/v1beta1, the version of Deployment web"
        );
        assert_eq!(error.evidence, ["it serves Deployment in apps/v1"]);
        assert!(error.hint.unwrap().starts_with("set apiVersion: apps/v1, "));
        let gateway =
            json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "web"}});
        let gateway = apply::object(gateway).unwrap();
        let other = unserved(&gateway, "cluster1", None, &["networking.istio.io/v1".into()]);
        assert_eq!(
            other.message,
            "cluster cluster1 has no kind Gateway of gateway.networking.k8s.io/v1, the kind of web"
        );
        let unknown = unserved(&old, "cluster1", None, &[]);
        assert!(unknown.message.starts_with("cluster cluster1 has no kind Deployment of extensions/v1beta1"));
        assert!(unknown.hint.unwrap().contains("CustomResourceDefinition"));
    }

    #[test]
    fn definition_is_of_a_group_and_a_kind() {
        let defined = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata":
            {"name": "widgets.example.com"}, "spec": {"group": "example.com", "names": {"kind": "Widget"}}});
        let widget = |version: &str| {
            apply::object(json!({"apiVersion": version, "kind": "Widget", "metadata": {"name": "a"}})).unwrap()
        };
        let defined = definition(&apply::object(defined).unwrap()).unwrap();
        assert_eq!(defined, group_and_kind(&widget("example.com/v1")));
        assert_ne!(defined, group_and_kind(&widget("example.org/v1")));
        assert_eq!(definition(&widget("example.com/v1")), None);
    }

    #[test]
    fn pods_are_injected_unless_they_opt_out() {
        let pod = |labels: serde_json::Value| {
            apply::object(
                json!({"apiVersion": "v1", "kind": "Deployment", "metadata": {"name": "a", "namespace": "b"},
                "spec": {"template": {"metadata": {"labels": labels}, "spec": {"containers": []}}}}),
            )
            .unwrap()
        };
        let mut outside = pod(json!({"app": "a"}));
        assert!(inject(&mut outside).unwrap().contains("namespace b"));
        let labels = &outside.data["spec"]["template"]["metadata"]["labels"];
        assert_eq!(labels["sidecar.istio.io/inject"], "true");
        assert!(inject(&mut pod(json!({"sidecar.istio.io/inject": "false"}))).is_none());
    }
}
