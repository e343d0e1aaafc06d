//! Visibility: what istiod leaves out of the configuration of the caller's proxy, because the mesh configuration or the Service asks
//! for it: `discoverySelectors`, `exportTo`, cluster-local Services (istio 1.31, pilot/pkg/model/cluster_local.go).

use std::collections::BTreeMap;

use serde_json::Value;

use super::facts::{Cluster, listed};
use super::{Facts, Hop};

const HOP: &str = "visibility";

pub(super) fn judge(facts: &Facts) -> Hop {
    let (name, serving) = (&facts.call.name, facts.serving());
    if serving.is_empty() {
        return Hop::skipped(HOP, "no ready pods");
    }
    if !facts.caller.as_ref().is_some_and(|caller| caller.meshed) {
        return Hop::skipped(HOP, "the caller has no proxy");
    }
    let (found, left_out): (Vec<&Cluster>, Vec<&Cluster>) =
        serving.iter().copied().partition(|cluster| is_discovered(&facts.mesh_config, &cluster.namespace_labels));
    let namespace = &facts.call.service_namespace;
    if let (true, Some(first)) = (found.is_empty(), left_out.first()) {
        return Hop::wrong(
            HOP,
            format!(
                "istiod of {} ignores namespace {namespace} of {}: its labels match none of meshConfig.discoverySelectors",
                facts.control_plane,
                names(&left_out)
            ),
            format!(
                "give the namespace a label that they select, in every cluster: kubectl --context {} label namespace {namespace} \
                    KEY=VALUE; or change mesh.values.meshConfig.discoverySelectors, then {}",
                first.context,
                facts.kindmesh("up")
            ),
        );
    }
    if let Some((cluster, why)) = hidden(facts) {
        return Hop::wrong(
            HOP,
            format!("Service {name} is not visible in namespace {}: {why}", facts.call.namespace),
            format!(
                "add the namespace to it in every cluster: {} annotate service {name} --overwrite \
                    networking.istio.io/exportTo=.,{}",
                facts.kubectl(cluster),
                facts.call.namespace
            ),
        );
    }
    if facts.mesh_config.is_null() {
        return Hop::unknown(HOP, format!("the mesh configuration of {} cannot be read", facts.control_plane));
    }
    let is_local = is_cluster_local(&facts.mesh_config, &facts.host());
    if is_local && !found.iter().any(|cluster| facts.is_here(cluster)) {
        return Hop::wrong(
            HOP,
            format!(
                "Service {name} is cluster-local: calls from {} only reach pods in {0}, and the ready ones are in {}",
                facts.call.cluster,
                names(&found)
            ),
            format!(
                "set clusterLocal: false for {} in mesh.values.meshConfig.serviceSettings, then {}",
                facts.host(),
                facts.kindmesh("up")
            ),
        );
    }
    let mut but = match left_out.is_empty() {
        true => String::new(),
        false => format!("; istiod ignores it in {}: meshConfig.discoverySelectors", names(&left_out)),
    };
    if is_local {
        but.push_str("; it is cluster-local, so pods in other clusters receive no calls");
    }
    Hop::ok(HOP, format!("Service {name} is visible in namespace {}{but}", facts.call.namespace))
}

fn names(clusters: &[&Cluster]) -> String {
    listed(&clusters.iter().map(|cluster| cluster.name.as_str()).collect::<Vec<_>>())
}

/// Whether a namespace with these labels matches one of the discovery selectors; without any, all do.
fn is_discovered(mesh_config: &Value, labels: &BTreeMap<String, String>) -> bool {
    let selectors = mesh_config["discoverySelectors"].as_array().map(Vec::as_slice).unwrap_or_default();
    selectors.is_empty() || selectors.iter().any(|selector| matches(selector, labels))
}

/// Whether labels match a label selector of Kubernetes.
fn matches(selector: &Value, labels: &BTreeMap<String, String>) -> bool {
    let equal = |(key, value): (&String, &Value)| labels.get(key).map(String::as_str) == value.as_str();
    let expressions = selector["matchExpressions"].as_array();
    let fits = |expression: &Value| {
        let label = expression["key"].as_str().and_then(|key| labels.get(key));
        let values = expression["values"].as_array();
        let is_in = label.is_some_and(|label| values.into_iter().flatten().any(|value| value == label));
        match expression["operator"].as_str() {
            Some("In") => is_in,
            Some("NotIn") => !is_in,
            Some("Exists") => label.is_some(),
            Some("DoesNotExist") => label.is_none(),
            _ => false,
        }
    };
    selector["matchLabels"].as_object().into_iter().flatten().all(equal)
        && expressions.into_iter().flatten().all(fits)
}

