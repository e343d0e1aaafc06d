//! Deletes what kindmesh applied earlier and no longer wants.

use anyhow::Context;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams};
use kube::core::{GroupVersionKind, TypeMeta};

use super::{Applier, described, kind};
use crate::cluster::objects;
use crate::plan::{MANAGED_BY, MANAGED_BY_LABEL};

impl Applier<'_> {
    /// Deletes the objects of these kinds that carry kindmesh's label and `label` but are not in `wanted`. Reports whether
    /// there were any. Kinds that the API server does not serve are skipped.
    ///
    /// # Errors
    /// The API server's, with the object's name.
    pub async fn prune(
        &mut self,
        kinds: &[GroupVersionKind],
        label: &str,
        wanted: &[DynamicObject],
    ) -> anyhow::Result<bool> {
        let mut changed = false;
        for (api, object) in self.unwanted(kinds, label, wanted).await? {
            let deleted = objects::delete_if_exists(&api, &object.name_any(), &DeleteParams::default()).await;
            changed |= deleted.with_context(|| format!("deleting {}", described(&object)))?;
        }
        Ok(changed)
    }

    /// Returns what [`Applier::prune`] would delete, each with its API.
    pub(super) async fn unwanted(
        &mut self,
        kinds: &[GroupVersionKind],
        label: &str,
        wanted: &[DynamicObject],
    ) -> anyhow::Result<Vec<(Api<DynamicObject>, DynamicObject)>> {
        let known = match &self.known {
            Some(known) => known.clone(),
            None => self.kinds.ask(&self.client).await?,
        };
        let ours = ListParams::default().labels(&format!("{MANAGED_BY_LABEL}={MANAGED_BY},{label}"));
        let lists = kinds.iter().filter_map(|gvk| {
            let addressed = known.kind(gvk)?;
            let all = addressed.everywhere(&self.client);
            let ours = &ours;
            Some(async move {
                let found = all.list(ours).await.with_context(|| format!("listing every {}", gvk.kind))?;
                anyhow::Ok((gvk, addressed, found))
            })
        });
        let mut unwanted = Vec::new();
        for (gvk, addressed, found) in futures::future::try_join_all(lists).await? {
            for mut found in found {
                let (name, namespace) = (found.name_any(), found.namespace());
                let same = |other: &DynamicObject| {
                    kind(other) == gvk.kind && other.name_any() == name && other.namespace() == namespace
                };
                if !wanted.iter().any(same) && !objects::is_terminating(&found) {
                    // Items of a list have no kind.
                    found.types = Some(TypeMeta { api_version: gvk.api_version(), kind: gvk.kind.clone() });
                    unwanted.push((addressed.api(&self.client, namespace.as_deref()), found));
                }
            }
        }
        self.known = Some(known);
        Ok(unwanted)
    }
}
