//! HTTP routes for ports that are declared as something else.

use serde_json::Value;

use super::routes::is_for_workloads;
use crate::diagnose::why::declares_bytes;
use crate::lifecycle::lint::mesh::{Mesh, Source, list};
use crate::lifecycle::lint::rule::{Finding, Rule, Severity};

pub(super) static RULE: Rule = Rule {
    id: "http-route-on-tcp-port",
    summary: "HTTP routes for a Service whose ports are declared as TCP or TLS",
    reason: "The name of a port, up to the first dash, or its appProtocol declares its protocol. Proxies forward connections to \
        ports for TCP and TLS as they are: timeouts, retries, faults and HTTP routes do not apply.",
    severity: Severity::Error,
};

pub(super) fn find(mesh: Mesh) -> Vec<Finding> {
    mesh.of_istio("VirtualService").filter_map(|(number, service)| judge(mesh, number, service)).collect()
}

fn judge(mesh: Mesh, number: usize, service: &Source) -> Option<Finding> {
    if service.list("http").is_empty() || !is_for_workloads(service) {
        return None;
    }
    let hosts = service.list("hosts").iter().filter_map(Value::as_str);
    let services: Vec<&Source> = hosts.clone().flat_map(|host| mesh.services_of(host, service)).collect();
    let all_known = hosts.clone().all(|host| !mesh.services_of(host, service).is_empty());
    let ports: Vec<&Value> = services.iter().flat_map(|service| list(&service.spec()["ports"])).collect();
    if !all_known || ports.is_empty() || !ports.iter().all(|port| is_bytes(port)) {
        return None;
    }
    let of = services.first()?;
    let declared: Vec<&str> =
        ports.iter().filter_map(|port| port["appProtocol"].as_str().or(port["name"].as_str())).collect();
    Some(RULE.found(
        number,
        "spec.http",
        format!("the routes for HTTP never apply: Service {} declares {}", of.name(), declared.join(", ")),
        format!("if the port speaks HTTP, set appProtocol: http in Service {}, or begin the name of its port with http", of.name()),
    ))
}

fn is_bytes(port: &Value) -> bool {
    let number = port["port"].as_u64().and_then(|number| u16::try_from(number).ok()).unwrap_or_default();
    declares_bytes(port["name"].as_str().unwrap_or_default(), port["appProtocol"].as_str(), number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::lint::testing::{ORDERS, found, routes};

    fn with(port: &str, fields: &str) -> Vec<Finding> {
        let orders = ORDERS.replacen("name: http, port: 8080", port, 1);
        found(&format!("{orders}---\n{}", routes(fields)), find)
    }

    #[test]
    fn http_routes_for_a_tcp_port_are_found() {
        let timeout = "http: [{timeout: 5s}]";
        assert_eq!(
            with("name: tcp-web, port: 8080", timeout)[0].what,
            "the routes for HTTP never apply: Service orders declares tcp-web"
        );
        assert_eq!(with("name: http, appProtocol: tcp, port: 8080", timeout).len(), 1);
    }

    #[test]
    fn http_routes_for_other_ports_are_clean() {
        let timeout = "http: [{timeout: 5s}]";
        for port in ["name: http, port: 8080", "name: web, port: 8080", "port: 80}, {name: tcp, port: 90"] {
            assert_eq!(with(port, timeout), [], "{port}");
        }
        assert_eq!(with("name: tcp, port: 8080", "tcp: [{}]"), []);
        assert_eq!(with("name: tcp, port: 8080", "gateways: [ingress], http: [{timeout: 5s}]"), []);
    }
}
