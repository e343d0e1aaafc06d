//! Gathers evidence after a failure. Each request is limited in time and lines. Evidence that is not available is
//! omitted: its error must not hide the original one.

use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Namespace, Node, Pod};
use kube::api::{Api, DynamicObject, ListParams, LogParams};
use kube::{Client, ResourceExt};
use serde_json::Value;

use super::{Evidence, Section, Source, diagnose, rules};
use crate::base::names::CALLER_NAME;
use crate::cluster::link;
use crate::cluster::mesh::{ISTIO_NAMESPACE, envoy, istiod};
use crate::cluster::pods::{self, containers, is_ready};
use crate::cluster::rollout::{Kind, Workload};
use crate::host::docker::{Engine, node};
use crate::plan::Plan;

/// The timeout of a request. Requests run in parallel.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// The number of lines read from the end of a log or journal.
const LINES: i64 = 60;
/// The maximum number of pods inspected per workload.
const PODS: usize = 3;
/// How often a node is inspected while kind creates it, which takes half a minute.
const INSPECTION_INTERVAL: Duration = Duration::from_secs(10);

async fn within<T>(look: impl Future<Output = Option<T>>) -> Option<T> {
    tokio::time::timeout(REQUEST_TIMEOUT, look).await.ok().flatten()
}

/// Gathers why a workload is not ready: its conditions, its pods' states, events, and logs of failed
/// containers.
pub async fn workload(client: &Client, workload: &Workload) -> Evidence {
    let (kind, name) = (workload.kind.as_str(), workload.name.as_str());
    let namespace = workload.namespace.as_str();
    let mut evidence = Evidence::default();
    let live = async {
        let live = workload.get(client).await.ok()??;
        let pods = workload.pods(client, &live).await.unwrap_or_default();
        Some((live, pods))
    };
    let (live, events) = futures::join!(within(live), within(events(client, namespace)));
    let (live, mut pods) = live.map_or((None, Vec::new()), |(live, pods)| (Some(live), pods));
    pods.retain(|pod| !is_ready(pod));
    pods.truncate(PODS);
    if let Some(live) = live.filter(|_| workload.kind != Kind::Pod) {
        evidence.add(Section::new(Source::State, format!("{kind} {name}"), wrong_conditions(&live)));
    }
    for pod in &pods {
        evidence.add(Section::new(Source::State, format!("pod {}", pod.name_any()), pods::state(pod)));
    }
    let mut told: Vec<String> = events
        .unwrap_or_default()
        .iter()
        .filter(|event| {
            pods.iter().any(|pod| is_current(event, pod)) || pods.is_empty() && is_creation(event, kind, name)
        })
        .map(|event| {
            let (reason, message) = (event.reason.as_deref(), event.message.as_deref());
            format!("{}: {}", reason.unwrap_or_default(), message.unwrap_or_default().trim())
        })
        .collect();
    told.dedup();
    evidence.add(Section::new(Source::Event, format!("events of {name}"), told));
    let logs = pods.iter().flat_map(|pod| troubled(pod).map(move |(container, again)| (pod, container, again)));
    let logs = join_all(logs.map(|(pod, container, again)| {
        within(async move { log(client, namespace, &pod.name_any(), &container, again).await })
    }))
    .await;
    for section in logs.into_iter().flatten() {
        evidence.add(section);
    }
    evidence
}

