//! Pods: lists them, and reports whether they are ready and why not, in the words of Kubernetes.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};

use super::objects;

/// Returns the pods of a namespace with a label, oldest first.
///
/// # Errors
/// The API server's.
pub async fn list(client: &Client, namespace: &str, selector: &str) -> kube::Result<Vec<Pod>> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let mut pods = api.list(&ListParams::default().labels(selector)).await?.items;
    pods.sort_by_key(|pod| pod.creation_timestamp().map(|time| time.0));
    Ok(pods)
}

/// Returns those that are ready.
///
/// # Errors
/// The API server's.
pub async fn ready(client: &Client, namespace: &str, selector: &str) -> kube::Result<Vec<Pod>> {
    let mut pods = list(client, namespace, selector).await?;
    pods.retain(is_ready);
    Ok(pods)
}

/// Reports whether a pod is ready and not being deleted.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    !objects::is_terminating(pod)
        && conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// Reports whether a container of a pod is running.
pub fn is_running(pod: &Pod, container: &str) -> bool {
    let found = containers(pod).find(|found| found.name == container);
    found.and_then(|found| found.state.as_ref()).is_some_and(|state| state.running.is_some())
}

/// Reports whether a pod has a container of that name, running or not.
pub fn has_container(pod: &Pod, name: &str) -> bool {
    let spec = pod.spec.as_ref();
    let init = spec.and_then(|spec| spec.init_containers.as_ref()).into_iter().flatten();
    let main = spec.map(|spec| &spec.containers).into_iter().flatten();
    init.chain(main).any(|container| container.name == name)
}

/// Returns the states of a pod's containers, init containers first.
pub fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let init = status.and_then(|status| status.init_container_statuses.as_ref());
    let main = status.and_then(|status| status.container_statuses.as_ref());
    init.into_iter().flatten().chain(main.into_iter().flatten())
}

/// The reason why a container is not ready.
enum Trouble<'a> {
    Waits { reason: &'a str, message: &'a str },
    Ended { reason: &'a str, message: &'a str, status: i32 },
    StartedAgain { times: i32 },
}

fn trouble(container: &ContainerStatus) -> Option<Trouble<'_>> {
    let state = container.state.as_ref()?;
    if let Some(waiting) = &state.waiting {
        let reason = waiting.reason.as_deref().unwrap_or_default();
        return Some(Trouble::Waits { reason, message: waiting.message.as_deref().unwrap_or_default() });
    }
    if let Some(ended) = state.terminated.as_ref().filter(|ended| ended.exit_code != 0) {
        let (reason, message) = (ended.reason.as_deref(), ended.message.as_deref());
        let (reason, message) = (reason.unwrap_or_default(), message.unwrap_or_default());
        return Some(Trouble::Ended { reason, message, status: ended.exit_code });
    }
    let again = !container.ready && container.restart_count > 0;
    again.then(|| Trouble::StartedAgain { times: container.restart_count + 1 })
}

/// Returns the scheduler's message if it has found no node for the pod.
fn unscheduled(pod: &Pod) -> Option<Option<&str>> {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let found = conditions.into_iter().flatten().find(|c| c.type_ == "PodScheduled" && c.status != "True");
    found.map(|condition| condition.message.as_deref())
}

/// Returns what a pod waits for, and every container that waits or failed. Empty if nothing is wrong.
pub fn state(pod: &Pod) -> Vec<String> {
    let Some(status) = &pod.status else { return Vec::new() };
    let mut lines = Vec::new();
    if let (Some(reason), message) = (&status.reason, status.message.as_deref().unwrap_or_default()) {
        lines.push(format!("{reason}: {message}"));
    }
    lines.extend(unscheduled(pod).flatten().map(str::to_owned));
    lines.extend(containers(pod).filter_map(container_state));
    lines
}

fn container_state(container: &ContainerStatus) -> Option<String> {
    let name = &container.name;
    Some(match trouble(container)? {
        Trouble::Waits { reason, message } => {
            let last = container.last_state.as_ref().and_then(|last| last.terminated.as_ref());
            let before = last.map(|last| {
                format!("; last run: {}, status {}", last.reason.as_deref().unwrap_or_default(), last.exit_code)
            });
            format!("{name}: {reason} {message}{}", before.unwrap_or_default())
        }
        Trouble::Ended { reason, message, status } => {
            format!("{name}: {reason} {name} exited with status {status} {message}")
        }
        Trouble::StartedAgain { times } => format!("{name} started {times} times and is not ready"),
    })
}

/// Returns the main reason why a pod is not ready, for the progress display: a container waits for something unusual or
/// failed, or the pod is not scheduled.
pub fn blocked_by(pod: &Pod) -> Option<String> {
    let container = containers(pod).find_map(|container| match trouble(container)? {
        Trouble::Waits { reason: "PodInitializing" | "ContainerCreating", .. } | Trouble::StartedAgain { .. } => {
            None
        }
        Trouble::Waits { reason, message } => {
            Some(format!("{}: {reason} {message}", container.name).trim_end().to_owned())
        }
        Trouble::Ended { status, .. } => Some(format!("{} exited with status {status}", container.name)),
    });
    container.or_else(|| Some(unscheduled(pod)?.unwrap_or("not scheduled").to_owned()))
}

/// Returns the reasons of all pods that are not ready, each once; empty if nothing is known.
pub fn blocked(pods: &[Pod]) -> String {
    let mut reasons: Vec<String> = pods.iter().filter(|pod| !is_ready(pod)).filter_map(blocked_by).collect();
    reasons.dedup();
    reasons.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(status: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "a"}, "status": status})).unwrap()
    }

    #[test]
    fn pod_status_shows_waiting_and_exited_containers() {
        let crashing =
            pod(json!({"containerStatuses": [{"name": "app", "image": "", "imageID": "", "ready": false,
            "restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s"}},
            "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]}));
        assert_eq!(state(&crashing), ["app: CrashLoopBackOff back-off 20s; last run: OOMKilled, status 137"]);
        assert_eq!(blocked_by(&crashing).as_deref(), Some("app: CrashLoopBackOff back-off 20s"));
        let pending = pod(json!({"conditions": [{"type": "PodScheduled", "status": "False",
            "message": "0/1 nodes are available"}]}));
        assert_eq!(state(&pending), ["0/1 nodes are available"]);
        assert_eq!(blocked_by(&pending).as_deref(), Some("0/1 nodes are available"));
        let fine = pod(json!({"containerStatuses": [{"name": "app", "image": "", "imageID": "", "ready": true,
            "restartCount": 0, "state": {"running": {}}}]}));
        assert_eq!((state(&fine).len(), blocked_by(&fine)), (0, None));
        assert!(is_running(&fine, "app") && !is_running(&crashing, "app"));
    }

    #[test]
    fn initial_waits_of_every_pod_are_not_a_cause() {
        let state = |state: Value| {
            json!({"name": "app", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": state})
        };
        let creating = state(json!({"waiting": {"reason": "ContainerCreating"}}));
        let ended = state(json!({"terminated": {"exitCode": 2, "reason": "Error"}}));
        let pods = [
            pod(json!({"containerStatuses": [creating, ended.clone()]})),
            pod(json!({"containerStatuses": [ended]})),
        ];
        assert_eq!(blocked(&pods), "app exited with status 2");
    }
}
