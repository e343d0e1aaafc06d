//! Deletes istiod, and what it made at run time.

use std::collections::BTreeSet;

use anyhow::Context;
use kube::ResourceExt;
use kube::api::{DynamicObject, ListParams};
use serde_json::Value;

use super::Removal;
use super::delete::Among;
use super::owner::{self, Metadata, resource};
use crate::base::wait::{self, Poll};
use crate::cluster::existing::record::Before;
use crate::cluster::existing::{made, read};
use crate::cluster::mesh::ISTIO_NAMESPACE;
use crate::cluster::objects::is_ours;
use crate::cluster::refusal::Retries;

/// The label of the pods and Deployments of every istiod.
const ISTIOD_LABEL: &str = "app=istiod";

/// An istiod that is not kindmesh's.
pub(super) struct OtherIstiod {
    /// Its namespace; none if it is outside of the cluster.
    namespace: Option<String>,
    /// Its kind and name.
    called: String,
}

impl OtherIstiod {
    /// Whether it may use what an istiod makes in Istio's namespace.
    fn uses_istio_namespace(&self) -> bool {
        self.namespace.as_deref().is_none_or(|namespace| namespace == ISTIO_NAMESPACE)
    }
}

impl Removal<'_> {
    /// Returns an istiod that the environment did not create, or a webhook that calls one.
    pub(super) async fn other_istiod(&self) -> anyhow::Result<Option<OtherIstiod>> {
        let labelled = Among { namespace: None, labels: ISTIOD_LABEL };
        let deployment = resource(owner::DEPLOYMENT);
        let istiods = self
            .deleter
            .retried("the Deployments of istiod", async || self.deleter.list(&deployment, labelled).await);
        let others = istiods.await?.into_iter().filter(|istiod| !is_ours(istiod));
        // One in Istio's namespace comes first: it shares the most.
        let others = others.map(|istiod| (istiod.namespace(), istiod.name_any()));
        if let Some((namespace, name)) =
            others.max_by_key(|(namespace, _)| namespace.as_deref() == Some(ISTIO_NAMESPACE))
        {
            let called = format!("Deployment {name} in namespace {}", namespace.as_deref().unwrap_or_default());
            return Ok(Some(OtherIstiod { namespace, called }));
        }
        for kind in owner::WEBHOOKS.map(resource) {
            let what = format!("the objects of kind {}", kind.kind);
            let list = async || {
                let listed = self.deleter.api(&kind, None).list(&ListParams::default()).await;
                listed.with_context(|| format!("listing {}", kind.plural))
            };
            let listed = self.deleter.retried(&what, list).await?;
            let calls = |webhook: &&DynamicObject| !is_ours(*webhook) && read::calls_istiod(&webhook.data);
            if let Some(webhook) = listed.iter().find(calls) {
                let called = format!("{} {}", kind.kind, webhook.name_any());
                return Ok(Some(OtherIstiod { namespace: None, called }));
            }
        }
        Ok(None)
    }

    /// Deletes istiod, and waits until its pods are gone: until then they make again what is deleted next.
    pub(super) async fn istiod(&mut self, other: Option<&OtherIstiod>) -> anyhow::Result<()> {
        self.removed.changed |= self.deleter.delete_ours(&[resource(owner::DEPLOYMENT)], |_| true).await?;
        if other.is_some_and(OtherIstiod::uses_istio_namespace) {
            return Ok(());
        }
        let pods = resource(("v1", "Pod"));
        let among = Among { namespace: Some(ISTIO_NAMESPACE), labels: ISTIOD_LABEL };
        let (what, mut retries) = ("the pods of istiod to end", Retries::new(self.deleter.record));
        wait::until(self.deleter.step, what, self.deleter.deadline, async || {
            match self.deleter.list(&pods, among).await {
                Ok(found) => Ok(match found.first() {
                    None => Poll::Ready(()),
                    Some(pod) => Poll::NotYet(owner::why_there("Pod", pod, found.len() - 1)),
                }),
                Err(error) => retries.failed(what, error),
            }
        })
        .await
    }

    /// Deletes what istiod made, unless another istiod may use it.
    pub(super) async fn made_by_istiod(&mut self, other: Option<&OtherIstiod>) -> anyhow::Result<()> {
        let Some(before) = self.before.clone() else {
            if self.removed.changed {
                let cluster = self.cluster;
                let why = "its record is gone, so what was there before is not known";
                self.removed.left.push(format!("what istiod made in {cluster}: {why}"));
            }
            return Ok(());
        };
        if !other.is_some_and(OtherIstiod::uses_istio_namespace) {
            self.delete_elections(&before).await?;
        }
        if other.is_none() {
            self.delete_trust(&before).await?;
            self.delete_classes(&before).await?;
        }
        Ok(())
    }

    /// Deletes what istiod made in Istio's namespace.
    async fn delete_elections(&mut self, before: &Before) -> anyhow::Result<()> {
        let among = Among { namespace: Some(ISTIO_NAMESPACE), labels: "" };
        for kind in [owner::CONFIG_MAP, owner::LEASE, owner::SECRET].map(resource) {
            let is_made = |object: &Metadata| {
                made::is_of_istiod(&kind.kind, &object.name_any()) && made::is_newer(object, before.recorded)
            };
            self.removed.changed |= self.deleter.delete(&kind, among, is_made).await?;
        }
        Ok(())
    }

    /// Deletes the root certificate and the revoked certificates in all namespaces that did not have them before.
    async fn delete_trust(&mut self, before: &Before) -> anyhow::Result<()> {
        let among = Among { namespace: None, labels: made::TRUST_LABEL };
        let is_made = |map: &Metadata| made::made_trust(map, before);
        self.removed.changed |= self.deleter.delete(&resource(owner::CONFIG_MAP), among, is_made).await?;
        Ok(())
    }

    /// Says that another istiod uses the root certificate in namespaces that did not have it before.
    pub(super) async fn keep_trust(&mut self, other: Option<&OtherIstiod>) -> anyhow::Result<()> {
        let (Some(before), Some(other)) = (self.before.clone(), other) else { return Ok(()) };
        let among = Among { namespace: None, labels: made::TRUST_LABEL };
        let maps = resource(owner::CONFIG_MAP);
        let listed =
            self.deleter.retried("Istio's root certificates", async || self.deleter.list(&maps, among).await);
        let kept = listed.await?.into_iter().filter(|map| made::made_trust(map, &before));
        let kept: BTreeSet<String> = kept.filter_map(|map| map.namespace()).collect();
        if !kept.is_empty() {
            let kept: Vec<String> = kept.into_iter().collect();
            let (kept, cluster, called) = (owner::named(&kept), self.cluster, &other.called);
            let line =
                format!("Istio's root certificate in namespaces {kept} of {cluster}: {called} is there, too");
            self.removed.left.push(line);
        }
        Ok(())
    }

    /// Deletes the classes of gateways that istiod made, except those that a Gateway uses.
    async fn delete_classes(&mut self, before: &Before) -> anyhow::Result<()> {
        let classes = self.list_all(owner::GATEWAY_CLASS).await?;
        let classes = classes.into_iter().filter(|class| made::made_class(class, before));
        let mut classes: Vec<String> = classes.map(|class| class.name_any()).collect();
        if classes.is_empty() {
            return Ok(());
        }
        for gateway in self.list_all(owner::GATEWAY_API_GATEWAY).await? {
            let class = gateway.data.pointer("/spec/gatewayClassName").and_then(Value::as_str).unwrap_or_default();
            if let Some(used) = classes.iter().position(|name| name == class) {
                let name = format!("{}/{}", gateway.namespace().unwrap_or_default(), gateway.name_any());
                let line = format!("GatewayClass {class} in {}: Gateway {name} uses it", self.cluster);
                self.removed.left.push(line);
                classes.remove(used);
            }
        }
        let among = Among { namespace: None, labels: "" };
        let unused = |class: &Metadata| classes.contains(&class.name_any());
        self.removed.changed |= self.deleter.delete(&resource(owner::GATEWAY_CLASS), among, unused).await?;
        Ok(())
    }
}
