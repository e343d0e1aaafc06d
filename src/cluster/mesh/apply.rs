//! Server-side apply of many objects: prerequisites first, everything else concurrently.

use anyhow::Context;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::Status;
use kube::{Client, ResourceExt};
use serde_json::Value;
use tokio::time::Instant;

use crate::base::digest::hex;
use crate::base::error::{self, Error};
use crate::base::event::Step;
use crate::base::wait::{self, Poll};
use crate::base::yaml;
use crate::cluster::kinds::{Addressed, Kinds, Known};
use crate::cluster::objects;
use crate::cluster::refusal::{Decision, Reason, Record, Retries, with_retries};
use crate::plan::{MANAGED_BY, MANAGED_BY_LABEL};

mod dry_run;
mod prune;

pub use dry_run::{Change, Changes, Effect};

/// The maximum number of concurrent requests to one API server.
pub(in crate::cluster) const MAX_CONCURRENT: usize = 16;

/// Parses the objects in a YAML text of one or more documents, as kubectl does. Empty documents are skipped.
///
/// # Errors
/// If a document is not a Kubernetes object.
pub fn objects(yaml: &str) -> anyhow::Result<Vec<DynamicObject>> {
    let documents = yaml::documents(yaml);
    let documents = documents.map_err(|error| Error::usage(format!("line {}: {error}", error.place.line)));
    let documents = documents.context("reading a manifest")?;
    documents.into_iter().map(|document| object(document.value)).collect()
}

/// Returns an object from its JSON, with kindmesh's label.
///
/// # Errors
/// If it is not a Kubernetes object.
pub fn object(value: Value) -> anyhow::Result<DynamicObject> {
    let mut object: DynamicObject = serde_json::from_value(value).context("reading a manifest")?;
    object.labels_mut().insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
    Ok(object)
}

/// Applies objects to one cluster until a deadline.
pub struct Applier<'a> {
    client: Client,
    step: &'a Step,
    deadline: Instant,
    kinds: Kinds,
    record: Record,
    known: Option<Known>,
    only_ours: bool,
}

impl<'a> Applier<'a> {
    /// Creates an applier that uses `client` for `step`.
    pub fn new(client: Client, step: &'a Step, deadline: Instant) -> Self {
        Self {
            client,
            step,
            deadline,
            kinds: Kinds::default(),
            record: Record::default(),
            known: None,
            only_ours: false,
        }
    }

    /// Shares the discovered kinds with other appliers of the same cluster.
    #[must_use]
    pub fn sharing(self, kinds: &Kinds) -> Self {
        Self { kinds: kinds.clone(), ..self }
    }

    /// Shares the reasons for temporary refusals with other appliers of the same cluster.
    #[must_use]
    pub fn recording(self, record: &Record) -> Self {
        Self { record: record.clone(), ..self }
    }

    /// Refuses to change objects that kindmesh did not create. CRDs of others are used as they are.
    #[must_use]
    pub fn only_ours(self) -> Self {
        Self { only_ours: true, ..self }
    }

    /// Returns which of these objects exist and were not created by kindmesh, as text.
    ///
    /// # Errors
    /// The API server's.
    pub async fn foreign(&mut self, objects: &[DynamicObject]) -> anyhow::Result<Vec<String>> {
        let live = self.live(objects).await?;
        let foreign = live.iter().flatten().filter(|live| !objects::is_ours(*live));
        Ok(foreign.map(described).collect())
    }

    /// Whether all objects are live as they would be applied.
    ///
    /// # Errors
    /// The API server's.
    pub async fn are_applied(&mut self, objects: &[DynamicObject]) -> anyhow::Result<bool> {
        let live = self.live(objects).await?;
        let applied = |(live, wanted): (&Option<DynamicObject>, &DynamicObject)| {
            live.as_ref().is_some_and(|live| objects::is_applied(live, wanted, MANAGED_BY))
        };
        Ok(live.iter().zip(objects).all(applied))
    }

