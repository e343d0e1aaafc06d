//! The destinations of VirtualServices, and which hosts are the same.

use serde_json::Value;

use crate::lifecycle::lint::mesh::{Host, Source, list};

/// A destination of a VirtualService.
#[derive(Debug, Clone)]
pub(super) struct Destination<'a> {
    /// Its path in the VirtualService.
    pub path: String,
    /// The destination: `host`, `subset`, `port`.
    pub value: &'a Value,
}

impl<'a> Destination<'a> {
    pub(super) fn host(&self) -> Option<&'a str> {
        self.value["host"].as_str()
    }
}

/// Returns every destination of a VirtualService, those of mirrored calls included.
pub(super) fn destinations(service: &Source) -> Vec<Destination<'_>> {
    let mut found = Vec::new();
    for protocol in ["http", "tcp", "tls"] {
        for (index, route) in service.list(protocol).iter().enumerate() {
            let path = format!("spec.{protocol}[{index}]");
            for field in ["route", "mirrors"] {
                for (number, target) in list(&route[field]).iter().enumerate() {
                    let path = format!("{path}.{field}[{number}].destination");
                    found.push(Destination { path, value: &target["destination"] });
                }
            }
            if route["mirror"].is_object() {
                found.push(Destination { path: format!("{path}.mirror"), value: &route["mirror"] });
            }
        }
    }
    found
}

/// Whether the proxies of workloads use a VirtualService: it is not only for gateways.
pub(super) fn is_for_workloads(service: &Source) -> bool {
    let gateways = service.list("gateways");
    gateways.is_empty() || gateways.iter().any(|gateway| gateway == "mesh")
}

/// Returns the full name of a host in an object of a namespace.
pub(super) fn full(host: &str, namespace: &str) -> String {
    match Host::of(host, namespace) {
        Host::Service { name, namespace } => service_host(&name, &namespace),
        _ => host.to_owned(),
    }
}

/// Returns the full name of a Service.
pub(super) fn service_host(name: &str, namespace: &str) -> String {
    format!("{name}.{namespace}.svc.cluster.local")
}

/// Whether a DestinationRule is for a full host: by its name, or by a wildcard.
pub(super) fn is_about(rule: &Source, host: &str) -> bool {
    let Some(about) = rule.spec()["host"].as_str() else { return false };
    match about.strip_prefix('*') {
        Some(end) => host.ends_with(end),
        None => full(about, &rule.namespace()) == host,
    }
}
