//! Turns objects of a cluster into facts: pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, ResourceQuota, Secret};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::base::digest::hex;
use crate::plan::existing;

/// The label of Istio's namespace with the network of the cluster.
pub(super) const NETWORK_LABEL: &str = "topology.istio.io/network";
/// The label of a namespace with the level of Pod Security that it enforces.
const ENFORCE_LABEL: &str = "pod-security.kubernetes.io/enforce";

/// Returns how far a clock is ahead, from the header Date of a response that arrived between two times of this host; none if it
/// cannot be read. A difference of up to a second is none: the header has whole seconds.
pub(super) fn clock_ahead_ms(date: &str, before: Timestamp, after: Timestamp) -> Option<i64> {
    let date = jiff::fmt::rfc2822::parse(date).ok()?.timestamp().as_millisecond();
    let (before, after) = (before.as_millisecond(), after.as_millisecond());
    // It was read at some time within this second.
    Some(match date {
        _ if date + 1_000 < before => date + 1_000 - before,
        _ if date > after => date - after,
        _ => 0,
    })
}

pub(super) fn node(node: &Node) -> existing::Node {
    let subnets = node.spec.iter().flat_map(|spec| spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr));
    let subnets: BTreeSet<_> = subnets.filter_map(|subnet| subnet.parse().ok()).collect();
    let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
    existing::Node {
        name: node.name_any(),
        architecture: info.map(|info| info.architecture.clone()).unwrap_or_default(),
        pod_subnets: subnets.into_iter().collect(),
    }
}

pub(super) fn namespace(namespace: &Namespace, ours: bool, quotas: &[ResourceQuota]) -> existing::Namespace {
    let left = |resources: &[&str], read: fn(&str) -> Option<u64>| {
        let of = |quota: &ResourceQuota| {
            let status = quota.status.as_ref()?;
            let amount =
                |amounts: &Option<BTreeMap<String, Quantity>>, name: &str| read(&amounts.as_ref()?.get(name)?.0);
            let left = |name: &&str| {
                Some(amount(&status.hard, name)?.saturating_sub(amount(&status.used, name).unwrap_or_default()))
            };
            resources.iter().filter_map(left).min()
        };
        quotas.iter().filter_map(of).min()
    };
    existing::Namespace {
        ours,
        network: namespace.labels().get(NETWORK_LABEL).cloned(),
        enforces: namespace.labels().get(ENFORCE_LABEL).cloned(),
        left: existing::Left {
            pods: left(&["pods", "count/pods"], whole),
            cpu_millis: left(&["cpu", "requests.cpu"], thousandths),
            memory: left(&["memory", "requests.memory"], whole),
        },
    }
}

/// Returns a quantity as a whole number, rounded down; none if it cannot be read.
fn whole(quantity: &str) -> Option<u64> {
    thousandths(quantity).map(|thousandths| thousandths / 1_000)
}

/// Returns a quantity in thousandths: `250m`, `2`, `1.5Gi`, `1e3`.
fn thousandths(quantity: &str) -> Option<u64> {
    let text = quantity.trim();
    let suffixes: [(&str, f64); 13] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("", 1.0),
    ];
    let read = |(suffix, factor): &(&str, f64)| Some(text.strip_suffix(suffix)?.parse::<f64>().ok()? * factor);
    let value = suffixes.iter().find_map(read)?;
    (value >= 0.0 && value.is_finite()).then_some((value * 1e3).round() as u64)
}

