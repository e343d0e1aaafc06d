//! Ports that do not exist.

use std::collections::BTreeSet;

use serde_json::Value;

use super::routes::destinations;
use crate::lifecycle::deploy::place::pod_spec;
use crate::lifecycle::lint::mesh::{Mesh, Source, list, named};
use crate::lifecycle::lint::rule::{Finding, Rule, Severity};

pub(super) static RULE: Rule = Rule {
    id: "undeclared-port",
    summary: "A port that the Service or the containers do not declare",
    reason: "A route to a port that the Service does not have fails with 503, and a Service whose targetPort is a name that no \
        container declares has no endpoints on that port.",
    severity: Severity::Error,
};

pub(super) fn find(mesh: Mesh) -> Vec<Finding> {
    let mut found = Vec::new();
    for (number, service) in mesh.of_istio("VirtualService") {
        for destination in destinations(service) {
            let Some(host) = destination.host() else { continue };
            let port = &destination.value["port"]["number"];
            found
                .extend(absent(mesh, service, host, port).map(|(what, fix)| {
                    RULE.found(number, format!("{}.port.number", destination.path), what, fix)
                }));
        }
    }
    for (number, rule) in mesh.of_istio("DestinationRule") {
        let Some(host) = rule.spec()["host"].as_str() else { continue };
        for (index, setting) in list(&rule.spec()["trafficPolicy"]["portLevelSettings"]).iter().enumerate() {
            let path = format!("spec.trafficPolicy.portLevelSettings[{index}].port.number");
            let absent = absent(mesh, rule, host, &setting["port"]["number"]);
            // The other settings still apply.
            found.extend(absent.map(|(what, fix)| RULE.found(number, path, what, fix).with(Severity::Warning)));
        }
    }
    found.extend(mesh.of("Service").flat_map(|(number, service)| unnamed(mesh, number, service)));
    found
}

/// Returns what is wrong with a port of a host, and the fix, if none of its Services has the port.
fn absent(mesh: Mesh, from: &Source, host: &str, port: &Value) -> Option<(String, String)> {
    let port = port.as_u64()?;
    let services = mesh.services_of(host, from);
    let ports: BTreeSet<u64> = services
        .iter()
        .flat_map(|service| service.list("ports"))
        .filter_map(|port| port["port"].as_u64())
        .collect();
    // An ExternalName, or a headless Service without ports, has none to compare with.
    if ports.is_empty() || ports.contains(&port) {
        return None;
    }
    let known: Vec<String> = ports.iter().map(u64::to_string).collect();
    let what = format!("Service {} has no port {port}", services.first()?.name());
    Some((
        what,
        format!(
            "use one of its ports: {}; a route names the Service's port, not that of the pods",
            known.join(", ")
        ),
    ))
}

/// Finds ports whose target is a name that no container of the selected pods declares.
fn unnamed(mesh: Mesh, number: usize, service: &Source) -> Vec<Finding> {
    let pods = mesh.behind(&[service]);
    if pods.is_empty() {
        return Vec::new();
    }
    let declared: BTreeSet<String> = pods.iter().flat_map(|workload| declared(workload)).collect();
    let judge = |(index, port): (usize, &Value)| {
        let target = port["targetPort"].as_str().filter(|target| target.parse::<u16>().is_err())?;
        if declared.contains(target) {
            return None;
        }
        let known: Vec<&str> = declared.iter().map(String::as_str).collect();
        let fix = match known.is_empty() {
            true => "give a container's port this name, or use its number".to_owned(),
            false => format!("use one that they declare: {}; or a number", known.join(", ")),
        };
        Some(RULE.found(
            number,
            format!("spec.ports[{index}].targetPort"),
            format!("no container of {} declares a port named {target}", named(&pods)),
            fix,
        ))
    };
    service.list("ports").iter().enumerate().filter_map(judge).collect()
}

/// Returns the names of the ports that the containers of a workload declare.
fn declared(workload: &Source) -> Vec<String> {
    let Some(path) = pod_spec(&workload.object) else { return Vec::new() };
    let containers = ["containers", "initContainers"].into_iter();
    let containers = containers.filter_map(|kind| workload.object.data.pointer(&format!("{path}/{kind}")));
    let ports = containers.flat_map(list).flat_map(|container| list(&container["ports"]));
    ports.filter_map(|port| port["name"].as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::lint::testing::{ORDERS, found, routes, rule};

    #[test]
    fn route_to_a_port_that_the_service_lacks_is_found() {
        let to = |port: u16| {
            let route =
                format!("http: [{{route: [{{destination: {{host: orders, port: {{number: {port}}}}}}}]}}]");
            found(&format!("{ORDERS}---\n{}", routes(&route)), find)
        };
        assert_eq!(to(80)[0].what, "Service orders has no port 80");
        assert!(to(80)[0].fix.starts_with("use one of its ports: 8080"));
        assert_eq!(to(8080), []);
    }

    #[test]
    fn setting_for_a_port_that_the_service_lacks_is_found() {
        let of = |port: u16| {
            let setting = format!("trafficPolicy: {{portLevelSettings: [{{port: {{number: {port}}}}}]}}");
            found(&format!("{ORDERS}---\n{}", rule(&setting)), find)
        };
        assert_eq!((of(80)[0].severity, of(80).len()), (Severity::Warning, 1));
        assert_eq!(of(8080), []);
        // The Service is not in the manifests.
        assert_eq!(found(&rule("trafficPolicy: {portLevelSettings: [{port: {number: 80}}]}"), find), []);
    }

    #[test]
    fn target_port_that_no_container_declares_is_found() {
        let with = |target: &str| {
            let orders = ORDERS.replace("port: 8080}]}}", &format!("port: 8080, targetPort: {target}}}]}}}}"));
            assert_ne!(orders, ORDERS);
            found(&orders, find)
        };
        let found = with("web");
        assert_eq!(found[0].what, "no container of Deployment orders declares a port named web");
        assert_eq!(found[0].fix, "use one that they declare: http; or a number");
        for clean in ["http", "9999", "\"9999\""] {
            assert_eq!(with(clean), [], "{clean}");
        }
    }
}