    /// Applies all objects and reports whether any was changed. Namespaces and CRDs come first, then objects that others refer
    /// to, then workloads and webhooks.
    ///
    /// # Errors
    /// The API server's, with the object's name. Temporary refusals are retried until the deadline.
    pub async fn apply(&mut self, objects: Vec<DynamicObject>) -> anyhow::Result<bool> {
        let mut waves: [Vec<DynamicObject>; 3] = Default::default();
        let mut defines = Vec::new();
        for object in objects {
            if kind(&object) == "CustomResourceDefinition" {
                defines.push(object.name_any());
            }
            if let Some(reason) = explains(&object) {
                self.record.note(reason);
            }
            waves[wave(&object)].push(object);
        }
        let mut changed = false;
        for (number, wave) in waves.into_iter().enumerate() {
            self.discover(&wave).await?;
            let this = &*self;
            let results: Vec<bool> = futures::stream::iter(wave)
                .map(|object| async move { this.apply_one(object).await })
                .buffer_unordered(MAX_CONCURRENT)
                .try_collect()
                .await?;
            let any = results.contains(&true);
            changed |= any;
            if number == 0 && any {
                self.established(&defines).await?;
                self.known = None;
                *self.kinds.lock().await = None;
            }
        }
        Ok(changed)
    }

    /// Discovers the kinds of these objects, unless they are known.
    async fn discover(&mut self, wave: &[DynamicObject]) -> anyhow::Result<()> {
        let lacks = |known: Option<&Known>| {
            let missing = wave.iter().find(|object| known.and_then(|known| known.kind_of(object)).is_none());
            missing.map(|object| format!("the API server does not serve {} yet", kind(object)))
        };
        if lacks(self.known.as_ref()).is_none() {
            return Ok(());
        }
        // Held during discovery: others wait for the result instead of starting another discovery.
        let mut shared = self.kinds.lock().await;
        if lacks(shared.as_ref()).is_none() {
            self.known.clone_from(&shared);
            return Ok(());
        }
        let what = "the API server to serve all kinds";
        let mut retries = Retries::new(&self.record);
        let found = wait::until(self.step, what, self.deadline, async || match Known::ask(&self.client).await {
            Ok(found) => match lacks(Some(&found)) {
                None => Ok(Poll::Ready(found)),
                Some(missing) => retries.absent(what, missing),
            },
            Err(error) => retries.failed(what, error),
        })
        .await?;
        *shared = Some(found.clone());
        drop(shared);
        self.known = Some(found);
        Ok(())
    }

