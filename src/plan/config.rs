//! One cluster and its Istio values: the files of `mesh-manifests/`, with the plan's decisions filled in and the user's
//! settings merged last.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::control_plane::Exposed;
use super::{Cluster, Host, Mesh, image_names};
use crate::base::error::Error;
use crate::base::names::{API_PORT, GATEWAY_PORT, existing_context, subject};
use crate::spec::merge::merge;
use crate::spec::{self, Spec};

const REMOTE: &str = include_str!("../../mesh-manifests/istio/remote.yaml");
const ISTIO: &str = include_str!("../../mesh-manifests/istio/operator.yaml");
const KIND: &str = include_str!("../../mesh-manifests/istio/kind.yaml");
const EXISTING: &str = include_str!("../../mesh-manifests/istio/existing.yaml");
const GATEWAY: &str = include_str!("../../mesh-manifests/istio/eastwest-gateway.yaml");

/// The networks of a cluster.
pub(super) struct Network<'a> {
    /// Istio's network of its pods.
    pub name: &'a str,
    /// The address of the Docker network's DNS server, if there is such a network.
    pub nameserver: Option<Ipv4Addr>,
    /// Whether there are more Istio networks, so that each cluster has an east-west gateway.
    pub has_gateways: bool,
    /// The istiod that the cluster's proxies use, if remote clusters use it.
    pub exposed: Option<Exposed>,
}

pub(super) fn cluster(
    spec: &Spec,
    cluster: &spec::Cluster,
    host: Host,
    mesh: &Mesh,
    network: &Network<'_>,
) -> Result<Cluster, Error> {
    let (environment, name) = (spec.name.as_str(), cluster.name.as_str());
    let (context, api_server) = match &host {
        Host::Kind(kind) => (format!("kind-{}", kind.name), format!("https://{}:{API_PORT}", kind.host_name)),
        Host::Existing(existing) => {
            let server = cluster.api_server.as_ref().unwrap_or(&existing.known.server);
            (existing_context(environment, name), server.clone())
        }
    };
    let istio_version = match host.existing().filter(|_| !spec.mesh.install) {
        Some(existing) => existing.known.istio.as_str(),
        None => spec.istio_version_of(cluster),
    };
    let istio = spec.mesh.install.then(|| istio(spec, cluster, mesh, network)).transpose()?;
    Ok(Cluster {
        name: name.to_owned(),
        context,
        api_server,
        intermediate_subject: mesh
            .root_subject
            .is_some()
            .then(|| subject(environment, Some(spec.control_plane_of(cluster).name.as_str())).to_string()),
        primary: spec.primary_of(cluster).map(|primary| primary.name.to_string()),
        istiod_address: network.exposed.map(|exposed| exposed.address),
        istiod_through_gateway: network.exposed.is_some_and(|exposed| exposed.through_gateway),
        istio_images: istio.as_ref().map(image_names::istio::images).unwrap_or_default(),
        istio,
        istio_version: istio_version.to_owned(),
        network: network.name.to_owned(),
        host,
    })
}

fn istio(spec: &Spec, cluster: &spec::Cluster, mesh: &Mesh, network: &Network<'_>) -> Result<Value, Error> {
    let is_remote = spec.primary_of(cluster).is_some();
    let mut operator: Value = parse(if is_remote { REMOTE } else { ISTIO })?;
    match (is_remote, cluster.exists()) {
        (true, _) => {}
        (false, true) => merge(&mut operator, parse(EXISTING)?),
        (false, false) => merge(&mut operator, parse(KIND)?),
    }
    let ours = json!({"spec": {
        "hub": spec.mesh.hub,
        "tag": spec.istio_version_of(cluster),
        "values": {"global": {
            "meshID": mesh.id,
            "network": network.name,
            "multiCluster": {"clusterName": cluster.name},
        }},
    }});
    merge(&mut operator, ours);
    let values = &mut operator["spec"]["values"];
    match network.exposed {
        Some(exposed) if is_remote => {
            values["global"]["remotePilotAddress"] = json!(exposed.address);
            let path = format!("/inject/cluster/{}/net/{}", cluster.name, network.name);
            values["istiodRemote"]["injectionPath"] = json!(path);
        }
        // istiod then also injects pods of remote clusters, and writes its root certificate into their namespaces.
        Some(_) => values["global"]["externalIstiod"] = json!(true),
        None => {}
    }
    let patches =
        operator.pointer_mut("/spec/components/pilot/k8s/overlays/0/patches").and_then(Value::as_array_mut);
    let names = patches.into_iter().flatten().find(|patch| patch["path"] == "spec.template.spec.dnsConfig");
    if let Some(patch) = names {
        patch["value"]["nameservers"] = json!([network.nameserver]);
    }
    if network.has_gateways {
        let networks = mesh_networks(spec, cluster);
        if !networks.is_empty() {
            operator["spec"]["values"]["global"]["meshNetworks"] = json!(networks);
        }
        let mut gateway: Value = parse(GATEWAY)?;
        let component = &mut gateway["spec"]["components"]["ingressGateways"][0];
        let (_, on_nodes) = named_and_on_nodes(cluster);
        if !on_nodes.is_empty() {
            component["k8s"]["service"]["type"] = json!("ClusterIP");
            component["k8s"]["service"]["externalIPs"] = json!(on_nodes);
        }
        component["label"]["topology.istio.io/network"] = json!(network.name);
        component["k8s"]["env"][0]["value"] = json!(network.name);
        merge(&mut operator, gateway);
    }
    merge(&mut operator["spec"]["values"], json!(spec.mesh.values));
    Ok(operator)
}

/// Returns the host names among the addresses that the spec has for a cluster's gateway, and the IP addresses.
fn named_and_on_nodes(cluster: &spec::Cluster) -> (Vec<&str>, Vec<&str>) {
    let addresses = cluster.gateway.addresses.iter().map(String::as_str);
    addresses.partition(|address| address.parse::<Ipv4Addr>().is_err())
}

/// Returns Istio's `meshNetworks` with the gateways of other networks that the spec names by host name. An IP address becomes an
/// external IP of the gateway's Service, where istiod finds it, and kube-proxy accepts connections to it on every node.
fn mesh_networks(spec: &Spec, cluster: &spec::Cluster) -> BTreeMap<String, Value> {
    let mut networks: BTreeMap<String, Value> = BTreeMap::new();
    for peer in spec.clusters.iter().filter(|peer| spec.network_of(peer) != spec.network_of(cluster)) {
        let (named, _) = named_and_on_nodes(peer);
        let Some(network) = spec.network_of(peer).filter(|_| !named.is_empty()) else { continue };
        let entry = networks.entry(network.to_owned()).or_insert_with(|| json!({"endpoints": [], "gateways": []}));
        let gateways = named.into_iter().map(|address| json!({"address": address, "port": GATEWAY_PORT}));
        for (list, items) in
            [("endpoints", vec![json!({"fromRegistry": peer.name})]), ("gateways", gateways.collect())]
        {
            if let Some(list) = entry[list].as_array_mut() {
                list.extend(items);
            }
        }
    }
    networks
}

/// Parses a built-in file.
pub(super) fn parse<T: DeserializeOwned>(yaml: &str) -> Result<T, Error> {
    serde_yaml::from_str(yaml).map_err(|error| Error::environment(format!("invalid built-in file: {error}")))
}
