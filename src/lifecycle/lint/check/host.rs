//! Hosts that no Service has.

use super::routes::{destinations, full, is_for_workloads, service_host};
use crate::lifecycle::lint::mesh::{Host, Mesh, ROOT_NAMESPACE, Source};
use crate::lifecycle::lint::rule::{Finding, Rule, Severity};

pub(super) static RULE: Rule = Rule {
    id: "host-without-service",
    summary: "A host of a VirtualService or DestinationRule that no Service has",
    reason: "Istio completes only names without a dot, and with the namespace of the object that contains them. A rule for a host \
        that does not exist has no effect, and a route to it fails with 503.",
    severity: Severity::Warning,
};

pub(super) fn find(mesh: Mesh) -> Vec<Finding> {
    let mut found = Vec::new();
    for (number, rule) in mesh.of_istio("DestinationRule") {
        let host = rule.spec()["host"].as_str().unwrap_or_default();
        found.extend(judge(mesh, number, rule, "spec.host", host));
    }
    for (number, service) in mesh.of_istio("VirtualService") {
        for destination in destinations(service) {
            let path = format!("{}.host", destination.path);
            found.extend(destination.host().and_then(|host| judge(mesh, number, service, &path, host)));
        }
        let hosts = service.list("hosts").iter().enumerate().filter(|_| is_for_workloads(service));
        for (index, host) in hosts {
            let host = host.as_str().unwrap_or_default();
            // Hosts with a dot may be names that only clients use.
            if !host.contains('.') {
                found.extend(judge(mesh, number, service, &format!("spec.hosts[{index}]"), host));
            }
        }
    }
    found
}

fn judge(mesh: Mesh, number: usize, source: &Source, path: &str, host: &str) -> Option<Finding> {
    if mesh.has_entry(host) || mesh.has_entry(&full(host, &source.namespace())) {
        return None;
    }
    match Host::of(host, &source.namespace()) {
        Host::Shortened { name, namespace } if !mesh.services(&name, &namespace).is_empty() => {
            let whole = service_host(&name, &namespace);
            let what = format!("{host} is not a host: Istio does not complete names with a dot to {whole}");
            Some(RULE.found(number, path, what, format!("write {whole}")).with(Severity::Error))
        }
        Host::Service { name, namespace } if path.starts_with("spec.host") => {
            match mesh.services(&name, &namespace).as_slice() {
                [] => missing(mesh, number, (&name, &namespace), path, host),
                services => aliased(number, services, path, host),
            }
        }
        Host::Service { name, namespace } if mesh.services(&name, &namespace).is_empty() => {
            missing(mesh, number, (&name, &namespace), path, host)
        }
        _ => None,
    }
}

/// Finds a host that is an alias. Istio handles it as another name of the host that it is of, and applies only rules for that.
fn aliased(number: usize, services: &[&Source], path: &str, host: &str) -> Option<Finding> {
    let aliases: Option<Vec<&str>> = services
        .iter()
        .map(|service| service.spec()["externalName"].as_str().filter(|_| is_alias(service)))
        .collect();
    let of = *aliases?.first()?;
    let what = format!("Service {host} is an alias (ExternalName) of {of}, and rules for aliases have no effect");
    Some(RULE.found(number, path, what, format!("write {of}")))
}

fn is_alias(service: &Source) -> bool {
    service.spec()["type"] == "ExternalName"
}

/// Finds a Service that is missing in its namespace, if the manifests show the Services of that namespace, or one of this name in
/// another namespace.
fn missing(mesh: Mesh, number: usize, (name, namespace): (&str, &str), path: &str, host: &str) -> Option<Finding> {
    if is_created(mesh, name, namespace) {
        return None;
    }
    let services = || mesh.of("Service").map(|(_, service)| service);
    let elsewhere = services().find(|service| service.name() == name);
    if let Some(other) = elsewhere.filter(|_| !host.contains('.')) {
        let whole = service_host(name, &other.namespace());
        let what = format!(
            "{host} is {} here, but Service {name} is in namespace {}",
            service_host(name, namespace),
            other.namespace()
        );
        return Some(
            RULE.found(number, path, what, format!("write {whole}, or move the object to that namespace"))
                .with(Severity::Error),
        );
    }
    // Others install what is in these namespaces.
    if namespace == ROOT_NAMESPACE || namespace.starts_with("kube-") {
        return None;
    }
    let mut here: Vec<String> =
        services().filter(|service| service.namespace() == namespace).map(Source::name).collect();
    here.sort();
    here.dedup();
    if here.is_empty() {
        return None;
    }
    let what = format!("no Service or ServiceEntry of these manifests has the host {host}");
    let fix = format!(
        "add Service {name} to namespace {namespace}, in each cluster with callers, or use one that exists: {}",
        here.join(", ")
    );
    Some(RULE.found(number, path, what, fix))
}

