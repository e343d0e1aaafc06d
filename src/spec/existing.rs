//! Clusters that exist: what the spec says about one, and which other fields of a cluster do not apply to it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use http::Uri;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problems::Problems;
use super::{Cluster, ControlPlane, Spec};

/// The east-west gateway of a cluster that exists.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Gateway {
    /// The addresses at which other clusters reach it, IPv4 addresses or host names. By default those of its Service of type
    /// LoadBalancer.
    pub addresses: Vec<String>,
}

/// The root of trust.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Trust {
    /// A directory with a directory for each cluster, named after it, with the four files of Istio's secret cacerts. By default
    /// kindmesh creates a root CA.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

impl Cluster {
    /// Whether it exists already. Otherwise kind creates it.
    pub fn exists(&self) -> bool {
        self.context.is_some()
    }
}

/// Returns the problems with clusters that exist: the path, what is wrong, and the fix.
pub(super) fn problems(spec: &Spec) -> Vec<(String, String, String)> {
    let mut found = Problems::default();
    let problems = &mut found;
    let mut contexts = BTreeMap::new();
    for (index, cluster) in spec.clusters.iter().enumerate() {
        let path = format!("clusters[{index}]");
        let Some(context) = &cluster.context else {
            of_kind(problems, &path, cluster);
            continue;
        };
        self::context(problems, &path, context);
        if let Some(first) = contexts.insert(context.as_str(), index) {
            let what = format!("{context:?} is also that of clusters[{first}]");
            problems.add(&format!("{path}.context"), what, "name another cluster, or remove one of the two");
        }
        not_of_kind(problems, &path, cluster);
        if let Some(url) = &cluster.api_server
            && let Some(why) = unusable_url(url)
        {
            let hint =
                "use the URL at which pods of other clusters reach the API server, such as https://10.0.0.5:6443";
            problems.add(&format!("{path}.apiServer"), format!("{url:?} {why}"), hint);
        }
        gateway(problems, spec, &path, cluster);
        alone(problems, spec, &path, cluster);
        control_plane(problems, spec, &path, cluster);
    }
    whole(problems, spec);
    found.0
}

/// Fields that only a cluster with a context has.
fn of_kind(problems: &mut Problems, path: &str, cluster: &Cluster) {
    let what = "is for clusters that exist";
    let hint = "set context, or remove it: kind creates this cluster";
    if cluster.api_server.is_some() {
        problems.add(&format!("{path}.apiServer"), what, hint);
    }
    if cluster.gateway != Gateway::default() {
        problems.add(&format!("{path}.gateway.addresses"), what, hint);
    }
}

/// Fields that only a cluster without a context has.
fn not_of_kind(problems: &mut Problems, path: &str, cluster: &Cluster) {
    let set = [
        ("workers", cluster.workers != 0),
        ("region", !cluster.region.is_empty()),
        ("zone", !cluster.zone.is_empty()),
        ("podSubnet", !cluster.pod_subnet.is_auto()),
        ("serviceSubnet", !cluster.service_subnet.is_auto()),
        ("kubernetes.nodeImage", cluster.kubernetes.node_image.is_some()),
        ("kind", !cluster.kind.is_empty()),
    ];
    for (field, _) in set.into_iter().filter(|(_, set)| *set) {
        let what = "is for clusters that kind creates";
        problems.add(&format!("{path}.{field}"), what, "remove it: a cluster with a context stays as it is");
    }
}

fn context(problems: &mut Problems, path: &str, context: &str) {
    let path = format!("{path}.context");
    let hint = "use a name that kubectl config get-contexts shows";
    // The current context is whatever the user looked at last.
    if context.is_empty() {
        problems.add(&path, "is empty: a cluster is never found by the current context", hint);
    } else if context.chars().any(char::is_control) || context.trim() != context {
        problems.add(&path, format!("{context:?} has control characters, or spaces at an end"), hint);
    }
}

