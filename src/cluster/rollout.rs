//! Rollouts: whether a workload of any kind is ready, and why not.

use anyhow::Context;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{Api, DynamicObject, ListParams, TypeMeta};
use kube::core::Selector;
use kube::{Client, ResourceExt};
use serde_json::Value;
use tokio::time::Instant;

use super::objects;
use super::refusal::{Record, Retries};
use super::{kinds, pods};
use crate::base::error::Error;
use crate::base::event::Step;
use crate::base::wait::{self, Poll};

/// A kind of workload that can be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Interchangeable pods.
    Deployment,
    /// Pods with stable names.
    StatefulSet,
    /// A pod on every node.
    DaemonSet,
    /// A fixed number of pods.
    ReplicaSet,
    /// Pods that run to completion. It is awaited until it has completed or its pods run: some run for hours.
    Job,
    /// A pod without a controller.
    Pod,
}

impl Kind {
    const ALL: [Kind; 6] =
        [Kind::Deployment, Kind::StatefulSet, Kind::DaemonSet, Kind::ReplicaSet, Kind::Job, Kind::Pod];

    /// Returns its name in manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Deployment => "Deployment",
            Kind::StatefulSet => "StatefulSet",
            Kind::DaemonSet => "DaemonSet",
            Kind::ReplicaSet => "ReplicaSet",
            Kind::Job => "Job",
            Kind::Pod => "Pod",
        }
    }

    fn api_version(self) -> &'static str {
        match self {
            Kind::Pod => "v1",
            Kind::Job => "batch/v1",
            _ => "apps/v1",
        }
    }
}

/// A workload of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its name in messages.
    called: String,
}

impl Workload {
    /// Returns the Deployment of that name.
    pub fn deployment(namespace: &str, name: &str) -> Self {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        Self { kind: Kind::Deployment, namespace, called: name.clone(), name }
    }

    /// Returns the workload of an object, or `None` if it has no pods or they cannot be waited for.
    pub fn of(object: &DynamicObject) -> Option<Self> {
        let types = object.types.as_ref()?;
        let is_of = |kind: &Kind| (kind.as_str(), kind.api_version()) == (&types.kind, &types.api_version);
        let kind = Kind::ALL.into_iter().find(is_of)?;
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        Some(Self { kind, namespace, called: format!("{} {name}", kind.as_str()), name })
    }

    /// Returns the live object.
    ///
    /// # Errors
    /// The API server's.
    pub async fn get(&self, client: &Client) -> kube::Result<Option<DynamicObject>> {
        kinds::api(client, self.kind.api_version(), self.kind.as_str(), Some(&self.namespace))
            .get_opt(&self.name)
            .await
    }

    /// Returns the pods of a live object, oldest first.
    ///
    /// # Errors
    /// The API server's, or if the object does not match the schema of its kind.
    pub async fn pods(&self, client: &Client, live: &DynamicObject) -> anyhow::Result<Vec<Pod>> {
        if self.kind == Kind::Pod {
            return Ok(vec![serde_json::from_value(serde_json::to_value(live)?)?]);
        }
        let selector = live.data.pointer("/spec/selector").cloned().unwrap_or_default();
        let selector: Selector = serde_json::from_value::<LabelSelector>(selector)?.try_into()?;
        let api: Api<Pod> = Api::namespaced(client.clone(), &self.namespace);
        let mut pods = api.list(&ListParams::default().labels_from(&selector)).await?.items;
        pods.sort_by_key(|pod| pod.creation_timestamp().map(|time| time.0));
        Ok(pods)
    }
}

