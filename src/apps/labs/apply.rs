//! Applies the objects of a state, and deletes everything else that exercises involve.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Context;
use kube::ResourceExt;
use kube::api::{DeleteParams, DynamicObject};
use serde::Serialize;
use tokio::time::Instant;

use super::clusters::{Clusters, Key, SIDES};
use super::exercise::{Exercise, State};
use crate::base::event::Step;
use crate::cluster::kinds::Kinds;
use crate::cluster::mesh::apply::Applier;
use crate::cluster::objects;
use crate::cluster::policies::{Policy, Side, is_ours};
use crate::cluster::rollout::Workload;
use crate::cluster::workloads;
use crate::diagnose::diagnosis::waits;
use crate::host::state;

/// Something that was changed, or found and left unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// The side.
    pub cluster: String,
    /// The object: `VirtualService sample-producer`, `nodes`, `link`.
    pub what: String,
    /// What was done.
    pub became: Became,
    /// The path of a copy of the previous object, if kindmesh did not create it.
    pub kept: Option<PathBuf>,
}

/// What was done with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Became {
    /// It was created or changed.
    Applied,
    /// Another object of its name was replaced.
    Replaced,
    /// It was deleted.
    Deleted,
    /// Nodes were started.
    Started,
    /// Nodes were stopped.
    Stopped,
    /// A link was disabled.
    Cut,
    /// A link was enabled.
    Restored,
    /// A user's object that no exercise names: it is unchanged, and may affect calls.
    LeftAlone,
}

impl Change {
    /// Describes it in one line.
    pub fn describe(&self) -> String {
        let became = match self.became {
            Became::Applied => "applied",
            Became::Replaced => "replaced",
            Became::Deleted => "deleted",
            Became::Started => "started",
            Became::Stopped => "stopped",
            Became::Cut => "disabled",
            Became::Restored => "enabled",
            Became::LeftAlone => {
                return format!("{}: {} is not part of an exercise: unchanged", self.cluster, self.what);
            }
        };
        let kept = match &self.kept {
            Some(path) => format!("; a copy is in {}", path.display()),
            None => String::new(),
        };
        format!("{}: {} {became}{kept}", self.cluster, self.what)
    }
}

