//! What applying objects would change, object by object and field by field: by a server-side dry run, which changes nothing.

use std::collections::BTreeSet;

use anyhow::Context;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::{GroupVersionKind, Status};
use serde::Serialize;
use serde_json::Value;

use super::{Applier, MAX_CONCURRENT, called, described, is_not_found, is_unchanged, kind};
use crate::base::difference::{self, Difference, Lists};
use crate::cluster::objects;
use crate::cluster::refusal::{Class, classify};
use crate::plan::MANAGED_BY;

/// What would become of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Effect {
    /// It would be refused; the note says why.
    Refuse,
    /// It would be deleted.
    Delete,
    /// It would be created.
    Create,
    /// Fields of it would change.
    Change,
    /// It would stay as it is.
    Keep,
}

/// A field that would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Field {
    /// Its path: `spec.template.spec.containers[0].image`.
    pub path: String,
    /// Its value; null if it is not set, and for the content of Secrets.
    pub from: Value,
    /// Its new value; null if it would be removed, and for the content of Secrets.
    pub to: Value,
}

/// What would become of the objects of one cluster.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Changes {
    /// The cluster.
    pub cluster: String,
    /// Its objects.
    pub objects: Vec<Change>,
}

/// What would become of one object.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// The object: `Service istiod in namespace istio-system`.
    pub object: String,
    /// What would become of it.
    pub effect: Effect,
    /// The fields that would change.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<Field>,
    /// Why it would be refused, or what was not checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The API server's refusal.
    #[serde(skip)]
    pub refusal: Option<Box<Status>>,
}

impl Change {
    /// What would become of an object, without a note.
    pub fn of(object: &DynamicObject, effect: Effect) -> Self {
        Self::named((kind(object), &object.name_any(), object.namespace().as_deref()), effect)
    }

    /// The same of an object with this kind, name and namespace.
    pub fn named((kind, name, namespace): (&str, &str, Option<&str>), effect: Effect) -> Self {
        Self { object: called(kind, name, namespace), effect, fields: Vec::new(), note: None, refusal: None }
    }

    /// What would become of an object whose content is not known yet.
    pub fn unknown(object: &DynamicObject, effect: Effect) -> Self {
        let note = (effect == Effect::Keep).then(|| "not compared: its content is known only to up".into());
        Self { note, ..Self::of(object, effect) }
    }

    /// Adds a note.
    #[must_use]
    pub fn noted(self, note: impl Into<String>) -> Self {
        Self { note: Some(note.into()), ..self }
    }
}

