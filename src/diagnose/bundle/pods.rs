//! The output of pods: container logs, istiod's debug pages, the configuration of proxies.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::{Api, LogParams};
use kube::{Client, ResourceExt};

use super::Part;
use crate::cluster::mesh::{ISTIO_NAMESPACE, envoy, istiod};
use crate::cluster::pods;

/// The number of lines kept of a log.
const LOG_LINES: i64 = 2000;

/// Returns a pod's files.
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
        let running = pods::is_running(pod, &container);
        if container == envoy::CONTAINER && running {
            for (page, end) in envoy::PAGES {
                let (namespace, name) = (namespace.clone(), name.clone());
                parts.push(Part::new(format!("{folder}/{page}.{end}"), async move {
                    envoy::page(client, &namespace, &name, page).await
                }));
            }
        }
        if container == istiod::CONTAINER && namespace == ISTIO_NAMESPACE && running {
            for page in istiod::PAGES {
                let name = name.clone();
                parts.push(Part::new(format!("{folder}/debug-{page}.json"), async move {
                    istiod::page(client, &name, page).await
                }));
            }
        }
    }
    parts
}

/// Returns a pod's containers: the name, whether it ever ran, and whether it has restarted.
fn containers(pod: &Pod) -> Vec<(String, bool, bool)> {
    let of = |container: &ContainerStatus| {
        let waits = container.state.as_ref().is_some_and(|state| state.waiting.is_some());
        let again = container.restart_count > 0;
        (container.name.clone(), !waits || again, again)
    };
    pods::containers(pod).map(of).collect()
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