/// Gathers the state of a node: its container, the container's output, and the kubelet's journal.
pub async fn node(engine: &Engine, name: &str) -> Evidence {
    let mut evidence = Evidence::default();
    let state = async {
        let found = engine.docker.inspect_container(name, None).await.ok()?;
        let state = found.state?;
        let status = state.status.map(|status| status.to_string()).unwrap_or_default();
        let mut lines = vec![format!("{name} is {status}, exit status {}", state.exit_code.unwrap_or_default())];
        if state.oom_killed == Some(true) {
            lines.push("OOMKilled".into());
        }
        Some(lines)
    };
    let journal = async { journal(engine, name, &["kubelet"]).await };
    // Its last run may be over, and then only its log says why.
    let api_server = async {
        let tail = "tail -q -n 5 /var/log/pods/kube-system_kube-apiserver-*/kube-apiserver/*.log";
        let said = node::try_exec(engine, name, &["sh", "-c", tail]).await.ok()?;
        (said.status == 0).then(|| said.stdout.lines().map(str::to_owned).collect::<Vec<_>>())
    };
    let (state, journal, api_server, wrote) = futures::join!(
        within(state),
        within(journal),
        within(api_server),
        within(async { Some(node::log(engine, name, 20).await) })
    );
    let of_api_server = format!("API server on {name}");
    evidence.add(Section::new(Source::Node, of_api_server, api_server.unwrap_or_default()));
    evidence.add(Section::new(Source::State, format!("node {name}"), state.unwrap_or_default()));
    evidence.add(Section::new(Source::Node, format!("kubelet on {name}"), journal.unwrap_or_default()));
    evidence.add(Section::new(Source::Node, format!("docker logs {name}"), wrote.unwrap_or_default()));
    evidence
}

/// Waits until a log of a node shows a cause for which it never becomes ready, and returns the evidence.
pub async fn hopeless(engine: &Engine, name: &str) -> Evidence {
    loop {
        tokio::time::sleep(INSPECTION_INTERVAL).await;
        let evidence = node(engine, name).await;
        if diagnose(&evidence).is_some_and(|cause| rules::NEVER_PASS.contains(&cause.id)) {
            return evidence;
        }
    }
}

/// Like [`node`], for a node whose API server responds: adds the node's conditions and the state of kube-proxy.
pub async fn node_in_cluster(engine: &Engine, name: &str, client: &Client) -> Evidence {
    let proxies = async {
        let pods = pods::list(client, "kube-system", "k8s-app=kube-proxy").await.ok()?;
        let pod = pods.iter().find(|pod| !is_ready(pod)).or(pods.first())?;
        let mut sections = vec![Section::new(Source::State, format!("pod {}", pod.name_any()), pods::state(pod))];
        let again = restarted(pod);
        sections.extend(log(client, "kube-system", &pod.name_any(), "kube-proxy", again).await);
        Some(sections)
    };
    let conditions = async {
        let api: Api<Node> = Api::all(client.clone());
        let conditions = api.get_opt(name).await.ok()??.status?.conditions?;
        let wrong = conditions.iter().filter(|c| (c.type_ == "Ready") != (c.status == "True"));
        Some(
            wrong
                .map(|c| format!("{}={} {}", c.type_, c.status, c.message.as_deref().unwrap_or_default()))
                .collect::<Vec<_>>(),
        )
    };
    let (mut evidence, proxies, conditions) =
        futures::join!(node(engine, name), within(proxies), within(conditions));
    proxies.unwrap_or_default().into_iter().for_each(|section| evidence.add(section));
    evidence.add(Section::new(
        Source::State,
        format!("conditions of node {name}"),
        conditions.unwrap_or_default(),
    ));
    evidence
}

/// Gathers istiod's errors.
pub async fn istiod(client: &Client) -> Evidence {
    let mut evidence = Evidence::default();
    let look = async {
        let pods = pods::list(client, ISTIO_NAMESPACE, istiod::SELECTOR).await.ok()?;
        let pod = pods.last()?.name_any();
        let mut section = log(client, ISTIO_NAMESPACE, &pod, istiod::CONTAINER, false).await?;
        section.of = Source::Istiod;
        section.lines.retain(|line| is_trouble(line));
        Some(section)
    };
    if let Some(section) = within(look).await {
        evidence.add(section);
    }
    evidence
}