/// Whether a controller may create a Service: custom resources and Gateways do, with names that begin with their own.
fn is_created(mesh: Mesh, name: &str, namespace: &str) -> bool {
    mesh.0.iter().any(|source| {
        let group = source.object.types.as_ref().and_then(|types| types.api_version.split_once('/'));
        let group = group.map_or("", |(group, _)| group);
        let is_custom = group.contains('.') && !group.ends_with(".istio.io") && !group.ends_with(".k8s.io");
        let creates = is_custom || group == "gateway.networking.k8s.io";
        creates && source.namespace() == namespace && name.starts_with(&source.name())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::lint::testing::{ORDERS, found, routes, rule};

    fn with(more: &str) -> Vec<Finding> {
        found(&format!("{ORDERS}---\n{more}"), find)
    }

    #[test]
    fn host_without_service_is_found() {
        let found = with(&routes("http: [{route: [{destination: {host: odrers}}]}]"));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].what, "no Service or ServiceEntry of these manifests has the host odrers");
        assert!(found[0].fix.ends_with("or use one that exists: orders"), "{}", found[0].fix);
        assert_eq!(found[0].path, "spec.http[0].route[0].destination.host");
        let hosts = with(&rule("").replace("host: orders", "host: gone.shop.svc.cluster.local"));
        assert_eq!(hosts[0].path, "spec.host");
        assert_eq!(with(&routes("").replace("[orders]", "[gone]"))[0].path, "spec.hosts[0]");
    }

    #[test]
    fn rule_for_an_alias_is_found() {
        let alias = "{apiVersion: v1, kind: Service, metadata: {name: pay, namespace: shop}, spec: {type: ExternalName, externalName: \
            orders.shop.svc.cluster.local}}\n---\n";
        let found = with(&(alias.to_owned() + &rule("").replace("host: orders", "host: pay")));
        assert_eq!(
            found[0].what,
            "Service pay is an alias (ExternalName) of orders.shop.svc.cluster.local, and rules for aliases have no effect"
        );
        assert_eq!(with(&(alias.to_owned() + &routes("").replace("[orders]", "[pay]"))).len(), 1);
        // A route to an alias reaches what it is of.
        assert_eq!(with(&(alias.to_owned() + &routes("http: [{route: [{destination: {host: pay}}]}]"))), []);
    }

    #[test]
    fn shortened_name_is_found_if_the_service_exists() {
        let found = with(&rule("").replace("host: orders", "host: orders.shop"));
        assert_eq!(
            (found[0].severity, found[0].fix.as_str()),
            (Severity::Error, "write orders.shop.svc.cluster.local")
        );
        assert_eq!(with(&rule("").replace("host: orders", "host: api.example")), []);
    }

    #[test]
    fn short_name_means_the_namespace_of_its_object() {
        let found = with(&rule("").replace("namespace: shop", "namespace: web"));
        assert_eq!(
            found[0].what,
            "orders is orders.web.svc.cluster.local here, but Service orders is in namespace shop"
        );
    }

    #[test]
    fn host_that_may_exist_is_clean() {
        let entry = "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: a, namespace: shop}, \
            spec: {hosts: [api.example.com]}}\n---\n";
        let gateway = "{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: gw, namespace: shop}}\n---\n";
        let to = |host: &str| rule("").replace("host: orders", &format!("host: \"{host}\""));
        for clean in [
            to("orders"),
            to("orders.shop.svc.cluster.local"),
            to("*.shop.svc.cluster.local"),
            to("*"),
            to("elsewhere.other.svc.cluster.local"),
            to("istiod.istio-system.svc.cluster.local"),
            format!("{entry}{}", to("api.example.com")),
            format!("{gateway}{}", to("gw-istio")),
            routes("gateways: [ingress]").replace("[orders]", "[shop]"),
        ] {
            assert_eq!(with(&clean), [], "{clean}");
        }
        // Without any Service, nothing is known.
        assert_eq!(found(&rule("").replace("host: orders", "host: gone"), find), []);
    }
}
