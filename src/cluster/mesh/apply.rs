//! Server-side apply of many objects: what must come first comes first, the rest side by side.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{Discovery, Scope};
use kube::{Client, ResourceExt};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::base::digest::hex;
use crate::base::error::{self, Error};
use crate::base::event::Step;
use crate::base::wait::{self, Poll};
use crate::cluster::mesh::client;
use crate::plan::{MANAGED_BY, MANAGED_BY_LABEL};

/// How many requests to one API server are under way at once.
const AT_ONCE: usize = 16;
/// How long an object may take to be taken before it is tried again: clients for streams bound no request.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// Reads the objects of a YAML text with one or more documents; empty ones are passed over.
///
/// # Errors
/// When a document is no Kubernetes object.
pub fn objects(yaml: &str) -> anyhow::Result<Vec<DynamicObject>> {
    use serde::Deserialize;
    let mut objects = Vec::new();
    for document in serde_yaml::Deserializer::from_str(yaml) {
        let value = Value::deserialize(document).context("reading a manifest")?;
        if !value.is_null() {
            objects.push(object(value)?);
        }
    }
    Ok(objects)
}

/// An object from its JSON, labelled as ours.
///
/// # Errors
/// When it is no Kubernetes object.
pub fn object(value: Value) -> anyhow::Result<DynamicObject> {
    let mut object: DynamicObject = serde_json::from_value(value).context("reading a manifest")?;
    object.labels_mut().insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
    Ok(object)
}

/// How each kind of one cluster is addressed, asked once for all that apply to it.
#[derive(Clone, Default)]
pub struct Kinds(Arc<Mutex<Option<Arc<Discovery>>>>);

impl std::fmt::Debug for Kinds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kinds { .. }")
    }
}

/// Applies to one cluster, until a deadline.
pub struct Applier<'a> {
    client: Client,
    step: &'a Step,
    deadline: Instant,
    kinds: Kinds,
    discovery: Option<Arc<Discovery>>,
}

impl<'a> Applier<'a> {
    /// Applies with `client` on behalf of `step`.
    pub fn new(client: Client, step: &'a Step, deadline: Instant) -> Self {
        Self { client, step, deadline, kinds: Kinds::default(), discovery: None }
    }

    /// Shares with others of the same cluster what they learnt of its kinds.
    #[must_use]
    pub fn sharing(self, kinds: &Kinds) -> Self {
        Self { kinds: kinds.clone(), ..self }
    }

    /// Applies all objects and says whether any was changed. Namespaces and the definitions of new kinds come
    /// first, then what others refer to, then what runs and what intercepts.
    ///
    /// # Errors
    /// The API server's, with the object's name; what may pass is tried again until the deadline.
    pub async fn apply(&mut self, objects: Vec<DynamicObject>) -> anyhow::Result<bool> {
        let mut waves: [Vec<DynamicObject>; 3] = Default::default();
        let mut defines = Vec::new();
        for object in objects {
            if kind(&object) == "CustomResourceDefinition" {
                defines.push(object.name_any());
            }
            waves[wave(&object)].push(object);
        }
        let mut changed = false;
        for (number, wave) in waves.into_iter().enumerate() {
            self.discover(&wave).await?;
            let this = &*self;
            let results: Vec<bool> = futures::stream::iter(wave)
                .map(|object| async move { this.apply_one(object).await })
                .buffer_unordered(AT_ONCE)
                .try_collect()
                .await?;
            let any = results.contains(&true);
            changed |= any;
            if number == 0 && any {
                self.established(&defines).await?;
                self.discovery = None;
                *self.kinds.0.lock().await = None;
            }
        }
        Ok(changed)
    }

    /// Learns how each kind is addressed, unless that is known.
    async fn discover(&mut self, wave: &[DynamicObject]) -> anyhow::Result<()> {
        let known = |discovery: &Option<Arc<Discovery>>| {
            let missing = wave.iter().find(|object| resolve(discovery.as_deref(), object).is_none());
            missing.map(|object| format!("the API server does not know {} yet", kind(object)))
        };
        if known(&self.discovery).is_none() {
            return Ok(());
        }
        // Held while asking: who comes meanwhile waits for the answer instead of asking, too.
        let mut shared = self.kinds.0.lock().await;
        if known(&shared).is_none() {
            self.discovery.clone_from(&shared);
            return Ok(());
        }
        let client = self.client.clone();
        let found = wait::until(self.step, "the API server to know all kinds", self.deadline, async || {
            let found = match Discovery::new(client.clone()).run_aggregated().await {
                Ok(found) => Some(Arc::new(found)),
                Err(error) => return Ok(Poll::NotYet(error::brief(error))),
            };
            Ok(match known(&found) {
                None => Poll::Ready(found),
                Some(missing) => Poll::NotYet(missing),
            })
        })
        .await?;
        shared.clone_from(&found);
        drop(shared);
        self.discovery = found;
        Ok(())
    }

