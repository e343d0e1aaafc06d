//! Deletes objects of a cluster and waits until they are gone. What is gone is seen in a listing, so an interrupted run is continued.

use anyhow::Context;
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Event, Namespace};
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams, Preconditions};
use kube::{Client, ResourceExt};
use tokio::time::Instant;

use super::owner::{self, Metadata};
use crate::base::error::{self, Error};
use crate::base::event::Step;
use crate::base::wait::{self, Poll};
use crate::cluster::mesh::apply::MAX_CONCURRENT;
use crate::cluster::objects::{delete_if_exists, is_terminating};
use crate::cluster::refusal::{Record, Retries};

/// The groups of kinds whose objects own pods. Those are gone before the object itself is.
const RUNS_PODS: [&str; 2] = ["apps", "batch"];

/// Deletes objects of one environment in one cluster.
pub(super) struct Deleter<'a> {
    pub(super) client: &'a Client,
    pub(super) environment: &'a str,
    /// The temporary refusals of the cluster.
    pub(super) record: &'a Record,
    pub(super) step: &'a Step,
    pub(super) deadline: Instant,
}

/// Where objects are looked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Among<'a> {
    /// Their namespace; none for all.
    pub(super) namespace: Option<&'a str>,
    /// The selector of their labels; empty for all.
    pub(super) labels: &'a str,
}