/// Returns the controllers of a cluster, in all namespaces, whose pods are all ready.
///
/// # Errors
/// The API server's.
pub async fn ready(client: &Client) -> anyhow::Result<Vec<DynamicObject>> {
    let list = async |kind: Kind| {
        let api = kinds::api(client, kind.api_version(), kind.as_str(), None);
        let found = api.list(&ListParams::default()).await;
        let mut found = found.with_context(|| format!("listing every {}", kind.as_str()))?.items;
        found.retain(|live| Rollout::of(kind, live) == Rollout::Ready);
        // Elements of a list have no types of their own.
        let types = TypeMeta { api_version: kind.api_version().to_owned(), kind: kind.as_str().to_owned() };
        found.iter_mut().for_each(|live| live.types = Some(types.clone()));
        anyhow::Ok(found)
    };
    let all = futures::try_join!(list(Kind::Deployment), list(Kind::StatefulSet), list(Kind::DaemonSet))?;
    Ok([all.0, all.1, all.2].concat())
}

/// The rollout status of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rollout {
    /// All pods of the newest revision are ready, or the pod or the Job has completed.
    Ready,
    /// Not ready yet, with the reason.
    NotYet(String),
    /// The pod or the Job failed, and nothing restarts it.
    Failed(String),
}

impl Rollout {
    /// Returns the rollout status of a live object, from its status alone.
    pub fn of(kind: Kind, live: &DynamicObject) -> Self {
        match kind {
            Kind::Pod => Self::of_pod(live),
            Kind::Job => Self::of_job(live),
            kind => lacking(kind, live).map_or(Self::Ready, Self::NotYet),
        }
    }

    fn of_pod(live: &DynamicObject) -> Self {
        let conditions = live.data.pointer("/status/conditions").and_then(Value::as_array);
        let ready = conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True");
        match live.data.pointer("/status/phase").and_then(Value::as_str) {
            Some("Succeeded") => Self::Ready,
            Some("Failed") => Self::Failed("the pod failed".into()),
            _ if objects::is_terminating(live) => Self::NotYet("terminating".into()),
            _ if ready => Self::Ready,
            _ => Self::NotYet("not ready".into()),
        }
    }

    fn of_job(live: &DynamicObject) -> Self {
        let number = |path: &str| live.data.pointer(path).and_then(Value::as_i64);
        let status = |field: &str| number(&format!("/status/{field}")).unwrap_or_default();
        if condition(live, "Complete").is_some() || condition(live, "Suspended").is_some() {
            return Self::Ready;
        }
        if let Some(failed) = condition(live, "Failed") {
            let message = failed["message"].as_str().unwrap_or_default();
            return Self::Failed(format!("the Job failed: {message}"));
        }
        let wanted = number("/spec/parallelism").unwrap_or(1).min(number("/spec/completions").unwrap_or(i64::MAX));
        let (running, failed) = (status("ready") + status("succeeded"), status("failed"));
        // A pod that fails is ready for a moment, too.
        if failed == 0 && running >= wanted {
            return Self::Ready;
        }
        let failures = if failed > 0 { format!(", {failed} failed") } else { String::new() };
        Self::NotYet(format!("{running} of {wanted} pods run or completed{failures}"))
    }

    /// Returns why it is not ready, if it is not.
    pub fn lacks(self) -> Option<String> {
        match self {
            Rollout::Ready => None,
            Rollout::NotYet(why) | Rollout::Failed(why) => Some(why),
        }
    }
}

/// Returns a condition of a live object, if it is true.
fn condition<'a>(live: &'a DynamicObject, of: &str) -> Option<&'a Value> {
    let conditions = live.data.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().find(|condition| condition["type"] == of && condition["status"] == "True")
}

/// Returns why the controller cannot create pods, from its status. Only Deployments and ReplicaSets report it there.
fn not_created(live: &DynamicObject) -> Option<String> {
    condition(live, "ReplicaFailure")?["message"].as_str().map(str::to_owned)
}

/// Returns the time of an event: its last one, if it was repeated.
fn time_of(event: &Event) -> Option<Timestamp> {
    event.last_timestamp.as_ref().map(|time| time.0).or(event.event_time.as_ref().map(|time| time.0))
}

/// Returns the message of the latest of a controller's events about creating pods, if that failed.
fn last_failed_creation(mut events: Vec<Event>) -> Option<String> {
    let about = |event: &Event| matches!(event.reason.as_deref(), Some("FailedCreate" | "SuccessfulCreate"));
    events.retain(about);
    events.sort_by_key(time_of);
    let last = events.pop().filter(|event| event.reason.as_deref() == Some("FailedCreate"))?;
    last.message
}

