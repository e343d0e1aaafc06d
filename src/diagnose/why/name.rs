//! The name: it resolves only in clusters with a Service of that name.

use serde_json::json;

use super::facts::listed;
use super::{Facts, Hop};

const HOP: &str = "name";

pub(super) fn judge(facts: &Facts) -> Hop {
    let call = &facts.call;
    let Some(here) = facts.here() else { return Hop::unknown(HOP, "no cluster responded") };
    let (name, namespace, cluster) = (&call.name, &call.service_namespace, &here.name);
    if let Some(service) = &here.service {
        if let Some(other) = &service.external_name {
            return Hop::wrong(
                HOP,
                format!("Service {name} in {cluster} has type ExternalName ({other}): it selects no pods"),
                format!(
                    "replace it with a Service that has a selector: {} delete service {name}",
                    facts.kubectl(here)
                ),
            );
        }
        if service.headless && !here.pods.iter().any(|pod| pod.ready) {
            return Hop::wrong(
                HOP,
                format!(
                    "Service {name} in {cluster} is headless: its name resolves only to ready pods in {cluster}, \
                        which has none"
                ),
                format!(
                    "recreate it without clusterIP: None, so that it has a cluster IP ({} replace --force -f …)",
                    facts.kubectl(here)
                ),
            );
        }
        return Hop::ok(HOP, format!("Service {name} exists in namespace {namespace} of {cluster}"));
    }
    let there: Vec<&str> =
        facts.clusters.iter().filter(|c| c.service.is_some()).map(|cluster| cluster.name.as_str()).collect();
    if there.is_empty() && !facts.other_namespaces.is_empty() {
        let other = &facts.other_namespaces[0];
        return Hop::wrong(
            HOP,
            format!(
                "no cluster has a Service {name} in namespace {namespace}; found in: {}",
                listed(&facts.other_namespaces)
            ),
            format!("call http://{name}.{other}:{}", call.port),
        );
    }
    let saw = match there.is_empty() {
        true => {
            format!("no cluster has a Service {name} in namespace {namespace}: the name does not resolve")
        }
        false => format!(
            "{cluster} has no Service {name} in namespace {namespace} (it exists only in {}): the name does not \
                resolve in {cluster}",
            listed(&there)
        ),
    };
    Hop::wrong(HOP, saw, make(facts))
}

/// Returns the command that creates the Service with the ports and selector of another cluster's.
fn make(facts: &Facts) -> String {
    let call = &facts.call;
    let Some(here) = facts.here() else { return String::new() };
    let Some(service) = facts.clusters.iter().find_map(|cluster| cluster.service.as_ref()) else {
        return format!(
            "create the Service in the cluster where its pods run; kindmesh deploy creates the stub Service in {}",
            here.name
        );
    };
    let ports: Vec<_> = service
        .ports
        .iter()
        .map(|port| {
            let mut made = json!({"name": port.name, "port": port.number});
            if let Some(protocol) = &port.protocol {
                made["appProtocol"] = json!(protocol);
            }
            made
        })
        .collect();
    let stub = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": call.name},
        "spec": {"ports": ports, "selector": service.selector}});
    let namespace = match here.has_namespace {
        true => String::new(),
        false => format!("kubectl --context {} create namespace {}; ", here.context, call.service_namespace),
    };
    format!(
        "{namespace}{} apply -f - <<<'{stub}' (kindmesh deploy creates such stub Services automatically)",
        facts.kubectl(here)
    )
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::testing::works;
    use super::*;

    #[test]
    fn missing_stub_comes_with_the_command_to_create_it() {
        let mut facts = works();
        facts.clusters[0].service = None;
        facts.clusters[0].has_namespace = false;
        let hop = judge(&facts);
        assert!(hop.verdict == Verdict::Wrong && hop.saw.contains("only in cluster2"), "{hop:?}");
        let cure = hop.cure.unwrap();
        assert!(cure.starts_with("kubectl --context kind-e-cluster1 create namespace shop; "), "{cure}");
        assert!(cure.contains(r#""selector":{"app":"orders"}"#), "{cure}");
    }

    #[test]
    fn service_in_another_namespace_is_suggested() {
        let mut facts = works();
        facts.clusters.iter_mut().for_each(|cluster| cluster.service = None);
        assert!(judge(&facts).saw.contains("no cluster has a Service"));
        facts.other_namespaces = vec!["stock".into()];
        assert_eq!(judge(&facts).cure.unwrap(), "call http://orders.stock:8080");
    }

    #[test]
    fn headless_and_external_services_are_detected() {
        let mut facts = works();
        facts.clusters[0].service.as_mut().unwrap().headless = true;
        assert!(judge(&facts).saw.contains("headless"));
        facts.clusters[0].service.as_mut().unwrap().external_name = Some("example.com".into());
        assert!(judge(&facts).saw.contains("example.com"));
    }
}