impl Applier<'_> {
    /// Returns what [`Applier::apply`] would do to each object, in their order.
    ///
    /// # Errors
    /// The API server's, except its refusals of single objects.
    pub async fn dry_run(&mut self, objects: &[DynamicObject]) -> anyhow::Result<Vec<Change>> {
        let live = self.live(objects).await?;
        let objects: Vec<DynamicObject> = objects.iter().map(|object| self.placed(object.clone())).collect();
        let names: BTreeSet<String> = objects.iter().filter_map(ResourceExt::namespace).collect();
        let mut missing = BTreeSet::new();
        for name in names {
            let namespace = namespace(&name);
            if self.live(std::slice::from_ref(&namespace)).await?[0].is_none() {
                missing.insert(name);
            }
        }
        let (this, missing) = (&*self, &missing);
        let each = live.into_iter().zip(&objects).map(async |(live, object)| match live {
            Some(live) => this.change(live, object).await,
            None => this.creation(object, missing).await,
        });
        futures::stream::iter(each).buffered(MAX_CONCURRENT).try_collect().await
    }

    /// Returns what [`Applier::prune`] would delete.
    ///
    /// # Errors
    /// The API server's.
    pub async fn dry_prune(
        &mut self,
        kinds: &[GroupVersionKind],
        label: &str,
        wanted: &[DynamicObject],
    ) -> anyhow::Result<Vec<Change>> {
        let unwanted = self.unwanted(kinds, label, wanted).await?;
        Ok(unwanted.iter().map(|(_, object)| Change::of(object, Effect::Delete)).collect())
    }

    async fn creation(&self, object: &DynamicObject, missing: &BTreeSet<String>) -> anyhow::Result<Change> {
        let create = Change::of(object, Effect::Create);
        if !self.knows(object) {
            return Ok(create.noted("not checked: the API server does not serve this kind yet"));
        }
        if let Some(namespace) = object.namespace().filter(|namespace| missing.contains(namespace)) {
            return self.elsewhere(object, create, &namespace).await;
        }
        match dry(&self.api(object)?, object).await {
            Ok(_) => Ok(create),
            // The API server looks up the role that a user may not bind otherwise.
            Err(error) if is_not_found(&error) => Ok(create.noted("not checked: its role does not exist yet")),
            Err(error) => refusal(object, error),
        }
    }

    /// Checks an object whose namespace does not exist yet in namespace default, which every cluster has.
    async fn elsewhere(&self, object: &DynamicObject, create: Change, namespace: &str) -> anyhow::Result<Change> {
        let mut moved = object.clone();
        moved.metadata.namespace = Some("default".to_owned());
        let unchecked = format!("not checked: namespace {namespace} does not exist yet");
        let api = self.api(&moved)?;
        let there = api.get_opt(&moved.name_any()).await;
        if there.with_context(|| format!("inspecting {}", described(&moved)))?.is_some() {
            return Ok(create.noted(unchecked));
        }
        match dry(&api, &moved).await {
            Ok(_) => Ok(create),
            // What an object refers to, and what the namespace forbids, depends on the namespace.
            Err(kube::Error::Api(status)) if [403, 404].contains(&status.code) => Ok(create.noted(unchecked)),
            Err(error) => refusal(object, error),
        }
    }

    async fn change(&self, live: DynamicObject, object: &DynamicObject) -> anyhow::Result<Change> {
        let keep = Change::of(object, Effect::Keep);
        if self.only_ours && !objects::is_ours(&live) {
            return Ok(match kind(object) {
                "CustomResourceDefinition" => keep,
                _ => Change::of(object, Effect::Refuse).noted("it exists, but kindmesh did not create it"),
            });
        }
        if objects::is_terminating(&live) {
            return Ok(Change::of(object, Effect::Create).noted("not checked: an earlier one is being deleted"));
        }
        if is_unchanged(&live, object) {
            return Ok(keep);
        }
        let applied = match dry(&self.api(object)?, object).await {
            Ok(applied) => applied,
            Err(error) => return refusal(object, error),
        };
        let (live, applied) = (comparable(live)?, comparable(applied)?);
        let mut differing = Vec::new();
        difference::add("", &live, &applied, Lists::Items, &mut differing);
        let shown = |value: &Value| if kind(object) == "Secret" { Value::Null } else { value.clone() };
        let field = |(path, from, to): Difference<'_>| Field { path, from: shown(from), to: shown(to) };
        let fields: Vec<Field> = differing.into_iter().map(field).collect();
        let effect = if fields.is_empty() { Effect::Keep } else { Effect::Change };
        Ok(Change { fields, ..Change::of(object, effect) })
    }
}

async fn dry(api: &Api<DynamicObject>, object: &DynamicObject) -> kube::Result<DynamicObject> {
    let parameters = PatchParams { dry_run: true, ..PatchParams::apply(MANAGED_BY).force() };
    api.patch(&object.name_any(), &parameters, &Patch::Apply(object)).await
}

fn namespace(name: &str) -> DynamicObject {
    DynamicObject::new(name, &ApiResource::erase::<Namespace>(&()))
}

/// Returns a refusal of the API server as what would become of the object; another error is one.
fn refusal(object: &DynamicObject, error: kube::Error) -> anyhow::Result<Change> {
    match error {
        kube::Error::Api(status) if classify(&status) != Class::Temporary => {
            let refused = Change::of(object, Effect::Refuse).noted(status.message.clone());
            Ok(Change { refusal: Some(status), ..refused })
        }
        other => Err(other).with_context(|| format!("asking what would become of {}", described(object))),
    }
}

/// Returns an object without what the API server counts and records, and without its status.
fn comparable(mut object: DynamicObject) -> anyhow::Result<Value> {
    object.metadata.managed_fields = None;
    object.metadata.resource_version = None;
    object.metadata.generation = None;
    if let Some(fields) = object.data.as_object_mut() {
        fields.remove("status");
    }
    serde_json::to_value(object).context("comparing an object")
}