fn gateway(problems: &mut Problems, spec: &Spec, path: &str, cluster: &Cluster) {
    let addresses = &cluster.gateway.addresses;
    if addresses.is_empty() {
        return;
    }
    let path = format!("{path}.gateway.addresses");
    let networks = spec.clusters.iter().map(|cluster| spec.network_of(cluster));
    if networks.clone().all(|network| network == spec.network_of(&spec.clusters[0])) {
        let what = "has no effect: all clusters are on one network, so none has a gateway";
        return problems.add(&path, what, "remove it, or set clusters[].network");
    }
    for (index, address) in addresses.iter().enumerate() {
        let path = format!("{path}[{index}]");
        if let Some(why) = unusable_host(address) {
            let hint = "use an IPv4 address or a host name that pods of other clusters reach, without a port";
            problems.add(&path, format!("{address:?} {why}"), hint);
        } else if addresses[..index].contains(address) {
            problems.add(&path, format!("{address:?} is listed twice"), "remove one of them");
        }
    }
}

/// kindmesh makes no routes on a cluster that exists, and the Docker network ends at its host.
fn alone(problems: &mut Problems, spec: &Spec, path: &str, cluster: &Cluster) {
    let network = spec.network_of(cluster);
    let other = spec.clusters.iter().find(|other| !other.exists() && spec.network_of(other) == network);
    if let Some(other) = other {
        let what = format!(
            "is also the network of cluster {}, which kind creates: there are no routes between their pods",
            other.name
        );
        let hint = format!("give it a network of its own, such as network: {}", cluster.name);
        problems.add(&format!("{path}.network"), what, hint);
    }
}

/// The address of an exposed istiod has to be known before the remote cluster is set up, as only that of a cluster of kind is.
fn control_plane(problems: &mut Problems, spec: &Spec, path: &str, cluster: &Cluster) {
    if cluster.mesh.control_plane == ControlPlane::Remote {
        let what = "is remote, but a cluster that exists has its own istiod";
        return problems.add(&format!("{path}.mesh.controlPlane"), what, "omit it");
    }
    let uses = |other: &Cluster| spec.primary_of(other).is_some_and(|primary| primary.name == cluster.name);
    if let Some((index, _)) = spec.clusters.iter().enumerate().find(|(_, other)| uses(other)) {
        let what = format!("is remote, but its primary would be {}, which exists already", cluster.name);
        let hint = "set mesh.primary to a cluster that kind creates";
        problems.add(&format!("clusters[{index}].mesh.controlPlane"), what, hint);
    }
}

/// Fields of the spec as a whole.
fn whole(problems: &mut Problems, spec: &Spec) {
    let exists = |cluster: &Cluster| cluster.exists();
    if !spec.mesh.install {
        uses_istio(problems, spec);
    }
    if spec.mesh.install && spec.trust.from.as_deref().is_some_and(str::is_empty) {
        problems.add("trust.from", "is empty", "name a directory, or omit it to let kindmesh create a root CA");
    }
    if !spec.network.subnet.is_auto() && !spec.clusters.is_empty() && spec.clusters.iter().all(exists) {
        let what = "has no effect: kind creates none of the clusters, so there is no Docker network";
        problems.add("network.subnet", what, "remove it");
    }
    let samples = &spec.samples;
    let has_samples = |cluster: &&Cluster| {
        samples.caller.clusters.contains(&cluster.name) || samples.producer.clusters.contains(&cluster.name)
    };
    let first = spec.clusters.iter().filter(|cluster| cluster.exists()).find(has_samples);
    if let (true, true, Some(cluster)) = (samples.enabled, samples.image.is_empty(), first) {
        let what = format!("is empty, but the nodes of cluster {} have to pull it", cluster.name);
        problems.add("samples.image", what, "use an image in a registry, or set samples.enabled: false");
    }
}

