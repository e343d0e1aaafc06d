//! The name: it resolves only in clusters with a Service of that name.

use serde_json::{Value, json};

use super::facts::{Cluster, Linked, Pod, Port, Service, listed};
use super::{Facts, Hop};

const HOP: &str = "name";

pub(super) fn judge(facts: &Facts) -> Hop {
    let aliases = facts.call.aliases.iter();
    let aliases = aliases.map(|(name, other)| format!("Service {name} is an alias (ExternalName) of {other}; "));
    let mut hop = resolved(facts);
    hop.saw.insert_str(0, &aliases.collect::<String>());
    hop
}

fn resolved(facts: &Facts) -> Hop {
    let call = &facts.call;
    if let Some(outside) = &call.outside {
        return alias_of(facts, outside);
    }
    let Some(here) = facts.here() else { return Hop::unknown(HOP, "no cluster responded") };
    let (name, namespace, cluster) = (&call.name, &call.service_namespace, &here.name);
    if here.service.as_ref().is_some_and(|service| service.external_name.is_some()) {
        return Hop::wrong(
            HOP,
            "the aliases are too many, or lead in a circle: the name does not resolve",
            format!("{} edit service {name}", facts.kubectl(here)),
        );
    }
    if let Some((found, service)) = facts.named().and_then(|found| Some((found, found.service.as_ref()?))) {
        return match &call.to_pod {
            Some(pod) => of_pod(facts, here, pod),
            None if service.headless => headless(facts, here),
            None if facts.is_here(found) => {
                Hop::ok(HOP, format!("Service {name} exists in namespace {namespace} of {cluster}"))
            }
            None => Hop::ok(
                HOP,
                format!("the caller's proxy answers DNS queries, and knows Service {name} of {}", found.name),
            ),
        };
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
            format!("call {}", facts.target_at(&format!("{name}.{other}"))),
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

/// Judges an alias of a host that is not the full name of a Service.
fn alias_of(facts: &Facts, host: &str) -> Hop {
    let call = &facts.call;
    let shortened = match host.strip_suffix(".svc") {
        Some(name) => Some(name.to_owned()),
        None => (!host.contains('.')).then(|| format!("{host}.{}", call.service_namespace)),
    };
    match (shortened, facts.here()) {
        (Some(name), Some(here)) => Hop::wrong(
            HOP,
            "DNS does not complete the name that an alias is of: it does not resolve",
            format!(
                r#"write the full name: {} patch service {} -p '{{"spec":{{"externalName":"{name}.svc.cluster.local"}}}}'"#,
                facts.kubectl(here),
                call.name
            ),
        ),
        _ => Hop::ok(HOP, "calls leave the clusters, and what is there is not inspected"),
    }
}

/// Judges the name of a headless Service, which resolves to addresses of pods.
fn headless(facts: &Facts, here: &Cluster) -> Hop {
    let name = &facts.call.name;
    let resolved = facts.resolved();
    if resolved.is_empty() {
        return Hop::wrong(
            HOP,
            format!(
                "Service {name} is headless: its name resolves only to ready pods in {}, which has none",
                where_to(facts, here)
            ),
            format!(
                "create it in {} without clusterIP: None, so that its name resolves to a cluster IP, and calls are balanced over \
                    the pods of all clusters; kindmesh deploy does so ({} replace --force -f …)",
                here.name,
                facts.kubectl(here)
            ),
        );
    }
    let elsewhere: Vec<&str> = facts
        .serving()
        .iter()
        .map(|cluster| cluster.name.as_str())
        .filter(|name| !resolved.iter().any(|(cluster, _)| cluster.name == *name))
        .collect();
    let but = match elsewhere.is_empty() {
        true => String::new(),
        false => format!(", not to those in {}", listed(&elsewhere)),
    };
    let pods: Vec<&str> = resolved.iter().map(|(_, pod)| pod.name.as_str()).collect();
    Hop::ok(HOP, format!("Service {name} is headless: its name resolves to the pods {}{but}", listed(&pods)))
}

/// Judges the name of a pod of a Service.
fn of_pod(facts: &Facts, here: &Cluster, pod: &str) -> Hop {
    let call = &facts.call;
    let resolved = facts.resolved();
    if let Some((cluster, _)) = resolved.first() {
        return Hop::ok(HOP, format!("the name of pod {pod} in {} resolves to its address", cluster.name));
    }
    if facts.ready().is_empty() {
        return Hop::wrong(
            HOP,
            format!("no cluster has a ready pod {pod} behind Service {}: its name does not resolve", call.name),
            format!(
                "list the pods: {} get pods",
                facts.clusters.last().map_or_else(String::new, |c| facts.kubectl(c))
            ),
        );
    }
    let ports: Vec<Port> =
        facts.clusters.iter().find_map(|c| c.service.as_ref()).map(|s| s.ports.clone()).unwrap_or_default();
    let selector = [("statefulset.kubernetes.io/pod-name".to_owned(), pod.to_owned())].into();
    let own = manifest(pod, &Service { ports, selector, ..Service::default() });
    let commands: Vec<String> =
        facts.clusters.iter().map(|cluster| format!("{} apply -f - <<<'{own}'", facts.kubectl(cluster))).collect();
    Hop::wrong(
        HOP,
        format!(
            "the name of pod {pod} resolves only where the pod runs and is ready: not in {}",
            where_to(facts, here)
        ),
        format!(
            "give the pod a Service of its own in every cluster, and call {}: {}",
            facts.target_at(&format!("{pod}.{}", call.service_namespace)),
            commands.join("; ")
        ),
    )
}

/// Returns the clusters whose pods have names for the caller.
fn where_to(facts: &Facts, here: &Cluster) -> String {
    let others = facts.clusters.iter().filter(|cluster| !facts.is_here(cluster) && facts.has_names(cluster));
    let names: Vec<&str> = std::iter::once(here).chain(others).map(|cluster| cluster.name.as_str()).collect();
    listed(&names)
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
    let stub = manifest(&call.name, service);
    let namespace = match here.has_namespace {
        true => String::new(),
        false => format!("kubectl --context {} create namespace {}; ", here.context, call.service_namespace),
    };
    format!(
        "{namespace}{} apply -f - <<<'{stub}' (kindmesh deploy creates such stub Services automatically)",
        facts.kubectl(here)
    )
}

/// Returns a Service with the ports and the selector of another one.
fn manifest(name: &str, service: &Service) -> Value {
    if let Some(host) = &service.external_name {
        return json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"type": "ExternalName", "externalName": host}});
    }
    let ports = service.ports.iter().map(|port| {
        let mut made = json!({"name": port.name, "port": port.number});
        if let Some(protocol) = &port.protocol {
            made["appProtocol"] = json!(protocol);
        }
        if port.target != port.number.to_string() {
            made["targetPort"] =
                port.target.parse::<u16>().map_or_else(|_| json!(port.target), |number| json!(number));
        }
        made
    });
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"ports": ports.collect::<Vec<_>>(), "selector": service.selector}})
}