/// Gathers why a caller's calls fail: its log and its proxy's, whether the nodes have routes to each other's pods,
/// and whether istiod treats the clusters as one network. `clusters` are all clusters of the plan that respond.
pub async fn call(
    engine: Option<&Engine>,
    plan: &Plan,
    client: &Client,
    clusters: &[(&str, &Client)],
) -> Evidence {
    let mut evidence = Evidence::default();
    let namespace = plan.samples.as_ref().map(|samples| samples.namespace.as_str()).unwrap_or_default();
    let network = |name: &str| plan.cluster(name).map(|cluster| cluster.network.as_str()).unwrap_or_default();
    let labels = join_all(
        clusters.iter().map(|(cluster, client)| within(network_label(cluster, client, network(cluster)))),
    );
    let links = join_all(plan.kind_clusters().map(|(cluster, _)| {
        within(async move { link::routes(engine?, plan, cluster).await.err().map(|error| format!("{error:#}")) })
    }));
    let logs = async {
        let pods = pods::list(client, namespace, &format!("app={CALLER_NAME}")).await.ok()?;
        let pod = pods.last()?.name_any();
        let (mut proxy, app) = futures::join!(
            log(client, namespace, &pod, envoy::CONTAINER, false),
            log(client, namespace, &pod, "app", false)
        );
        if let Some(proxy) = &mut proxy {
            proxy.of = Source::Proxy;
            proxy.lines.retain(|line| is_trouble(line) || is_failed_call(line));
        }
        Some([proxy, app].into_iter().flatten().collect::<Vec<_>>())
    };
    let (links, labels, logs, istiod) = futures::join!(links, labels, within(logs), istiod(client));
    evidence.add(Section::new(Source::State, "links", links.into_iter().flatten()));
    evidence.add(Section::new(Source::State, "networks", labels.into_iter().flatten()));
    logs.unwrap_or_default().into_iter().for_each(|section| evidence.add(section));
    evidence.sections.extend(istiod.sections);
    evidence
}

/// Returns the problem with a cluster's network label, if any.
async fn network_label(cluster: &str, client: &Client, wanted: &str) -> Option<String> {
    const LABEL: &str = "topology.istio.io/network";
    let api: Api<Namespace> = Api::all(client.clone());
    let namespace = api.get_opt(ISTIO_NAMESPACE).await.ok()??;
    match namespace.labels().get(LABEL) {
        Some(has) if has == wanted => None,
        Some(has) => {
            Some(format!("namespace {ISTIO_NAMESPACE} of {cluster} is labeled {LABEL}={has}, not {wanted}"))
        }
        None => Some(format!("namespace {ISTIO_NAMESPACE} of {cluster} has no label {LABEL}")),
    }
}

/// Returns the last lines of units in a node's journal.
pub async fn journal(engine: &Engine, name: &str, units: &[&str]) -> Option<Vec<String>> {
    let lines = LINES.to_string();
    let mut command = vec!["journalctl", "--no-pager", "--quiet", "--output", "cat", "--lines", &lines];
    units.iter().for_each(|unit| command.extend(["--unit", unit]));
    let said = node::try_exec(engine, name, &command).await.ok()?;
    (said.status == 0).then(|| said.stdout.lines().map(str::to_owned).collect())
}

/// Returns the failing conditions of a workload.
fn wrong_conditions(live: &DynamicObject) -> Vec<String> {
    let conditions = live.data.pointer("/status/conditions").and_then(Value::as_array);
    let text = |condition: &Value, field: &str| condition[field].as_str().map(str::to_owned);
    // `Available` and `Progressing` are good if true, `ReplicaFailure` if false.
    let wrong =
        conditions.into_iter().flatten().filter(|c| (c["type"] == "ReplicaFailure") == (c["status"] == "True"));
    wrong.filter_map(|c| Some(format!("{}: {}", text(c, "reason")?, text(c, "message")?))).collect()
}

/// Returns the warning events of a namespace, the latest last.
async fn events(client: &Client, namespace: &str) -> Option<Vec<Event>> {
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    let mut events = api.list(&ListParams::default()).await.ok()?.items;
    events.retain(|event| event.type_.as_deref() != Some("Normal"));
    let time = |event: &Event| {
        event.last_timestamp.as_ref().map(|time| time.0).or(event.event_time.as_ref().map(|time| time.0))
    };
    events.sort_by_key(time);
    Some(events)
}

