//! Deletes CRDs that have no objects of others.

use anyhow::Context;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt;
use kube::api::{Api, ApiResource, ListParams};

use super::Removal;
use super::owner::{self, Metadata, resource};
use crate::cluster::mesh::apply::MAX_CONCURRENT;

/// How many objects of a CRD are listed to count them. The API server says how many more there are.
const COUNTED: u32 = 100;

impl Removal<'_> {
    /// Deletes the CRDs that the environment created and that have no objects. The environment's own are gone by now.
    pub(super) async fn definitions(&mut self) -> anyhow::Result<()> {
        let api: Api<CustomResourceDefinition> = Api::all(self.deleter.client.clone());
        let ours = ListParams::default().labels(&owner::selector());
        let list = async || api.list(&ours).await.context("listing CRDs");
        let definitions = self.deleter.retried("the CRDs", list).await?.items;
        let this = &*self;
        let counted = definitions.iter().map(async |definition| this.count(definition).await);
        let counted = futures::stream::iter(counted).buffered(MAX_CONCURRENT).try_collect::<Vec<_>>().await?;
        let mut empty = Vec::new();
        for (definition, counted) in definitions.iter().zip(counted) {
            let name = definition.name_any();
            let why = match counted {
                Some(0) => {
                    empty.push(name);
                    continue;
                }
                Some(1) => "it has 1 object of others".to_owned(),
                Some(number) => format!("it has {number} objects of others"),
                None => "you may not list its objects".to_owned(),
            };
            self.removed.left.push(format!("CRD {name} in {}: {why}", self.cluster));
        }
        let is_empty = |definition: &Metadata| empty.contains(&definition.name_any());
        self.removed.changed |= self.deleter.delete_ours(&[resource(owner::DEFINITION)], is_empty).await?;
        Ok(())
    }

    /// Returns how many objects a CRD has, in all namespaces; none if the user may not list them.
    async fn count(&self, definition: &CustomResourceDefinition) -> anyhow::Result<Option<i64>> {
        let (spec, what) = (&definition.spec, format!("the objects of CRD {}", definition.name_any()));
        let Some(version) = spec.versions.iter().find(|version| version.served) else { return Ok(Some(0)) };
        let kind = ApiResource {
            group: spec.group.clone(),
            version: version.name.clone(),
            api_version: format!("{}/{}", spec.group, version.name),
            kind: spec.names.kind.clone(),
            plural: spec.names.plural.clone(),
        };
        let count = async || match self
            .deleter
            .api(&kind, None)
            .list_metadata(&ListParams::default().limit(COUNTED))
            .await
        {
            Ok(listed) => {
                let listed_now = i64::try_from(listed.items.len()).unwrap_or(i64::MAX);
                Ok(Some(listed_now + listed.metadata.remaining_item_count.unwrap_or_default()))
            }
            Err(kube::Error::Api(status)) if status.code == 403 => Ok(None),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Some(0)),
            Err(error) => Err(error).with_context(|| format!("listing {}", kind.plural)),
        };
        self.deleter.retried(&what, count).await
    }
}
