//! Headless Services across clusters. Their names resolve to the addresses of pods, and those of their pods (`db-0.db`) to one
//! each: by the cluster's DNS only to pods of its own, by a proxy that answers DNS queries also to those of other clusters of
//! its network.

use std::collections::BTreeMap;

use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::place::Placed;
use super::references::references;
use crate::spec::Values;

/// Who answers DNS queries of the pods.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// Whether the proxies do.
    pub captured: bool,
    /// The Istio network of each cluster.
    pub networks: BTreeMap<String, String>,
}

impl Names {
    /// Whether the pods of a headless Service in other clusters have names in a cluster without any Service there.
    pub fn reach(&self, cluster: &str, served_in: &[String]) -> bool {
        let network = self.networks.get(cluster);
        self.captured && served_in.iter().any(|other| self.networks.get(other) == network)
    }
}

/// Whether Istio's values let the proxies answer DNS queries.
pub fn captures_dns(values: &Values) -> bool {
    const PATH: &str = "/defaultConfig/proxyMetadata/ISTIO_META_DNS_CAPTURE";
    let set = values.get("meshConfig").and_then(|config| config.pointer(PATH));
    set.is_some_and(|set| *set == json!("true") || *set == json!(true))
}

pub(super) fn is_headless(service: &DynamicObject) -> bool {
    service.data.pointer("/spec/clusterIP").and_then(Value::as_str) == Some("None")
}

/// Returns the note on a stub of a headless Service.
pub(super) fn stub_note(service: &DynamicObject, cluster: &str, served_in: &[String]) -> String {
    let name = service.name_any();
    format!(
        "{name} is headless, but its stub in {cluster} has a cluster IP, by which calls are balanced over its pods in {}; names of \
            single pods do not resolve in {cluster}",
        served_in.join(" and ")
    )
}

/// Returns notes on what names of a headless Service do, which its manifests may not expect. The Service comes with the clusters
/// of its pods.
pub(super) fn notes(
    placed: &[Placed],
    (service, served_in): (&DynamicObject, &[String]),
    clusters: &[String],
    names: &Names,
) -> Vec<String> {
    if !is_headless(service) {
        return Vec::new();
    }
    let name = service.name_any();
    let mut notes = Vec::new();
    if served_in.len() > 1 && !names.captured {
        notes.push(format!(
            "{name} is headless and has pods in {}: in each cluster, its name resolves only to the cluster's own pods",
            served_in.join(" and ")
        ));
    }
    for cluster in clusters.iter().filter(|cluster| !served_in.contains(cluster)) {
        if names.reach(cluster, served_in) {
            continue;
        }
        if let Some((pod, because)) = references(placed, cluster, |host, from| pod_of(service, host, from)) {
            notes.push(format!(
                "{because}, but the name of a pod does not resolve in {cluster}: create a Service {pod} with the selector \
                    statefulset.kubernetes.io/pod-name: {pod}, and call that"
            ));
        }
    }
    notes
}

/// Returns the pod whose name a host is: `db-0.db`, `db-0.db.shop`, `db-0.db.shop.svc.cluster.local`.
fn pod_of(service: &DynamicObject, host: &str, from: Option<&str>) -> Option<String> {
    let (name, namespace) = (service.name_any(), service.namespace().unwrap_or_default());
    let host = host.strip_suffix(".cluster.local").unwrap_or(host);
    let host = host.strip_suffix(".svc").unwrap_or(host);
    let (pod, rest) = host.split_once('.')?;
    let is_pod = pod.rsplit_once('-').is_some_and(|(_, ordinal)| ordinal.parse::<u32>().is_ok());
    let fits = rest == format!("{name}.{namespace}") || (rest == name && from == Some(&namespace));
    (is_pod && fits).then(|| pod.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::mesh::apply::objects;

    fn db() -> DynamicObject {
        let yaml =
            "{apiVersion: v1, kind: Service, metadata: {name: db, namespace: shop}, spec: {clusterIP: None}}";
        objects(yaml).unwrap().remove(0)
    }

    #[test]
    fn names_of_pods_are_recognized() {
        for (host, from, pod) in [
            ("db-0.db", Some("shop"), Some("db-0")),
            ("db-0.db", Some("other"), None),
            ("db-12.db.shop", Some("other"), Some("db-12")),
            ("db-0.db.shop.svc", None, Some("db-0")),
            ("db-0.db.shop.svc.cluster.local", None, Some("db-0")),
            ("db.shop", Some("shop"), None),
            ("www.db", Some("shop"), None),
            ("db-0.web.shop", Some("shop"), None),
            ("db-0", Some("shop"), None),
        ] {
            assert_eq!(pod_of(&db(), host, from).as_deref(), pod, "{host} {from:?}");
        }
    }

    #[test]
    fn proxies_resolve_pods_of_their_own_network() {
        let networks = [("a", "n1"), ("b", "n1"), ("c", "n2")].map(|(c, n)| (c.to_owned(), n.to_owned()));
        let mut names = Names { captured: true, networks: networks.into() };
        assert!(names.reach("a", &["b".into()]) && names.reach("a", &["c".into(), "b".into()]));
        assert!(!names.reach("a", &["c".into()]));
        names.captured = false;
        assert!(!names.reach("a", &["b".into()]));
    }

    #[test]
    fn capture_is_read_from_istios_values() {
        let values = |capture: Value| {
            let config = json!({"defaultConfig": {"proxyMetadata": {"ISTIO_META_DNS_CAPTURE": capture}}});
            Values::from([("meshConfig".to_owned(), config)])
        };
        assert!(captures_dns(&values(json!("true"))) && captures_dns(&values(json!(true))));
        assert!(!captures_dns(&values(json!("false"))) && !captures_dns(&Values::new()));
    }
}
