//! Reads the facts in Kubernetes objects.

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{Container, Pod, Service};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::facts::{self, Caller, Port};
use crate::cluster::mesh::envoy;
use crate::cluster::pods;

pub(super) fn caller(pod: &Pod) -> Caller {
    let spec = pod.spec.as_ref();
    Caller {
        pod: pod.name_any(),
        account: spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_default(),
        node: spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
        labels: pod.labels().clone(),
        address: address(pod),
        meshed: pods::has_container(pod, envoy::CONTAINER),
        ready: pods::is_ready(pod),
        captures_dns: captures_dns(pod),
    }
}

/// Whether a pod's proxy answers its DNS queries.
fn captures_dns(pod: &Pod) -> bool {
    const CAPTURE: &str = "ISTIO_META_DNS_CAPTURE";
    let containers =
        pod.spec.iter().flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    let is_proxy = |container: &&Container| container.name == envoy::CONTAINER;
    let variables = containers.filter(is_proxy).flat_map(|container| container.env.iter().flatten());
    variables.into_iter().any(|variable| variable.name == CAPTURE && variable.value.as_deref() == Some("true"))
}

fn address(pod: &Pod) -> Option<Ipv4Addr> {
    pod.status.as_ref().and_then(|status| status.pod_ip.as_ref()?.parse().ok())
}

pub(super) fn pod(pod: &Pod) -> facts::Pod {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    let ports = ports.filter_map(|port| {
        Some((port.name.clone().unwrap_or_default(), u16::try_from(port.container_port).ok()?))
    });
    facts::Pod {
        name: pod.name_any(),
        ready: pods::is_ready(pod),
        why: pods::state(pod).join("; "),
        meshed: pods::has_container(pod, envoy::CONTAINER),
        labels: pod.labels().clone(),
        address: address(pod),
        ports: ports.collect(),
    }
}

pub(super) fn service(service: &Service) -> facts::Service {
    let spec = service.spec.clone().unwrap_or_default();
    let ports = spec.ports.unwrap_or_default().into_iter().map(|port| {
        let number = u16::try_from(port.port).unwrap_or_default();
        Port {
            name: port.name.unwrap_or_default(),
            number,
            target: match port.target_port {
                Some(IntOrString::Int(target)) => target.to_string(),
                Some(IntOrString::String(target)) => target,
                None => number.to_string(),
            },
            protocol: port.app_protocol,
        }
    });
    facts::Service {
        export_to: service.annotations().get("networking.istio.io/exportTo").cloned(),
        ports: ports.collect(),
        selector: spec.selector.unwrap_or_default(),
        headless: spec.cluster_ip.as_deref() == Some("None"),
        node_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
        cluster_ip: spec.cluster_ip.as_ref().and_then(|address| address.parse().ok()),
        external_name: spec.external_name.filter(|_| spec.type_.as_deref() == Some("ExternalName")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn caller_captures_dns_if_its_proxy_does() {
        let pod = |value: &str, name: &str| -> Pod {
            serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": {"containers": [], "initContainers":
                [{"name": name, "env": [{"name": "ISTIO_META_DNS_CAPTURE", "value": value}]}]}}))
            .unwrap()
        };
        assert!(caller(&pod("true", "istio-proxy")).captures_dns);
        assert!(!caller(&pod("false", "istio-proxy")).captures_dns);
        assert!(!caller(&pod("true", "app")).captures_dns);
    }

    #[test]
    fn headless_service_has_no_cluster_ip() {
        let read = |address: &str| {
            let spec = json!({"clusterIP": address, "ports": [{"port": 80, "targetPort": "web"}, {"port": 81}]});
            service(&serde_json::from_value(json!({"spec": spec})).unwrap())
        };
        assert!(read("None").headless && read("None").cluster_ip.is_none());
        assert_eq!(read("10.96.0.1").cluster_ip, Some([10, 96, 0, 1].into()));
        let targets: Vec<_> = read("None").ports.into_iter().map(|port| port.target).collect();
        assert_eq!(targets, ["web", "81"]);
    }
}