/// Whether an event says that a workload's pods could not be created: what refuses them has no other trace.
fn is_creation(event: &Event, kind: &str, name: &str) -> bool {
    let about = &event.involved_object;
    let (of, named) = (about.kind.as_deref().unwrap_or_default(), about.name.as_deref().unwrap_or_default());
    // A Deployment's pods are created by its ReplicaSets.
    let owned = kind == "Deployment"
        && of == "ReplicaSet"
        && named.rsplit_once('-').is_some_and(|(deployment, _)| deployment == name);
    event.reason.as_deref() == Some("FailedCreate") && ((of, named) == (kind, name) || owned)
}

/// Whether an event describes a problem that the pod still has: every pod of a new cluster waited for a node or a
/// volume at first.
fn is_current(event: &Event, pod: &Pod) -> bool {
    if event.involved_object.name != pod.metadata.name {
        return false;
    }
    let waits_for_image = || {
        containers(pod).any(|container| {
            let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
            waiting.and_then(|waiting| waiting.reason.as_deref()).is_some_and(|reason| reason.contains("Image"))
        })
    };
    let message = event.message.as_deref().unwrap_or_default();
    match event.reason.as_deref() {
        Some("FailedScheduling") => containers(pod).next().is_none(),
        Some("FailedMount" | "FailedAttachVolume") => {
            containers(pod).all(|container| container.restart_count == 0)
        }
        Some("Failed" | "BackOff" | "ErrImageNeverPull") if message.contains("mage") => waits_for_image(),
        _ => true,
    }
}

/// Returns the containers that ran and failed, and whether to read the log of the previous run.
fn troubled(pod: &Pod) -> impl Iterator<Item = (String, bool)> {
    let ran = |container: &&ContainerStatus| {
        let state = container.state.as_ref();
        let running = state.is_some_and(|state| state.running.is_some() || state.terminated.is_some());
        !container.ready
            && (running || container.restart_count > 0)
            && state.and_then(|state| state.terminated.as_ref()).is_none_or(|ended| ended.exit_code != 0)
    };
    let before = |container: &ContainerStatus| {
        container.restart_count > 0 && container.state.as_ref().is_some_and(|state| state.waiting.is_some())
    };
    containers(pod)
        .filter(ran)
        .map(|container| (container.name.clone(), before(container)))
        .collect::<Vec<_>>()
        .into_iter()
}

fn restarted(pod: &Pod) -> bool {
    containers(pod).any(|container| {
        container.restart_count > 0 && container.state.as_ref().is_some_and(|state| state.waiting.is_some())
    })
}

async fn log(client: &Client, namespace: &str, pod: &str, container: &str, previous: bool) -> Option<Section> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let parameters = LogParams {
        container: Some(container.to_owned()),
        tail_lines: Some(LINES),
        previous,
        ..LogParams::default()
    };
    let text = api.logs(pod, &parameters).await.ok()?;
    let title = format!("log of {container} in {pod}{}", if previous { ", previous run" } else { "" });
    Some(Section::new(Source::Log, title, text.lines().map(str::to_owned)))
}

/// Whether a line of a proxy's access log is about a failed call: `"POST / HTTP/1.1" 503 UF …`, or the same as JSON.
fn is_failed_call(line: &str) -> bool {
    if line.starts_with('{') {
        let code = serde_json::from_str::<Value>(line).ok().and_then(|line| line["response_code"].as_u64());
        return code.is_some_and(|code| (400..600).contains(&code));
    }
    let status = line.split_once(" HTTP/").and_then(|(_, rest)| rest.split_once("\" ")).map(|(_, status)| status);
    status.is_some_and(|status| status.starts_with(['4', '5']))
}