impl Clusters<'_> {
    /// Makes the objects of both sides match a state: deletes what exercises name and the state does not contain,
    /// applies the rest.
    pub async fn apply(&self, state: &State, step: &Step, deadline: Instant) -> anyhow::Result<Vec<Change>> {
        let image = workloads::sample_image(self.client(Side::Caller), self.environment).await?;
        let (caller, producer) = futures::join!(
            self.apply_on(state, Side::Caller, &image, step, deadline),
            self.apply_on(state, Side::Producer, &image, step, deadline)
        );
        let mut changes = caller?;
        changes.extend(producer?);
        Ok(changes)
    }

    async fn apply_on(
        &self,
        state: &State,
        side: Side,
        image: &str,
        step: &Step,
        deadline: Instant,
    ) -> anyhow::Result<Vec<Change>> {
        let wanted = self.objects(state, side, image)?;
        let keys: BTreeSet<Key> = wanted.iter().map(Key::of).collect();
        let mut changes = Vec::new();
        for key in named(side)?.difference(&keys) {
            if let Some(live) = self.live(side, key).await? {
                changes.push(self.delete(side, key, &live, Became::Deleted).await?);
            }
        }
        let kinds = Kinds::default();
        for object in &wanted {
            changes.extend(self.apply_one(side, object, &kinds, step, deadline).await?);
        }
        for object in wanted.iter().map(Key::of).filter(|key| key.kind == "Deployment") {
            let workload = Workload::deployment(self.namespace(), &object.name);
            waits::workload(self.client(side), &workload, self.record(side), step, deadline).await?;
        }
        for other in self.policies(side).await?.iter().map(Key::of).filter(|key| !keys.contains(key)) {
            changes.push(self.change(side, &other, Became::LeftAlone));
        }
        Ok(changes)
    }

    async fn apply_one(
        &self,
        side: Side,
        object: &DynamicObject,
        kinds: &Kinds,
        step: &Step,
        deadline: Instant,
    ) -> anyhow::Result<Option<Change>> {
        let key = Key::of(object);
        let live = self.live(side, &key).await?;
        // Fields that someone else added to an object would survive a server-side apply.
        let altered = |live: &DynamicObject| key.is_policy() && live.data.get("spec") != object.data.get("spec");
        let in_the_way = live.filter(|live| !is_ours(live) || altered(live));
        let replaced = match &in_the_way {
            Some(live) => Some(self.delete(side, &key, live, Became::Replaced).await?),
            None => None,
        };
        let applier = Applier::new(self.client(side).clone(), step, deadline);
        let changed = applier.sharing(kinds).recording(self.record(side)).apply(vec![object.clone()]).await?;
        Ok(replaced.or_else(|| changed.then(|| self.change(side, &key, Became::Applied))))
    }

    async fn live(&self, side: Side, key: &Key) -> anyhow::Result<Option<DynamicObject>> {
        let what = || format!("reading {key} in cluster {}", self.places.of(side));
        self.api(side, &key.api_version, &key.kind).get_opt(&key.name).await.with_context(what)
    }

    /// Deletes an object; if kindmesh did not create it, a copy is kept.
    async fn delete(&self, side: Side, key: &Key, live: &DynamicObject, became: Became) -> anyhow::Result<Change> {
        let kept = if is_ours(live) { None } else { Some(self.keep(side, key, live)?) };
        let what = || format!("deleting {key} in cluster {}", self.places.of(side));
        let api = self.api(side, &key.api_version, &key.kind);
        objects::delete_if_exists(&api, &key.name, &DeleteParams::background()).await.with_context(what)?;
        Ok(Change { kept, ..self.change(side, key, became) })
    }

    fn keep(&self, side: Side, key: &Key, live: &DynamicObject) -> anyhow::Result<PathBuf> {
        let mut copy = live.clone();
        let metadata = &mut copy.metadata;
        (metadata.managed_fields, metadata.uid, metadata.resource_version) = (None, None, None);
        (metadata.creation_timestamp, metadata.generation) = (None, None);
        copy.types = Some(kube::core::TypeMeta { api_version: key.api_version.clone(), kind: key.kind.clone() });
        let name = format!("{}-{}-{}", self.places.of(side), key.kind.to_lowercase(), copy.name_any());
        let (directory, text) = (self.environment.files.labs().join("kept"), serde_yaml::to_string(&copy)?);
        // A copy of another object of this name stays.
        let paths = (1..).map(|number| match number {
            1 => directory.join(format!("{name}.yaml")),
            _ => directory.join(format!("{name}-{number}.yaml")),
        });
        let is_free = |path: &PathBuf| std::fs::read_to_string(path).map_or(!path.exists(), |kept| kept == text);
        let path = paths.into_iter().find(is_free).context("no free file name")?;
        state::write_private(&path, text.as_bytes())?;
        Ok(path)
    }

    fn change(&self, side: Side, key: &Key, became: Became) -> Change {
        Change { cluster: self.places.of(side).to_owned(), what: key.to_string(), became, kept: None }
    }
}

/// Returns everything on a side that some exercise names: the objects of its manifests, and policies on either
/// side, since a user may have tried a policy where it takes no effect.
fn named(side: Side) -> anyhow::Result<BTreeSet<Key>> {
    let mut named = BTreeSet::new();
    for state in Exercise::all().iter().flat_map(|exercise| [&exercise.start, &exercise.solution]) {
        for from in SIDES {
            for path in state.manifests(from) {
                let text = super::exercise::file(path).with_context(|| format!("{path} is not built in"))?;
                let keys = crate::cluster::mesh::apply::objects(text)?.iter().map(Key::of).collect::<Vec<_>>();
                named.extend(keys.into_iter().filter(|key| from == side || key.is_policy()));
            }
        }
    }
    for policy in Policy::all() {
        named.insert(Key::of(&policy.object("sample")?));
    }
    Ok(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exercises_do_not_name_the_sample_deployments() {
        for side in SIDES {
            let named: Vec<_> = named(side).unwrap().iter().map(ToString::to_string).collect();
            assert!(named.contains(&"VirtualService sample-producer".to_owned()), "{named:?}");
            assert!(named.contains(&"AuthorizationPolicy sample-producer-deny".to_owned()), "{named:?}");
            assert!(!named.iter().any(|what| what.contains("sample-caller")), "{named:?}");
            // A producer's Deployment belongs to exercises only in the caller's cluster.
            let producer = named.contains(&"Deployment sample-producer".to_owned());
            assert_eq!(producer, side == Side::Caller, "{named:?}");
        }
    }

    #[test]
    fn change_is_described_with_its_kept_copy() {
        let change = Change {
            cluster: "cluster1".into(),
            what: "VirtualService sample-producer".into(),
            became: Became::Replaced,
            kept: Some("/k/a.yaml".into()),
        };
        assert_eq!(change.describe(), "cluster1: VirtualService sample-producer replaced; a copy is in /k/a.yaml");
        let left = Change { became: Became::LeftAlone, kept: None, ..change };
        assert!(left.describe().ends_with("is not part of an exercise: unchanged"));
    }
}