    async fn established(&self, names: &[String]) -> anyhow::Result<()> {
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let what = "the custom resource definitions";
        let mut retries = Retries::new(&self.record);
        wait::until(self.step, what, self.deadline, async || {
            for name in names {
                let definition = match api.get_opt(name).await {
                    Ok(definition) => definition,
                    Err(error) => return retries.failed(what, error),
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

    /// Returns the live objects of the same kinds, namespaces and names, even if kindmesh did not create them.
    ///
    /// # Errors
    /// The API server's.
    pub async fn live(&mut self, objects: &[DynamicObject]) -> anyhow::Result<Vec<Option<DynamicObject>>> {
        self.ask().await?;
        let this = &*self;
        let look = async |object: &DynamicObject| match this.api(object) {
            Ok(api) => {
                let name = object.name_any();
                api.get_opt(&name).await.with_context(|| format!("getting {} {name}", kind(object)))
            }
            // A kind that is not served has no objects.
            Err(_) => Ok(None),
        };
        futures::future::try_join_all(objects.iter().map(look)).await
    }

    /// Asks which kinds the API server serves, unless this applier or one that shares its kinds has asked.
    async fn ask(&mut self) -> anyhow::Result<()> {
        if self.known.is_none() {
            self.known = Some(self.kinds.ask(&self.client).await?);
        }
        Ok(())
    }

    /// Returns the kinds of objects that the API server serves, each once.
    ///
    /// # Errors
    /// The API server's.
    pub async fn kinds_of(&mut self, objects: &[DynamicObject]) -> anyhow::Result<Vec<ApiResource>> {
        self.ask().await?;
        let mut kinds: Vec<ApiResource> = Vec::new();
        for addressed in objects.iter().filter_map(|object| self.kind_of(object)) {
            if !kinds.contains(&addressed.resource) {
                kinds.push(addressed.resource);
            }
        }
        Ok(kinds)
    }

    /// Returns the versions, such as `apps/v1`, in which the API server served a kind at the last discovery.
    pub fn versions(&self, kind: &str) -> Vec<String> {
        self.known.as_ref().map(|known| known.versions(kind)).unwrap_or_default()
    }

    /// Reports whether the API server served an object's kind at the last discovery.
    pub fn knows(&self, object: &DynamicObject) -> bool {
        self.kind_of(object).is_some()
    }

    fn kind_of(&self, object: &DynamicObject) -> Option<Addressed> {
        self.known.as_ref()?.kind_of(object)
    }

    /// Returns the API for an object's kind and namespace.
    fn api(&self, object: &DynamicObject) -> anyhow::Result<Api<DynamicObject>> {
        let addressed = self.kind_of(object);
        let addressed = addressed.with_context(|| format!("the API server does not serve {}", kind(object)))?;
        Ok(addressed.api(&self.client, object.namespace().as_deref()))
    }

    /// Returns an object without a namespace, if its kind has none.
    fn placed(&self, mut object: DynamicObject) -> DynamicObject {
        if self.kind_of(&object).is_some_and(|addressed| !addressed.is_namespaced()) {
            object.metadata.namespace = None;
        }
        object
    }

    async fn apply_one(&self, object: DynamicObject) -> anyhow::Result<bool> {
        let object = self.placed(object);
        let name = object.name_any();
        let what = format!("{} {name}", kind(&object));
        let api = self.api(&object)?;
        let mut retries = Retries::new(&self.record);
        wait::until(self.step, &format!("the API server to accept {what}"), self.deadline, async || {
            let attempt = async {
                let live = api.get_opt(&name).await?;
                if live.as_ref().is_some_and(objects::is_terminating) {
                    return Ok(None);
                }
                if let (true, Some(live)) = (self.only_ours, &live)
                    && !objects::is_ours(live)
                {
                    return match kind(&object) {
                        "CustomResourceDefinition" => Ok(Some(false)),
                        _ => Err(Attempt::Foreign(described(live))),
                    };
                }
                if live.as_ref().is_some_and(|live| is_unchanged(live, &object)) {
                    return Ok(Some(false));
                }
                let parameters = PatchParams::apply(MANAGED_BY).force();
                let applied = api.patch(&name, &parameters, &Patch::Apply(&object)).await?;
                Ok(Some(live.and_then(|live| live.resource_version()) != applied.resource_version()))
            };
            match attempt.await {
                Ok(Some(changed)) => Ok(Poll::Ready(changed)),
                Ok(None) => Ok(Poll::NotYet("an earlier one is being deleted".into())),
                Err(Attempt::Foreign(what)) => Err(not_ours(&what).into()),
                // Without the right to bind any role, the API server looks the role up, in a cache that may lag behind.
                Err(Attempt::Failed(error)) if kind(&object).ends_with("RoleBinding") && is_not_found(&error) => {
                    Ok(Poll::NotYet(error::brief(error)))
                }
                Err(Attempt::Failed(error)) => match retries.judge(&error) {
                    Decision::Retry => Ok(Poll::NotYet(error::brief(error))),
                    Decision::GiveUp(reason) => Err(Refused::of(&object, &error, reason.as_ref())),
                },
            }
        })
        .await
    }
}

/// Whether applying an object would certainly change nothing.
fn is_unchanged(live: &DynamicObject, object: &DynamicObject) -> bool {
    let mark = |object: &DynamicObject| object.annotations().get(DIGEST_ANNOTATION).cloned();
    objects::is_applied(live, object, MANAGED_BY) || (mark(object).is_some() && mark(live) == mark(object))
}

/// Why an attempt to apply an object failed.
enum Attempt {
    /// Of the API server.
    Failed(kube::Error),
    /// It exists, and kindmesh did not create it.
    Foreign(String),
}

impl From<kube::Error> for Attempt {
    fn from(error: kube::Error) -> Self {
        Self::Failed(error)
    }
}

fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// Returns an object as text: `ClusterRole istiod`, `Service istiod in namespace istio-system`.
fn described(object: &DynamicObject) -> String {
    called(kind(object), &object.name_any(), object.namespace().as_deref())
}

fn called(kind: &str, name: &str, namespace: Option<&str>) -> String {
    match namespace {
        Some(namespace) => format!("{kind} {name} in namespace {namespace}"),
        None => format!("{kind} {name}"),
    }
}

fn not_ours(what: &str) -> Error {
    Error::usage(format!("{what} exists, but kindmesh did not create it"))
        .hint("delete or rename it if nobody needs it, or use another cluster")
}

/// An object that the API server refused for good.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Refused {
    /// The object, as it was sent.
    pub object: DynamicObject,
    /// What the API server said.
    pub status: Status,
    /// The error for the user.
    #[source]
    pub error: Error,
}

impl Refused {
    fn of(object: &DynamicObject, error: &kube::Error, reason: Option<&Reason>) -> anyhow::Error {
        let told = Error::environment(format!("the API server refused {} {}", kind(object), object.name_any()))
            .evidence(error.to_string())
            .hint("if it comes from mesh.values or kind settings, correct them; otherwise report a bug");
        let told = with_retries(told, reason);
        match error {
            kube::Error::Api(status) => Self::new(object, (**status).clone(), told).into(),
            _ => told.into(),
        }
    }

    /// An object that the API server refused in these words.
    pub fn new(object: &DynamicObject, status: Status, error: Error) -> Self {
        Self { object: object.clone(), status, error }
    }
}

/// Returns the reason for temporary refusals that applying this object creates, if any.
fn explains(object: &DynamicObject) -> Option<Reason> {
    let name = object.name_any();
    match kind(object) {
        "Namespace" => Some(Reason::Namespace(name)),
        "CustomResourceDefinition" => {
            let defined = object.data.pointer("/spec/names/kind").and_then(Value::as_str);
            Some(Reason::Definition(defined.unwrap_or(&name).to_owned()))
        }
        "Secret" if is_token(object) => Some(Reason::Token(name)),
        _ => None,
    }
}

fn is_token(secret: &DynamicObject) -> bool {
    secret.data.get("type").is_some_and(|of| of == "kubernetes.io/service-account-token")
}

/// The annotation of a CRD with the digest of its content.
const DIGEST_ANNOTATION: &str = "kindmesh/digest";

/// Annotates a CRD with the digest of its content. Istio's CRDs are a megabyte, and merging them is most of the work of an
/// apply that changes nothing. Nobody edits them, so a CRD with the right digest is not applied again.
///
/// # Errors
/// If the object cannot be serialized as JSON.
pub fn mark_definition(object: &mut DynamicObject) -> anyhow::Result<()> {
    use sha2::{Digest, Sha256};
    if kind(object) == "CustomResourceDefinition" {
        let digest = hex(&Sha256::digest(serde_json::to_vec(object)?));
        object.annotations_mut().insert(DIGEST_ANNOTATION.to_owned(), digest);
    }
    Ok(())
}

/// Returns an object's kind; empty if it has none.
pub fn kind(object: &DynamicObject) -> &str {
    object.types.as_ref().map(|types| types.kind.as_str()).unwrap_or_default()
}

fn wave(object: &DynamicObject) -> usize {
    match kind(object) {
        "Namespace" | "CustomResourceDefinition" => 0,
        "Deployment" | "DaemonSet" | "StatefulSet" | "Job" | "Pod" => 2,
        // Kubernetes deletes a token whose service account does not exist yet.
        "Secret" if is_token(object) => 2,
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => 2,
        // A user may bind a role only if it exists, unless the user may bind any.
        "RoleBinding" | "ClusterRoleBinding" => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_labeled_and_empty_ones_skipped() {
        let yaml = "---\n# nothing\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\n\n";
        let objects = objects(yaml).unwrap();
        assert_eq!(objects.len(), 1);
        assert_eq!(objects[0].labels()[MANAGED_BY_LABEL], MANAGED_BY);
    }
}