pub(super) fn istiod(deployment: &Deployment, ours: bool) -> existing::Istiod {
    let containers =
        deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()).map(|pod| &pod.containers);
    let container = containers
        .and_then(|all| all.iter().find(|container| container.name == "discovery").or_else(|| all.first()));
    let image = container.and_then(|container| container.image.as_deref()).unwrap_or_default();
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    let tag = name.rsplit('/').next().and_then(|last| last.split_once(':')).map(|(_, tag)| tag);
    // `-distroless` and `-debug` are variants of a version.
    let version = tag.and_then(|tag| tag.split('-').next()).unwrap_or_default();
    let variables = container.and_then(|container| container.env.as_ref()).into_iter().flatten();
    let cluster = variables.into_iter().find(|variable| variable.name == "CLUSTER_ID");
    existing::Istiod {
        namespace: deployment.namespace().unwrap_or_default(),
        name: deployment.name_any(),
        revision: deployment.labels().get("istio.io/rev").cloned().unwrap_or_default(),
        version: version.to_owned(),
        ours,
        mesh: existing::IstiodMesh {
            cluster: cluster.and_then(|variable| variable.value.clone()).unwrap_or_default(),
            ..existing::IstiodMesh::default()
        },
    }
}

/// Returns the YAML under a key of a config map; null if there is none.
fn yaml_in(map: &ConfigMap, key: &str) -> Value {
    let text = map.data.as_ref().and_then(|data| data.get(key)).map(String::as_str).unwrap_or_default();
    serde_yaml::from_str(text).unwrap_or_default()
}

/// Adds what the mesh's config map says.
pub(super) fn mesh(map: &ConfigMap, mesh: &mut existing::IstiodMesh) {
    let config = yaml_in(map, "mesh");
    let text = |pointer: &str| config.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    mesh.id = text("/defaultConfig/meshId").unwrap_or_default();
    // Istio's default.
    mesh.trust_domain = text("/trustDomain").unwrap_or_else(|| "cluster.local".into());
}

/// Adds what the config map of the injection webhook says.
pub(super) fn injector(map: &ConfigMap, mesh: &mut existing::IstiodMesh) {
    let values = yaml_in(map, "values");
    mesh.proxy_network = values.pointer("/global/network").and_then(Value::as_str).unwrap_or_default().to_owned();
}

/// Whether a webhook configuration calls an istiod.
pub(super) fn calls_istiod(configuration: &Value) -> bool {
    let webhooks = configuration["webhooks"].as_array().into_iter().flatten();
    let mut names = webhooks.filter_map(|webhook| webhook.pointer("/clientConfig/service/name")?.as_str());
    names.any(|name| name == "istiod" || name.starts_with("istiod-"))
}