    async fn established(&self, names: &[String]) -> anyhow::Result<()> {
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        wait::until(self.step, "the custom resource definitions", self.deadline, async || {
            for name in names {
                let definition = match api.get_opt(name).await {
                    Ok(definition) => definition,
                    Err(error) if client::passes(&error) => return Ok(Poll::NotYet(error::brief(error))),
                    Err(error) => return Err(error.into()),
                };
                let conditions = definition.and_then(|d| d.status).and_then(|status| status.conditions);
                let holds =
                    conditions.into_iter().flatten().any(|c| c.type_ == "Established" && c.status == "True");
                if !holds {
                    return Ok(Poll::NotYet(format!("{name} is not established")));
                }
            }
            Ok(Poll::Ready(()))
        })
        .await
    }

    /// Deletes the objects of these kinds that are labelled as ours, match a label besides, and are not among the
    /// wanted; says whether there were any. Kinds that the API server does not know have none.
    ///
    /// # Errors
    /// The API server's, with the object's name.
    pub async fn prune(
        &mut self,
        kinds: &[GroupVersionKind],
        label: &str,
        wanted: &[DynamicObject],
    ) -> anyhow::Result<bool> {
        let known = self.discovery.clone().or(self.kinds.0.lock().await.clone());
        let discovery = match known {
            Some(discovery) => discovery,
            None => {
                let found = Discovery::new(self.client.clone()).run_aggregated().await;
                Arc::new(found.context("asking for all kinds")?)
            }
        };
        let ours = ListParams::default().labels(&format!("{MANAGED_BY_LABEL}={MANAGED_BY},{label}"));
        let lists = kinds.iter().filter_map(|gvk| {
            let (resource, capabilities) = discovery.resolve_gvk(gvk)?;
            let all: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
            let ours = &ours;
            Some(async move {
                let found = all.list(ours).await.with_context(|| format!("listing every {}", gvk.kind))?;
                anyhow::Ok((gvk, resource, capabilities, found))
            })
        });
        let mut changed = false;
        for (gvk, resource, capabilities, found) in futures::future::try_join_all(lists).await? {
            for found in found {
                let (name, namespace) = (found.name_any(), found.namespace());
                let same = |other: &DynamicObject| {
                    kind(other) == gvk.kind && other.name_any() == name && other.namespace() == namespace
                };
                if wanted.iter().any(same) {
                    continue;
                }
                let api: Api<DynamicObject> = match (capabilities.scope == Scope::Namespaced, &namespace) {
                    (true, Some(namespace)) => Api::namespaced_with(self.client.clone(), namespace, &resource),
                    _ => Api::all_with(self.client.clone(), &resource),
                };
                let deleted = api.delete(&name, &DeleteParams::default()).await;
                deleted.with_context(|| format!("deleting {} {name}", gvk.kind))?;
                changed = true;
            }
        }
        self.discovery = Some(discovery);
        Ok(changed)
    }

    /// The objects of the same kinds, namespaces and names that are there now, whoever made them.
    ///
    /// # Errors
    /// The API server's.
    pub async fn live(&mut self, objects: &[DynamicObject]) -> anyhow::Result<Vec<Option<DynamicObject>>> {
        if self.discovery.is_none() {
            let found = Discovery::new(self.client.clone()).run_aggregated().await;
            self.discovery = Some(Arc::new(found.context("asking for all kinds")?));
        }
        let this = &*self;
        let look = async |object: &DynamicObject| match this.api(object) {
            Ok(api) => {
                let name = object.name_any();
                api.get_opt(&name).await.with_context(|| format!("asking for {} {name}", kind(object)))
            }
            // Of a kind that is not known there is nothing.
            Err(_) => Ok(None),
        };
        futures::future::try_join_all(objects.iter().map(look)).await
    }

    /// Whether the API server knew an object's kind when it was asked last.
    pub fn knows(&self, object: &DynamicObject) -> bool {
        resolve(self.discovery.as_deref(), object).is_some()
    }

