//! What pods say: the logs of their containers, istiod's debug pages, the proxies' configuration.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, LogParams};
use kube::{Client, ResourceExt};

use super::Part;
use crate::cluster::mesh::{ISTIO_NAMESPACE, debug};

/// How much of a log is kept, in lines.
const LOG_LINES: i64 = 2000;

/// istiod's pages: clusters, networks, what proxies have acknowledged, endpoints, services, configuration.
const ISTIOD: [&str; 8] =
    ["clusterz", "networkz", "syncz", "endpointz", "registryz", "configz", "mesh", "push_status"];
/// The proxies' pages, with the ends of their file names.
const PROXY: [(&str, &str); 4] =
    [("config_dump", "json"), ("clusters", "txt"), ("certs", "json"), ("stats", "txt")];

/// A pod's files.
pub(super) fn parts<'a>(cluster: &str, client: &'a Client, pod: &Pod) -> Vec<Part<'a>> {
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    let folder = format!("clusters/{cluster}/pods/{namespace}/{name}");
    let mut parts = Vec::new();
    for (container, ran, again) in containers(pod) {
        if ran {
            parts.push(log(client, &folder, &namespace, &name, &container, false));
        }
        if again {
            parts.push(log(client, &folder, &namespace, &name, &container, true));
        }
        let running = debug::is_running(pod, &container);
        if container == "istio-proxy" && running {
            for (page, end) in PROXY {
                let (namespace, name) = (namespace.clone(), name.clone());
                parts.push(Part::new(format!("{folder}/{page}.{end}"), async move {
                    let command = ["pilot-agent", "request", "GET", page];
                    debug::exec(client, &namespace, &name, "istio-proxy", &command).await
                }));
            }
        }
        if container == "discovery" && namespace == ISTIO_NAMESPACE && running {
            for page in ISTIOD {
                let name = name.clone();
                parts.push(Part::new(format!("{folder}/debug-{page}.json"), async move {
                    let command = ["pilot-discovery", "request", "GET", &format!("/debug/{page}")];
                    debug::exec(client, ISTIO_NAMESPACE, &name, "discovery", &command).await
                }));
            }
        }
    }
    parts
}

/// A pod's containers: the name, whether it ever ran, and whether it was started more than once.
fn containers(pod: &Pod) -> Vec<(String, bool, bool)> {
    let Some(status) = &pod.status else { return Vec::new() };
    let all = status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    all.map(|container| {
        let waits = container.state.as_ref().is_some_and(|state| state.waiting.is_some());
        let again = container.restart_count > 0;
        (container.name.clone(), !waits || again, again)
    })
    .collect()
}

fn log<'a>(
    client: &'a Client,
    folder: &str,
    namespace: &str,
    pod: &str,
    container: &str,
    previous: bool,
) -> Part<'a> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let parameters = LogParams {
        container: Some(container.to_owned()),
        tail_lines: Some(LOG_LINES),
        timestamps: true,
        previous,
        ..LogParams::default()
    };
    let path = format!("{folder}/{container}{}.log", if previous { ".previous" } else { "" });
    let pod = pod.to_owned();
    Part::new(path, async move { Ok(api.logs(&pod, &parameters).await?) })
}
