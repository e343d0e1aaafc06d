//! One cluster and its Istio values: the files of `mesh-manifests/`, with the plan's decisions filled in and the user's
//! settings merged last.

use std::net::Ipv4Addr;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::control_plane::Exposed;
use super::inventory::EngineFacts;
use super::subnets::Subnets;
use super::{Cluster, KindCluster, Mesh, image_names};
use crate::base::error::Error;
use crate::base::names::{control_plane_name, kind_name, subject};
use crate::spec::merge::merge;
use crate::spec::{self, Spec};

const REMOTE: &str = include_str!("../../mesh-manifests/istio/remote.yaml");
const ISTIO: &str = include_str!("../../mesh-manifests/istio/operator.yaml");
const GATEWAY: &str = include_str!("../../mesh-manifests/istio/eastwest-gateway.yaml");

/// The networks of a cluster.
pub(super) struct Network<'a> {
    /// Istio's network of its pods.
    pub name: &'a str,
    /// The address of the Docker network's gateway.
    pub gateway: Ipv4Addr,
    /// Whether there are more Istio networks, so that each cluster has an east-west gateway.
    pub has_gateways: bool,
    /// The istiod that the cluster's proxies use, if remote clusters use it.
    pub exposed: Option<Exposed>,
}

pub(super) fn cluster(
    spec: &Spec,
    cluster: &spec::Cluster,
    identity: &str,
    subnets: Subnets,
    engine: &EngineFacts,
    mesh: &Mesh,
    network: &Network<'_>,
) -> Result<Cluster, Error> {
    let environment = spec.name.as_str();
    let name = cluster.name.as_str();
    let kind = KindCluster::of(spec, cluster, subnets, engine)?;
    let istio_version = spec.istio_version_of(cluster);
    Ok(Cluster {
        name: name.to_owned(),
        context: format!("kind-{}", kind.name),
        api_server: format!("https://{}:6443", control_plane_name(&kind_name(identity, name))),
        intermediate_subject: subject(environment, Some(spec.control_plane_of(cluster).name.as_str())).to_string(),
        primary: spec.primary_of(cluster).map(|primary| primary.name.to_string()),
        istiod_address: network.exposed.map(|exposed| exposed.address),
        istiod_through_gateway: network.exposed.is_some_and(|exposed| exposed.through_gateway),
        istio: istio(spec, cluster, mesh, network)?,
        istio_version: istio_version.to_owned(),
        istio_images: image_names::istio(&spec.mesh.hub, istio_version, spec.primary_of(cluster).is_some()),
        network: network.name.to_owned(),
        kind,
    })
}

fn istio(spec: &Spec, cluster: &spec::Cluster, mesh: &Mesh, network: &Network<'_>) -> Result<Value, Error> {
    let is_remote = spec.primary_of(cluster).is_some();
    let mut operator: Value = parse(if is_remote { REMOTE } else { ISTIO })?;
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
        patch["value"]["nameservers"] = json!([network.gateway]);
    }
    if network.has_gateways {
        let mut gateway: Value = parse(GATEWAY)?;
        let component = &mut gateway["spec"]["components"]["ingressGateways"][0];
        component["label"]["topology.istio.io/network"] = json!(network.name);
        component["k8s"]["env"][0]["value"] = json!(network.name);
        merge(&mut operator, gateway);
    }
    merge(&mut operator["spec"]["values"], json!(spec.mesh.values));
    Ok(operator)
}

/// Parses a built-in file.
pub(super) fn parse<T: DeserializeOwned>(yaml: &str) -> Result<T, Error> {
    serde_yaml::from_str(yaml).map_err(|error| Error::environment(format!("invalid built-in file: {error}")))
}