    /// Where an object of this kind and namespace lives.
    fn api(&self, object: &DynamicObject) -> anyhow::Result<Api<DynamicObject>> {
        let (resource, scope) = resolve(self.discovery.as_deref(), object)
            .with_context(|| format!("the API server does not know {}", kind(object)))?;
        Ok(match (scope, object.namespace()) {
            (Scope::Namespaced, Some(namespace)) => {
                Api::namespaced_with(self.client.clone(), &namespace, &resource)
            }
            (Scope::Namespaced, None) => Api::default_namespaced_with(self.client.clone(), &resource),
            (Scope::Cluster, _) => Api::all_with(self.client.clone(), &resource),
        })
    }

    async fn apply_one(&self, mut object: DynamicObject) -> anyhow::Result<bool> {
        if let Some((_, Scope::Cluster)) = resolve(self.discovery.as_deref(), &object) {
            object.metadata.namespace = None;
        }
        let name = object.name_any();
        let mark = object.annotations().get(DIGEST_ANNOTATION);
        let what = format!("{} {name}", kind(&object));
        let api = self.api(&object)?;
        wait::until(self.step, &format!("the API server to take {what}"), self.deadline, async || {
            let attempt = async {
                let live = api.get_opt(&name).await?;
                let marked = live.as_ref().and_then(|live| live.annotations().get(DIGEST_ANNOTATION));
                if mark.is_some() && marked == mark {
                    return Ok(false);
                }
                let parameters = PatchParams::apply(MANAGED_BY).force();
                let applied = api.patch(&name, &parameters, &Patch::Apply(&object)).await?;
                Ok(live.and_then(|live| live.resource_version()) != applied.resource_version())
            };
            let Ok(answer) = tokio::time::timeout(ANSWER_WITHIN, attempt).await else {
                return Ok(Poll::NotYet(format!("no answer within {} s", ANSWER_WITHIN.as_secs())));
            };
            match answer {
                Ok(changed) => Ok(Poll::Ready(changed)),
                Err(error) if client::passes(&error) => Ok(Poll::NotYet(error::brief(error))),
                Err(error) => Err(refused(&what, &error).into()),
            }
        })
        .await
    }
}

fn refused(what: &str, error: &kube::Error) -> Error {
    Error::environment(format!("the API server refused {what}"))
        .evidence(error.to_string())
        .hint("if your mesh.values or kind settings brought it in, correct them; else please report it")
}

/// The annotation of a definition with the digest of its content.
const DIGEST_ANNOTATION: &str = "kindmesh/digest";

/// Istio's definitions of kinds are a megabyte, and merging them is most of the work of an apply that changes
/// nothing. Nobody edits them: one that carries the digest of its content is left alone.
///
/// # Errors
/// When the object cannot be written as JSON.
pub fn mark_definition(object: &mut DynamicObject) -> anyhow::Result<()> {
    use sha2::{Digest, Sha256};
    if kind(object) == "CustomResourceDefinition" {
        let digest = hex(&Sha256::digest(serde_json::to_vec(object)?));
        object.annotations_mut().insert(DIGEST_ANNOTATION.to_owned(), digest);
    }
    Ok(())
}

/// An object's kind; empty when it has none.
pub fn kind(object: &DynamicObject) -> &str {
    object.types.as_ref().map(|types| types.kind.as_str()).unwrap_or_default()
}

fn wave(object: &DynamicObject) -> usize {
    match kind(object) {
        "Namespace" | "CustomResourceDefinition" => 0,
        "Deployment" | "DaemonSet" | "StatefulSet" | "Job" | "Pod" => 2,
        // A token whose account does not exist yet is deleted by Kubernetes.
        "Secret" if object.data.get("type").is_some_and(|kind| kind == "kubernetes.io/service-account-token") => 2,
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => 2,
        _ => 1,
    }
}

fn resolve(discovery: Option<&Discovery>, object: &DynamicObject) -> Option<(ApiResource, Scope)> {
    let kind = GroupVersionKind::try_from(object.types.as_ref()?).ok()?;
    let (resource, capabilities) = discovery?.resolve_gvk(&kind)?;
    Some((resource, capabilities.scope))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_read_labelled_and_empty_ones_passed_over() {
        let yaml = "---\n# nothing\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\n\n";
        let objects = objects(yaml).unwrap();
        assert_eq!(objects.len(), 1);
        assert_eq!(objects[0].labels()[MANAGED_BY_LABEL], MANAGED_BY);
    }
}