/// Whether a line of istiod's or a proxy's log is a warning or an error: both have a column for the level.
fn is_trouble(line: &str) -> bool {
    ["\terror\t", "\twarn\t", "\twarning\t", "\tcritical\t", "\tfatal\t"].iter().any(|level| line.contains(level))
        || ["x509", "CERTIFICATE_VERIFY", "connect error"].iter().any(|word| line.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(status: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "a"}, "status": status})).unwrap()
    }

    #[test]
    fn failed_calls_in_access_logs_are_kept() {
        let call = |status: &str| {
            format!("[2026-11-24T05:00:00Z] \"POST /producer/messages HTTP/1.1\" {status} - via_upstream")
        };
        assert!(
            is_failed_call(&call("503 UF")) && is_failed_call(&call("404 NR")) && !is_failed_call(&call("200 -"))
        );
        assert!(!is_failed_call("HTTP/2 503"));
        let as_json = |status: u16| json!({"response_code": status, "response_flags": "UF"}).to_string();
        assert!(is_failed_call(&as_json(503)) && !is_failed_call(&as_json(200)) && !is_failed_call("{}"));
        assert!(
            is_trouble("2026-11-24T05:00:00Z\terror\tklog\tx")
                && !is_trouble("2026-11-24T05:00:00Z\tinfo\tads\tx")
        );
    }

    #[test]
    fn outdated_events_are_skipped() {
        let event = |reason: &str, message: &str| -> Event {
            serde_json::from_value(json!({"metadata": {}, "involvedObject": {"name": "a"}, "reason": reason,
                "message": message}))
            .unwrap()
        };
        let container = |state: Value| {
            let status = json!({"name": "app", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": state});
            pod(json!({"containerStatuses": [status]}))
        };
        let pending = pod(json!({}));
        let running = container(json!({"running": {}}));
        let pulling = container(json!({"waiting": {"reason": "ImagePullBackOff"}}));
        let scheduling = event("FailedScheduling", "0/1 nodes are available");
        assert!(is_current(&scheduling, &pending) && !is_current(&scheduling, &running));
        let pull = event("Failed", "Failed to pull image \"a:1\"");
        assert!(is_current(&pull, &pulling) && !is_current(&pull, &running));
        assert!(is_current(&event("Unhealthy", "Readiness probe failed"), &running));
        let mut other = running;
        other.metadata.name = Some("b".into());
        assert!(!is_current(&event("Unhealthy", ""), &other));
    }

    #[test]
    fn events_of_who_creates_the_pods_are_found() {
        let event = |kind: &str, name: &str, reason: &str| -> Event {
            serde_json::from_value(json!({"metadata": {}, "involvedObject": {"kind": kind, "name": name},
                "reason": reason}))
            .unwrap()
        };
        assert!(is_creation(&event("StatefulSet", "db", "FailedCreate"), "StatefulSet", "db"));
        assert!(is_creation(&event("ReplicaSet", "web-6d4cf56db6", "FailedCreate"), "Deployment", "web"));
        assert!(!is_creation(&event("ReplicaSet", "web-v2-6d4cf56db6", "FailedCreate"), "Deployment", "web"));
        assert!(!is_creation(&event("DaemonSet", "db", "FailedCreate"), "StatefulSet", "db"));
        assert!(!is_creation(&event("StatefulSet", "db", "SuccessfulCreate"), "StatefulSet", "db"));
    }

    #[test]
    fn log_of_the_failed_run_is_read() {
        let of = |state: Value, restarts: i32| {
            pod(json!({"containerStatuses": [{"name": "app", "image": "", "imageID": "", "ready": false,
                "restartCount": restarts, "state": state}]}))
        };
        let crashing = of(json!({"waiting": {"reason": "CrashLoopBackOff"}}), 2);
        assert_eq!(troubled(&crashing).collect::<Vec<_>>(), [("app".to_owned(), true)]);
        assert_eq!(troubled(&of(json!({"running": {}}), 0)).collect::<Vec<_>>(), [("app".to_owned(), false)]);
        assert_eq!(troubled(&pod(json!({}))).count(), 0);
        let ready = pod(json!({"containerStatuses": [{"name": "app", "image": "", "imageID": "", "ready": true,
            "restartCount": 0, "state": {"running": {}}}]}));
        assert_eq!(troubled(&ready).count(), 0);
    }

    #[test]
    fn workload_conditions_are_reported() {
        let condition =
            |of: &str, status: &str| json!({"type": of, "status": status, "reason": of, "message": "m"});
        let live = serde_json::from_value(json!({"metadata": {"name": "a"}, "status": {"conditions": [
            condition("Available", "False"), condition("Progressing", "True"), condition("ReplicaFailure", "True")]}}));
        assert_eq!(wrong_conditions(&live.unwrap()), ["Available: m", "ReplicaFailure: m"]);
    }
}