/// Returns why a controller's pods are not ready, if the reason is known: that of its pods, or what refuses new ones, such as a
/// ResourceQuota or the namespace's PodSecurity level.
async fn blocked(client: &Client, workload: &Workload, live: &DynamicObject) -> String {
    let pods = workload.pods(client, live).await.unwrap_or_default();
    let reasons = pods::blocked(&pods);
    // A pod that waits explains more than one that is missing.
    if !reasons.is_empty() {
        return reasons;
    }
    match workload.kind {
        Kind::Pod => return reasons,
        Kind::Deployment | Kind::ReplicaSet => return not_created(live).unwrap_or_default(),
        // They report it in events only.
        Kind::StatefulSet | Kind::DaemonSet | Kind::Job => {}
    }
    let api: Api<Event> = Api::namespaced(client.clone(), &workload.namespace);
    let fields = format!("involvedObject.uid={}", live.uid().unwrap_or_default());
    let events = api.list(&ListParams::default().fields(&fields)).await.map(|events| events.items);
    last_failed_creation(events.unwrap_or_default()).unwrap_or_default()
}

/// Returns why the pods of a controller are not ready, if they are not.
fn lacking(kind: Kind, live: &DynamicObject) -> Option<String> {
    let number = |path: &str| live.data.pointer(path).and_then(Value::as_i64);
    let status = |field: &str| number(&format!("/status/{field}")).unwrap_or_default();
    if status("observedGeneration") < live.metadata.generation.unwrap_or_default() {
        return Some("newest revision not observed yet".into());
    }
    let wanted = match kind {
        Kind::DaemonSet => status("desiredNumberScheduled"),
        _ => number("/spec/replicas").unwrap_or(1),
    };
    let (ready, updated, all) = match kind {
        Kind::DaemonSet => (status("numberReady"), status("updatedNumberScheduled"), wanted),
        Kind::ReplicaSet => (status("readyReplicas"), wanted, status("replicas")),
        _ => (status("readyReplicas"), status("updatedReplicas"), status("replicas")),
    };
    if ready < wanted || updated < wanted {
        Some(format!("{} of {wanted} ready", ready.min(updated)))
    } else if all > wanted {
        Some(format!("{} of an older revision terminating", all - wanted))
    } else {
        None
    }
}

/// The words of a refusal by the namespace's PodSecurity level, which lasts until somebody changes the level or the pods.
const FORBIDDEN: &str = "violates PodSecurity";

/// Whether the namespace has refused pods of a workload since a time. What the workload's status says may be older: its controller
/// may try again only after minutes.
async fn refused_since(client: &Client, workload: &Workload, since: Timestamp) -> bool {
    let api: Api<Event> = Api::namespaced(client.clone(), &workload.namespace);
    let events = api.list(&ListParams::default().fields("reason=FailedCreate")).await;
    events.is_ok_and(|events| events.items.iter().any(|event| is_refusal(event, &workload.name, since)))
}

/// Whether an event is about a refusal of pods of a workload, or of its ReplicaSet, since a time.
fn is_refusal(event: &Event, workload: &str, since: Timestamp) -> bool {
    let about = event.involved_object.name.as_deref().and_then(|name| name.strip_prefix(workload));
    let is_about = about.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
    let says = event.message.as_deref().is_some_and(|message| message.contains(FORBIDDEN));
    is_about && says && time_of(event).is_some_and(|time| time >= since)
}