impl Facts {
    /// Returns the pods of a headless Service that the caller's name resolves to: those of its own cluster; if its proxy answers
    /// DNS queries, those of all clusters of its network.
    pub(super) fn resolved(&self) -> Vec<(&Cluster, &Pod)> {
        self.ready().into_iter().filter(|(cluster, _)| self.has_names(cluster)).collect()
    }

    /// Whether pods of a headless Service in a cluster have names for the caller.
    fn has_names(&self, cluster: &Cluster) -> bool {
        let captures = self.caller.as_ref().is_some_and(|caller| caller.captures_dns);
        // A Service with a cluster IP in the caller's cluster hides the pods of others.
        let own = self.here().and_then(|here| here.service.as_ref()).is_none_or(|service| service.headless);
        self.is_here(cluster) || (captures && own && cluster.linked == Linked::Yes)
    }
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
    fn headless_service_without_own_pods_is_detected() {
        let mut facts = works();
        facts.clusters[0].service.as_mut().unwrap().headless = true;
        let hop = judge(&facts);
        assert!(hop.saw.ends_with("its name resolves only to ready pods in cluster1, which has none"), "{hop:?}");
        assert!(hop.cure.unwrap().starts_with("create it in cluster1 without clusterIP: None"));
    }

    #[test]
    fn alias_is_followed() {
        let mut facts = works();
        facts.call.aliases = vec![("payments.shop".to_owned(), "orders.shop.svc.cluster.local".to_owned())];
        assert_eq!(
            judge(&facts).saw,
            "Service payments.shop is an alias (ExternalName) of orders.shop.svc.cluster.local; Service orders exists in \
                namespace shop of cluster1"
        );
        facts.clusters[0].service = None;
        assert!(judge(&facts).cure.unwrap().contains(r#""metadata":{"name":"orders"}"#));
        facts.clusters[0].service =
            Some(Service { external_name: Some("a.shop.svc.cluster.local".into()), ..Service::default() });
        assert!(judge(&facts).saw.ends_with("lead in a circle: the name does not resolve"));
    }

    #[test]
    fn alias_of_a_host_outside_ends_the_explanation() {
        let mut facts = works();
        facts.call.name = "payments".into();
        facts.call.aliases = vec![("payments.shop".into(), "pay.example.com".into())];
        facts.call.outside = Some("pay.example.com".into());
        let explained = super::super::explain(&facts, "http://payments");
        assert_eq!(explained.first_wrong, None);
        assert_eq!(
            explained.hops[1].saw,
            "Service payments.shop is an alias (ExternalName) of pay.example.com; calls leave the clusters, and what is there is \
                not inspected"
        );
        assert!(explained.hops[2..].iter().all(|hop| hop.verdict == Verdict::Skipped), "{explained:?}");
        // A short name is not completed.
        for short in ["orders", "orders.shop.svc"] {
            facts.call.outside = Some(short.into());
            let hop = judge(&facts);
            assert!(hop.verdict == Verdict::Wrong, "{hop:?}");
            assert_eq!(
                hop.cure.unwrap(),
                "write the full name: kubectl --context kind-e-cluster1 -n shop patch service payments \
                    -p '{\"spec\":{\"externalName\":\"orders.shop.svc.cluster.local\"}}'"
            );
        }
    }

    #[test]
    fn missing_alias_is_created_as_an_alias() {
        let mut facts = works();
        facts.clusters[0].service = None;
        facts.clusters[1].service =
            Some(Service { external_name: Some("pay.example.com".into()), ..Service::default() });
        assert!(judge(&facts).cure.unwrap().contains(r#""externalName":"pay.example.com""#));
    }

    /// Facts of a headless Service with a pod in each cluster.
    fn headless() -> Facts {
        let mut facts = works();
        facts.clusters[0].pods = facts.clusters[1].pods.clone();
        facts.clusters[0].pods[0].name = "orders-0".into();
        facts.clusters.iter_mut().for_each(|cluster| cluster.service.as_mut().unwrap().headless = true);
        facts
    }

    #[test]
    fn headless_name_resolves_to_pods_of_the_own_cluster() {
        let mut facts = headless();
        assert!(judge(&facts).saw.ends_with("resolves to the pods orders-0, not to those in cluster2"));
        facts.caller.as_mut().unwrap().captures_dns = true;
        assert!(judge(&facts).saw.ends_with("resolves to the pods orders-0 and orders-1"));
        facts.clusters[1].linked = Linked::Gateway;
        assert!(judge(&facts).saw.ends_with("resolves to the pods orders-0, not to those in cluster2"));
        facts.clusters[0].pods.clear();
        assert_eq!(judge(&facts).verdict, Verdict::Wrong);
    }

    #[test]
    fn name_of_a_pod_resolves_where_the_pod_runs() {
        let mut facts = headless();
        facts.call.to_pod = Some("orders-1".into());
        facts.clusters[0].pods.clear();
        let hop = judge(&facts);
        assert!(hop.verdict == Verdict::Wrong && hop.saw.ends_with("not in cluster1"), "{hop:?}");
        let cure = hop.cure.unwrap();
        assert!(
            cure.contains("and call http://orders-1.shop:8080: kubectl --context kind-e-cluster1")
                && cure.contains(r#""selector":{"statefulset.kubernetes.io/pod-name":"orders-1"}"#)
                && cure.contains(r#""targetPort":"http""#),
            "{cure}"
        );
        facts.caller.as_mut().unwrap().captures_dns = true;
        assert_eq!(judge(&facts).saw, "the name of pod orders-1 in cluster2 resolves to its address");
        // A Service with a cluster IP hides it.
        facts.clusters[0].service.as_mut().unwrap().headless = false;
        assert_eq!(judge(&facts).verdict, Verdict::Wrong);
        facts.clusters[1].pods.clear();
        assert!(judge(&facts).saw.starts_with("no cluster has a ready pod orders-1"));
    }

    #[test]
    fn proxy_that_answers_dns_needs_no_stub() {
        let mut facts = works();
        facts.clusters[0].service = None;
        facts.caller.as_mut().unwrap().captures_dns = true;
        assert_eq!(
            judge(&facts).saw,
            "the caller's proxy answers DNS queries, and knows Service orders of cluster2"
        );
    }
}