/// Returns the cluster whose Service hides it from the caller's namespace, and why: of the Services of one name, istiod
/// uses that of its own cluster first.
fn hidden(facts: &Facts) -> Option<(&Cluster, String)> {
    let call = &facts.call;
    let with = |cluster: &&Cluster| cluster.service.is_some();
    let own = facts.clusters.iter().find(|cluster| cluster.name == facts.control_plane).filter(with);
    let others: Vec<&Cluster> = facts.clusters.iter().filter(with).collect();
    let hides = |cluster: &Cluster| {
        let name = &cluster.name;
        let (to, why): (Vec<&str>, String) = match cluster.service.as_ref()?.export_to.as_deref() {
            Some(text) => (
                text.split(',').map(str::trim).collect(),
                format!("the Service in {name} has exportTo \"{text}\""),
            ),
            None => {
                let default = facts.mesh_config["defaultServiceExportTo"].as_array()?;
                let to: Vec<&str> = default.iter().filter_map(Value::as_str).collect();
                let set = to.join(", ");
                (
                    to,
                    format!(
                        "the Service in {name} has no exportTo, and meshConfig.defaultServiceExportTo is {set}"
                    ),
                )
            }
        };
        let sees = |to: &str| match to {
            "*" => true,
            "." => call.namespace == call.service_namespace,
            namespace => namespace == call.namespace,
        };
        (!to.into_iter().any(sees)).then_some(why)
    };
    match own {
        Some(own) => hides(own).map(|why| (own, why)),
        None => {
            let found: Option<Vec<String>> = others.iter().map(|cluster| hides(cluster)).collect();
            Some((*others.first()?, found?.into_iter().next()?))
        }
    }
}

/// Whether istiod sends calls to a host only to the caller's own cluster: the most specific setting counts.
fn is_cluster_local(mesh_config: &Value, host: &str) -> bool {
    let settings = mesh_config["serviceSettings"].as_array();
    let hosts = settings.into_iter().flatten().flat_map(|setting| {
        let is_local = setting["settings"]["clusterLocal"] == true;
        let hosts = setting["hosts"].as_array().into_iter().flatten().filter_map(Value::as_str);
        hosts.map(move |pattern| (pattern, is_local))
    });
    // istiod's own default; a setting of the same name comes later, and counts.
    let all = std::iter::once(("*.kube-system.svc.cluster.local", true)).chain(hosts);
    let fitting = all.filter(|(pattern, _)| match pattern.strip_prefix('*') {
        Some(end) => host.ends_with(end),
        None => *pattern == host,
    });
    fitting
        .max_by_key(|(pattern, _)| (!pattern.starts_with('*'), pattern.len()))
        .is_some_and(|(_, is_local)| is_local)
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::testing::works;
    use super::*;
    use serde_json::json;

    #[test]
    fn namespace_outside_of_the_discovery_selectors_is_named() {
        let mut facts = works();
        facts.mesh_config = json!({"discoverySelectors": [{"matchLabels": {"mesh": "on"}},
            {"matchExpressions": [{"key": "team", "operator": "In", "values": ["a", "b"]}]}]});
        assert_eq!(
            judge(&facts).saw,
            "istiod of cluster1 ignores namespace shop of cluster2: its labels match none of meshConfig.discoverySelectors"
        );
        for (key, value, verdict) in
            [("mesh", "off", Verdict::Wrong), ("mesh", "on", Verdict::Ok), ("team", "b", Verdict::Ok)]
        {
            facts.clusters[1].namespace_labels = [(key.to_owned(), value.to_owned())].into();
            assert_eq!(judge(&facts).verdict, verdict, "{key}={value}");
        }
    }

    #[test]
    fn service_that_is_not_exported_is_named() {
        let mut facts = works();
        facts.call.namespace = "web".into();
        let mut with = |to: &str| {
            facts.clusters[0].service.as_mut().unwrap().export_to = Some(to.to_owned());
            judge(&facts)
        };
        assert_eq!(
            with(".").saw,
            "Service orders is not visible in namespace web: the Service in cluster1 has exportTo \".\""
        );
        assert_eq!(with("~").verdict, Verdict::Wrong);
        assert_eq!((with("., web").verdict, with("*").verdict), (Verdict::Ok, Verdict::Ok));
        // Without a Service in istiod's cluster, those of the others count.
        facts.clusters[0].service = None;
        assert_eq!(judge(&facts).verdict, Verdict::Ok);
        facts.mesh_config = json!({"defaultServiceExportTo": ["."]});
        assert!(
            judge(&facts)
                .saw
                .ends_with("the Service in cluster2 has no exportTo, and meshConfig.defaultServiceExportTo is .")
        );
    }

    #[test]
    fn cluster_local_service_has_no_calls_from_other_clusters() {
        let mut facts = works();
        facts.mesh_config = json!({"serviceSettings": [
            {"settings": {"clusterLocal": true}, "hosts": ["*.shop.svc.cluster.local"]}]});
        assert_eq!(
            judge(&facts).saw,
            "Service orders is cluster-local: calls from cluster1 only reach pods in cluster1, and the ready ones are in cluster2"
        );
        let specific = json!({"settings": {"clusterLocal": false}, "hosts": ["orders.shop.svc.cluster.local"]});
        facts.mesh_config["serviceSettings"].as_array_mut().unwrap().push(specific);
        assert_eq!(judge(&facts).verdict, Verdict::Ok);
        assert!(is_cluster_local(&json!({}), "dns.kube-system.svc.cluster.local"));
        assert!(!is_cluster_local(&json!({}), "orders.shop.svc.cluster.local"));
    }
}