/// Fields that only an Istio has that kindmesh installs.
fn uses_istio(problems: &mut Problems, spec: &Spec) {
    if let Some(of_kind) = spec.clusters.iter().find(|cluster| !cluster.exists()) {
        let what = format!("is false, but kind creates cluster {}, which has no Istio", of_kind.name);
        problems.add("mesh.install", what, "remove it, or set the context of every cluster");
    }
    let no_effect = "has no effect with mesh.install: false";
    if !spec.mesh.values.is_empty() {
        problems.add("mesh.values", no_effect, "remove it: the Istio in the clusters is used as it is");
    }
    for (index, _) in spec.clusters.iter().enumerate().filter(|(_, cluster)| cluster.mesh.version.is_some()) {
        let hint = "remove it: the version is that of the Istio in the cluster";
        problems.add(&format!("clusters[{index}].mesh.version"), no_effect, hint);
    }
    if spec.trust.from.is_some() {
        problems.add("trust.from", no_effect, "remove it: the secrets cacerts in the clusters are used");
    }
    let addresses = |cluster: &Cluster| !cluster.gateway.addresses.is_empty();
    for (index, _) in spec.clusters.iter().enumerate().filter(|(_, cluster)| addresses(cluster)) {
        let hint = "remove it: the Istio in the clusters knows the addresses of its gateways";
        problems.add(&format!("clusters[{index}].gateway.addresses"), no_effect, hint);
    }
}

/// Returns why peers cannot use a URL of an API server; none if they may.
fn unusable_url(text: &str) -> Option<&'static str> {
    let Ok(url) = text.parse::<Uri>() else { return Some("is not a URL") };
    if url.scheme_str() != Some("https") {
        return Some("is not an https:// URL");
    }
    if url.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Some("has a user: peers get a token of their own");
    }
    if url.query().is_some() {
        return Some("has a query");
    }
    unusable_host(url.host().unwrap_or_default().trim_matches(['[', ']']))
}

/// Returns why other clusters cannot use a host; none if they may.
fn unusable_host(text: &str) -> Option<&'static str> {
    let loopback = Some("is a loopback address, which is another host in each pod");
    match text.parse::<IpAddr>() {
        Ok(address) if address.is_loopback() => loopback,
        Ok(address) if address.is_unspecified() => Some("is no address of a host"),
        Ok(IpAddr::V6(_)) => Some("is IPv6: only IPv4 is supported"),
        Ok(IpAddr::V4(_)) => None,
        Err(_) if text == "localhost" || text.ends_with(".localhost") => loopback,
        Err(_) if is_host_name(text) => None,
        Err(_) => Some("has no valid host"),
    }
}

/// Whether text is a DNS name (RFC 1123). One of digits and dots alone would be an invalid address.
fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || c == '-';
        (1..=63).contains(&label.len())
            && label.chars().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    text.len() <= 253 && text.split('.').all(is_label) && !last.chars().all(|c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_that_peers_may_reach_are_usable() {
        for good in ["10.0.0.5", "gateway.example.com", "a1b2.elb.eu-west-1.amazonaws.com", "node-1"] {
            assert_eq!(unusable_host(good), None, "{good}");
        }
        let bad = [
            "",
            "127.0.0.1",
            "::1",
            "0.0.0.0",
            "localhost",
            "a.localhost",
            "fd00::1",
            "10.0.0",
            "-a",
            "a..b",
            "a b",
            "a:443",
        ];
        for bad in bad {
            assert!(unusable_host(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn api_server_is_an_https_url() {
        for good in
            ["https://10.0.0.5:6443", "https://api.example.com", "https://rancher.example.com/k8s/clusters/c-1"]
        {
            assert_eq!(unusable_url(good), None, "{good}");
        }
        let bad = [
            "",
            "10.0.0.5:6443",
            "http://a",
            "https://",
            "https://127.0.0.1:6443",
            "https://u@a",
            "https://a?b",
            "https://[::1]:6443",
        ];
        for bad in bad {
            assert!(unusable_url(bad).is_some(), "{bad}");
        }
    }
}