/// Waits until the pods of a workload's newest revision are ready. `record` is that of the cluster.
///
/// # Errors
/// If they are not ready by the deadline or never will be: a pod has failed, the namespace refuses the pods, or the workload does not exist.
pub async fn wait(
    client: &Client,
    workload: &Workload,
    record: &Record,
    step: &Step,
    deadline: Instant,
) -> anyhow::Result<()> {
    let what = format!("{} to be ready", workload.called);
    let mut retries = Retries::new(record);
    let started = Timestamp::now();
    wait::until(step, &what, deadline, async || {
        let live = match workload.get(client).await {
            Ok(Some(live)) => live,
            Ok(None) => return retries.absent(&what, "not found".into()),
            Err(error) => return retries.failed(&what, error),
        };
        let rollout = Rollout::of(workload.kind, &live);
        if rollout == Rollout::Ready {
            return Ok(Poll::Ready(()));
        }
        let pods = blocked(client, workload, &live).await;
        if pods.contains(FORBIDDEN) && refused_since(client, workload, started).await {
            let error = Error::environment(format!("wait for {what}: the namespace refuses the pods"));
            return Err(error.evidence(pods).into());
        }
        let with_pods = |why: String| if pods.is_empty() { why } else { format!("{why}: {pods}") };
        match rollout {
            Rollout::Failed(why) => Err(Error::environment(format!("wait for {what}: {}", with_pods(why))).into()),
            Rollout::NotYet(why) => Ok(Poll::NotYet(with_pods(why))),
            Rollout::Ready => Ok(Poll::Ready(())),
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::mesh::apply;
    use serde_json::json;

    fn live(kind: Kind, spec: Value, status: Value) -> DynamicObject {
        apply::object(json!({"apiVersion": kind.api_version(), "kind": kind.as_str(),
            "metadata": {"name": "x", "generation": 2}, "spec": spec, "status": status}))
        .unwrap()
    }

    fn lacks(kind: Kind, spec: Value, status: Value) -> Option<String> {
        Rollout::of(kind, &live(kind, spec, status)).lacks()
    }

    #[test]
    fn deployment_readiness_follows_its_status() {
        let lacks = |status: &Value| lacks(Kind::Deployment, json!({"replicas": 2}), status.clone());
        let ready = json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2});
        assert_eq!(lacks(&ready), None);
        let mut of_old = ready.clone();
        of_old["observedGeneration"] = json!(1);
        assert!(lacks(&of_old).is_some());
        let mut half = ready.clone();
        half["readyReplicas"] = json!(1);
        assert_eq!(lacks(&half).as_deref(), Some("1 of 2 ready"));
        let mut rolling = ready;
        rolling["replicas"] = json!(3);
        assert!(lacks(&rolling).is_some());
    }

    #[test]
    fn rollout_status_of_each_kind() {
        let set = json!({"observedGeneration": 2, "replicas": 2, "readyReplicas": 2, "updatedReplicas": 1});
        assert_eq!(lacks(Kind::StatefulSet, json!({"replicas": 2}), set).as_deref(), Some("1 of 2 ready"));
        let daemon = json!({"observedGeneration": 2, "desiredNumberScheduled": 1, "numberReady": 1,
            "updatedNumberScheduled": 1});
        assert_eq!(lacks(Kind::DaemonSet, json!({}), daemon), None);
        assert!(lacks(Kind::DaemonSet, json!({}), json!({})).is_some());
        let replicas = json!({"observedGeneration": 2, "replicas": 1, "readyReplicas": 1});
        assert_eq!(lacks(Kind::ReplicaSet, json!({}), replicas), None);
        // A workload scaled to zero is ready.
        assert_eq!(lacks(Kind::Deployment, json!({"replicas": 0}), json!({"observedGeneration": 2})), None);
    }

    #[test]
    fn pods_are_done_when_ready_or_succeeded_and_failed_pods_end_the_wait() {
        let of = |status: Value| Rollout::of(Kind::Pod, &live(Kind::Pod, json!({}), status));
        assert_eq!(of(json!({"conditions": [{"type": "Ready", "status": "True"}]})), Rollout::Ready);
        let done = json!({"phase": "Succeeded", "conditions": [{"type": "Ready", "status": "False"}]});
        assert_eq!(of(done), Rollout::Ready);
        assert!(matches!(of(json!({"phase": "Failed"})), Rollout::Failed(_)));
        assert!(matches!(of(json!({"phase": "Pending"})), Rollout::NotYet(_)));
        let mut ready = live(Kind::Pod, json!({}), json!({"conditions": [{"type": "Ready", "status": "True"}]}));
        ready.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-02T03:04:05Z")).unwrap();
        assert_eq!(Rollout::of(Kind::Pod, &ready), Rollout::NotYet("terminating".into()));
    }

    #[test]
    fn jobs_are_done_when_complete_or_running_and_failed_jobs_end_the_wait() {
        let of = |status: Value| Rollout::of(Kind::Job, &live(Kind::Job, json!({"completions": 1}), status));
        let condition =
            |of: &str| json!({"type": of, "status": "True", "message": "has reached the backoff limit"});
        assert_eq!(of(json!({"conditions": [condition("Complete")]})), Rollout::Ready);
        assert_eq!(of(json!({"active": 1, "ready": 1})), Rollout::Ready);
        assert_eq!(of(json!({"active": 1})), Rollout::NotYet("0 of 1 pods run or completed".into()));
        let again = Rollout::NotYet("1 of 1 pods run or completed, 2 failed".into());
        assert_eq!(of(json!({"active": 1, "ready": 1, "failed": 2})), again);
        let failed = Rollout::Failed("the Job failed: has reached the backoff limit".into());
        assert_eq!(of(json!({"conditions": [condition("Failed")]})), failed);
    }

    #[test]
    fn what_refuses_pods_is_read_from_status_and_events() {
        let refused = "pods \"web-\" is forbidden: violates PodSecurity \"restricted:latest\"";
        let status = json!({"conditions": [{"type": "ReplicaFailure", "status": "True", "message": refused}]});
        assert_eq!(not_created(&live(Kind::Deployment, json!({}), status)).as_deref(), Some(refused));
        let event = |reason: &str, at: &str| -> Event {
            serde_json::from_value(json!({"metadata": {}, "involvedObject": {}, "reason": reason,
                "message": format!("{reason} {at}"), "lastTimestamp": format!("2026-01-02T03:04:{at}Z")}))
            .unwrap()
        };
        let events = || vec![event("FailedCreate", "09"), event("SuccessfulCreate", "05"), event("Other", "10")];
        assert_eq!(last_failed_creation(events()).as_deref(), Some("FailedCreate 09"));
        let mut later = events();
        later.push(event("SuccessfulCreate", "11"));
        assert_eq!(last_failed_creation(later), None);
    }

    #[test]
    fn only_refusals_since_the_beginning_end_the_wait() {
        let refused = |name: &str, at: &str, message: &str| -> bool {
            let event = json!({"metadata": {}, "involvedObject": {"name": name}, "reason": "FailedCreate",
                "message": message, "lastTimestamp": at});
            let event: Event = serde_json::from_value(event).unwrap();
            is_refusal(&event, "web", "2026-01-02T03:04:05Z".parse().unwrap())
        };
        let says = "pods \"web-\" is forbidden: violates PodSecurity \"restricted:latest\"";
        let (before, after) = ("2026-01-02T03:04:04Z", "2026-01-02T03:04:06Z");
        assert!(refused("web-7f76", after, says) && refused("web", after, says));
        assert!(!refused("web-7f76", before, says));
        assert!(!refused("website-7f76", after, says));
        assert!(!refused("web-7f76", after, "exceeded quota"));
    }

    #[test]
    fn wait_names_the_workload_kind() {
        let object = |kind: &str| {
            apply::object(
                json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "x", "namespace": "n"}}),
            )
        };
        let of_others =
            json!({"apiVersion": "apps.kruise.io/v1beta1", "kind": "StatefulSet", "metadata": {"name": "x"}});
        assert_eq!(Workload::of(&apply::object(of_others).unwrap()), None);
        assert_eq!(Workload::of(&object("StatefulSet").unwrap()).unwrap().called, "StatefulSet x");
        assert_eq!(Workload::of(&object("CronJob").unwrap()), None);
        assert_eq!(Workload::deployment("istio-system", "istiod").called, "istiod");
    }
}
