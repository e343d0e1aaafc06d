//! A cluster in the document of a plan, which `kindmesh plan` prints and templates are found by. Its fields are on one level,
//! however the types of the plan divide them: scripts rely on their names.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::existing::Known;
use super::{Cluster, ExistingCluster, Host, KindCluster};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    name: &'a str,
    kind_name: &'a str,
    context: &'a str,
    nodes: &'a [String],
    node_image: &'a str,
    kubernetes_version: Option<&'a str>,
    cgroup_v1: bool,
    istio_version: &'a str,
    istio_images: &'a [String],
    api_server: &'a str,
    network: &'a str,
    pod_subnet: Ipv4Net,
    service_subnet: Ipv4Net,
    #[serde(skip_serializing_if = "Option::is_none")]
    balancers: Option<Ipv4Net>,
    #[serde(skip_serializing_if = "Option::is_none")]
    primary: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    istiod_address: Option<Ipv4Addr>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    istiod_through_gateway: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    intermediate_subject: Option<&'a str>,
    kind_config: &'a Value,
    istio: Option<&'a Value>,
}

impl Serialize for Cluster {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Each by its name: a field that is added to the plan has to be added here.
        let Self {
            name,
            context,
            istio_version,
            istio_images,
            api_server,
            network,
            primary,
            istiod_address,
            istiod_through_gateway,
            intermediate_subject,
            istio,
            host,
        } = self;
        let kind = match host {
            Host::Kind(kind) => kind,
            Host::Existing(existing) => return self.existing(existing).serialize(serializer),
        };
        let KindCluster {
            name: kind_name,
            // Part of the URL of its API server.
            host_name: _,
            nodes,
            node_image,
            kubernetes_version,
            cgroup_v1,
            pod_subnet,
            service_subnet,
            balancers,
            config: kind_config,
        } = kind;
        let document = Document {
            name,
            kind_name,
            context,
            nodes,
            node_image,
            kubernetes_version: kubernetes_version.as_deref(),
            cgroup_v1: *cgroup_v1,
            istio_version,
            istio_images,
            api_server,
            network,
            pod_subnet: *pod_subnet,
            service_subnet: *service_subnet,
            balancers: *balancers,
            primary: primary.as_deref(),
            istiod_address: *istiod_address,
            istiod_through_gateway: *istiod_through_gateway,
            intermediate_subject: intermediate_subject.as_deref(),
            kind_config,
            istio: istio.as_ref(),
        };
        document.serialize(serializer)
    }
}

/// The document of a cluster that exists. It has no subnet for Services, since nothing depends on it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Existing<'a> {
    name: &'a str,
    existing_context: &'a str,
    context: &'a str,
    uid: &'a str,
    server: &'a str,
    kubernetes_version: &'a str,
    istio_version: &'a str,
    istio_images: &'a [String],
    api_server: &'a str,
    network: &'a str,
    pod_subnets: &'a [Ipv4Net],
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    own_cacerts: bool,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    gateway_addresses: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    intermediate_subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    istio: Option<&'a Value>,
}

impl Cluster {
    fn existing<'a>(&'a self, existing: &'a ExistingCluster) -> Existing<'a> {
        let ExistingCluster { context, known, gateways } = existing;
        // Its Istio is the version below.
        let Known { uid, server, version, pod_subnets, cacerts, istio: _ } = known;
        Existing {
            name: &self.name,
            existing_context: context,
            context: &self.context,
            uid,
            server,
            kubernetes_version: version,
            istio_version: &self.istio_version,
            istio_images: &self.istio_images,
            api_server: &self.api_server,
            network: &self.network,
            pod_subnets,
            own_cacerts: *cacerts,
            gateway_addresses: gateways,
            intermediate_subject: self.intermediate_subject.as_deref(),
            istio: self.istio.as_ref(),
        }
    }
}