/// Returns the SHA-256 of each root certificate of a secret cacerts.
pub(super) fn roots(secret: &Secret) -> BTreeSet<String> {
    let pem = secret.data.as_ref().and_then(|data| data.get("root-cert.pem")).map(|pem| pem.0.as_slice());
    let blocks = x509_parser::pem::Pem::iter_from_buffer(pem.unwrap_or_default());
    blocks.flatten().map(|block| hex(&Sha256::digest(&block.contents))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_clock_is_compared_within_the_second_of_the_header() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let (before, after) = (at("2026-11-27T19:00:00.900Z"), at("2026-11-27T19:00:01.100Z"));
        let ahead = |date: &str| clock_ahead_ms(date, before, after);
        assert_eq!(ahead("Fri, 27 Nov 2026 19:00:00 GMT"), Some(0));
        assert_eq!(ahead("Fri, 27 Nov 2026 19:00:01 GMT"), Some(0));
        assert_eq!(ahead("Fri, 27 Nov 2026 19:10:01 GMT"), Some(599_900));
        assert_eq!(ahead("Fri, 27 Nov 2026 18:00:00 GMT"), Some(-3_599_900));
        assert_eq!(ahead("yesterday"), None);
    }

    #[test]
    fn quantities_are_those_of_kubernetes() {
        for (text, thousandths) in [
            ("2", 2_000),
            ("250m", 250),
            ("1.5Gi", 1_610_612_736_000),
            ("1e3", 1_000_000),
            ("100k", 100_000_000),
            ("0", 0),
        ] {
            assert_eq!(super::thousandths(text), Some(thousandths), "{text}");
        }
        for wrong in ["", "x", "-1", "1 Gi2"] {
            assert_eq!(super::thousandths(wrong), None, "{wrong}");
        }
        assert_eq!(whole("1900m"), Some(1));
    }

    #[test]
    fn a_namespace_has_the_least_that_its_quotas_leave() {
        let found = object(
            json!({"metadata": {"name": "a", "labels": {"pod-security.kubernetes.io/enforce": "baseline"}}}),
        );
        let quota = |hard: Value, used: Value| object(json!({"status": {"hard": hard, "used": used}}));
        let quotas = [
            quota(
                json!({"pods": "10", "requests.cpu": "2", "requests.memory": "4Gi"}),
                json!({"pods": "9", "requests.cpu": "1500m"}),
            ),
            quota(json!({"cpu": "1", "persistentvolumeclaims": "1"}), json!({"cpu": "900m"})),
        ];
        let facts = namespace(&found, true, &quotas);
        assert_eq!((facts.ours, facts.enforces.as_deref()), (true, Some("baseline")));
        assert_eq!(
            (facts.left.pods, facts.left.cpu_millis, facts.left.memory),
            (Some(1), Some(100), Some(4 << 30))
        );
        assert_eq!(namespace(&found, false, &[]).left, existing::Left::default());
    }

    #[test]
    fn an_istiod_says_its_version_and_its_mesh() {
        let deployment = object(json!({
            "metadata": {"name": "istiod-canary", "namespace": "istio-system", "labels": {"app": "istiod", "istio.io/rev": "canary"}},
            "spec": {"selector": {}, "template": {"spec": {"containers": [{"name": "discovery",
                "image": "registry.example:5000/istio/pilot:1.30.4-distroless@sha256:00",
                "env": [{"name": "CLUSTER_ID", "value": "east"}]}]}}},
        }));
        let mut facts = istiod(&deployment, false);
        let map =
            object(json!({"data": {"mesh": "defaultConfig:\n  meshId: theirs\ntrustDomain: example.org\n"}}));
        mesh(&map, &mut facts.mesh);
        assert_eq!(
            (facts.name.as_str(), facts.revision.as_str(), facts.version.as_str()),
            ("istiod-canary", "canary", "1.30.4")
        );
        let is = &facts.mesh;
        assert_eq!(
            (is.cluster.as_str(), is.id.as_str(), is.trust_domain.as_str()),
            ("east", "theirs", "example.org")
        );
        let map = object(json!({"data": {"values": "{\"global\": {\"network\": \"vpc1\"}}"}}));
        injector(&map, &mut facts.mesh);
        assert_eq!(facts.mesh.proxy_network, "vpc1");
        mesh(&object(json!({})), &mut facts.mesh);
        assert_eq!(facts.mesh.trust_domain, "cluster.local");
    }

    #[test]
    fn webhooks_of_istio_are_recognized_by_their_service() {
        let of = |service: &str| json!({"webhooks": [{"clientConfig": {"service": {"name": service}}}, {"clientConfig": {"url": "x"}}]});
        assert!(calls_istiod(&of("istiod")) && calls_istiod(&of("istiod-canary")));
        assert!(!calls_istiod(&of("cert-manager")) && !calls_istiod(&json!({})));
    }

    #[test]
    fn nodes_have_each_pod_subnet_once() {
        let found = node(&object(
            json!({"metadata": {"name": "n"}, "spec": {"podCIDR": "10.4.0.0/24", "podCIDRs": ["10.4.0.0/24", "fd00::/64"]},
            "status": {"nodeInfo": {"architecture": "arm64", "bootID": "", "containerRuntimeVersion": "", "kernelVersion": "",
                "kubeProxyVersion": "", "kubeletVersion": "", "machineID": "", "operatingSystem": "linux", "osImage": "", "systemUUID": ""}}}),
        ));
        assert_eq!((found.name.as_str(), found.architecture.as_str()), ("n", "arm64"));
        assert_eq!(found.pod_subnets, ["10.4.0.0/24".parse().unwrap()]);
    }
}