impl Deleter<'_> {
    /// Deletes the environment's objects of these kinds that `chosen` accepts, and waits until they are gone. Returns whether there were
    /// any.
    ///
    /// # Errors
    /// The API server's, or if an object still exists at the deadline.
    pub(super) async fn delete_ours(
        &self,
        kinds: &[ApiResource],
        chosen: impl Fn(&Metadata) -> bool,
    ) -> anyhow::Result<bool> {
        let labels = owner::selector();
        let among = Among { namespace: None, labels: &labels };
        let each = kinds.iter().map(|kind| self.delete(kind, among, &chosen));
        Ok(try_join_all(each).await?.contains(&true))
    }

    /// Deletes objects of one kind. See [`Deleter::delete_ours`].
    pub(super) async fn delete(
        &self,
        kind: &ApiResource,
        among: Among<'_>,
        chosen: impl Fn(&Metadata) -> bool,
    ) -> anyhow::Result<bool> {
        let what = format!("{} to be deleted", kind.plural);
        let mut retries = Retries::new(self.record);
        let mut last: Option<Metadata> = None;
        let waited = wait::until(self.step, &what, self.deadline, async || {
            let attempt = async {
                let mut found = self.list(kind, among).await?;
                found.retain(&chosen);
                let asked = found.iter().filter(|object| !is_terminating(*object));
                let asked: Vec<_> = asked.map(|object| self.ask(kind, object)).collect();
                let asked: Vec<()> =
                    futures::stream::iter(asked).buffer_unordered(MAX_CONCURRENT).try_collect().await?;
                drop(asked);
                anyhow::Ok(found)
            };
            let found = match attempt.await {
                Ok(found) => found,
                Err(error) => return retries.failed(&what, error),
            };
            let Some(first) = found.first() else { return Ok(Poll::Ready(())) };
            last = Some(first.clone());
            Ok(Poll::NotYet(self.why_there(kind, first, found.len() - 1).await))
        })
        .await;
        match (waited, last) {
            (Ok(()), last) => Ok(last.is_some()),
            (Err(error), Some(object)) => Err(self.explained(error, kind, &object).await),
            (Err(error), None) => Err(error),
        }
    }

    /// Lists objects of a kind. A kind that the API server does not serve has none.
    ///
    /// # Errors
    /// The API server's.
    pub(super) async fn list(&self, kind: &ApiResource, among: Among<'_>) -> anyhow::Result<Vec<Metadata>> {
        let parameters = ListParams::default().labels(among.labels);
        match self.api(kind, among.namespace).list_metadata(&parameters).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
            listed => Ok(listed.with_context(|| format!("listing {}", kind.plural))?.items),
        }
    }

    /// Runs a request until it succeeds: temporary refusals are retried.
    ///
    /// # Errors
    /// If it is refused permanently, or at the deadline.
    pub(super) async fn retried<T>(
        &self,
        what: &str,
        mut request: impl AsyncFnMut() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let mut retries = Retries::new(self.record);
        wait::until(self.step, what, self.deadline, async || match request().await {
            Ok(answer) => Ok(Poll::Ready(answer)),
            Err(error) => retries.failed(what, error),
        })
        .await
    }

    /// Returns the API for objects of a kind.
    pub(super) fn api(&self, kind: &ApiResource, namespace: Option<&str>) -> Api<DynamicObject> {
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, kind),
            None => Api::all_with(self.client.clone(), kind),
        }
    }

    /// Asks the API server to delete an object that was seen, not another one that has its name since.
    async fn ask(&self, kind: &ApiResource, object: &Metadata) -> anyhow::Result<()> {
        let seen = Preconditions { uid: object.uid(), resource_version: None };
        let parameters = if RUNS_PODS.contains(&kind.group.as_str()) {
            DeleteParams::foreground()
        } else {
            DeleteParams::background()
        };
        let parameters = DeleteParams { preconditions: Some(seen), ..parameters };
        let name = object.name_any();
        match delete_if_exists(&self.api(kind, object.namespace().as_deref()), &name, &parameters).await {
            // Another one since: the next listing shows it.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            deleted => deleted.map(drop).with_context(|| format!("deleting {} {name}", kind.kind)),
        }
    }

    /// Returns why an object still exists. For a namespace, that is what it still contains.
    async fn why_there(&self, kind: &ApiResource, object: &Metadata, others: usize) -> String {
        let mut why = owner::why_there(&kind.kind, object, others);
        if kind.kind == owner::NAMESPACE.1 {
            let api: Api<Namespace> = Api::all(self.client.clone());
            let live = api.get_opt(&object.name_any()).await.ok().flatten();
            let conditions = live.and_then(|live| live.status?.conditions).into_iter().flatten();
            for condition in conditions.filter(|condition| condition.status == "True") {
                why.extend([": ", condition.message.as_deref().unwrap_or(&condition.type_)]);
            }
        }
        why
    }

    /// Adds the events of an object that still exists, and what to do, to the error of a wait.
    async fn explained(&self, error: anyhow::Error, kind: &ApiResource, object: &Metadata) -> anyhow::Error {
        let mut error = match error.downcast::<Error>() {
            Ok(error) => error,
            Err(error) => return error,
        };
        error.evidence.extend(self.events(kind, object).await);
        if error.hint.is_none() {
            let (kind, environment) = (&kind.kind, self.environment);
            error.hint =
                Some(format!("see what keeps the {kind}, then run kindmesh down --name {environment} again"));
        }
        error.into()
    }

    /// Returns the events of an object, the latest last.
    async fn events(&self, kind: &ApiResource, object: &Metadata) -> Vec<String> {
        let Some(namespace) = object.namespace() else { return Vec::new() };
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let of = format!("involvedObject.kind={},involvedObject.name={}", kind.kind, object.name_any());
        let mut events = match api.list(&ListParams::default().fields(&of)).await {
            Ok(listed) => listed.items,
            Err(error) => return vec![format!("no events: {}", error::brief(error))],
        };
        let time = |event: &Event| {
            event.last_timestamp.as_ref().map(|time| time.0).or(event.event_time.as_ref().map(|time| time.0))
        };
        events.sort_by_key(time);
        let text = |event: Event| {
            let [of, reason, message] = [event.type_, event.reason, event.message].map(Option::unwrap_or_default);
            format!("event: {of} {reason}: {}", message.trim())
        };
        events.into_iter().map(text).collect()
    }
}
