//! The east-west gateway of a cluster, through which pods of other Istio networks call its pods.

use std::net::IpAddr;

use anyhow::Context;
use k8s_openapi::api::core::v1::Service;
use kube::api::{Api, DeleteParams, DynamicObject};
use kube::{Client, ResourceExt};
use tokio::time::Instant;

use super::{ISTIO_NAMESPACE, apply, envoy};
use crate::base::event::Step;
use crate::base::names;
use crate::base::wait::{self, Poll};
use crate::cluster::objects::delete_if_exists;
use crate::cluster::refusal::{Record, Retries};
use crate::cluster::{kinds, pods};
use crate::host::docker::{Engine, node};
use crate::plan::{Cluster, Host};

/// The name of its Deployment and its Service.
pub const NAME: &str = names::GATEWAY;
/// The label of its pods.
pub const SELECTOR: &str = "istio=eastwestgateway";
/// The port for calls from other networks.
pub const PORT: u16 = names::GATEWAY_PORT;

/// What istioctl renders for it, and the object that lets calls through.
const PARTS: [(&str, &str, &str); 7] = [
    ("networking.istio.io/v1", "Gateway", "cross-network-gateway"),
    ("v1", "Service", NAME),
    ("apps/v1", "Deployment", NAME),
    ("policy/v1", "PodDisruptionBudget", NAME),
    ("rbac.authorization.k8s.io/v1", "RoleBinding", "istio-eastwestgateway-sds"),
    ("rbac.authorization.k8s.io/v1", "Role", "istio-eastwestgateway-sds"),
    ("v1", "ServiceAccount", "istio-eastwestgateway-service-account"),
];

const CROSS_NETWORK: &str = include_str!("../../../mesh-manifests/istio/cross-network.yaml");

/// Returns the objects that let calls through, besides those that istioctl renders.
///
/// # Errors
/// If the built-in file is invalid.
pub fn objects() -> anyhow::Result<Vec<DynamicObject>> {
    apply::objects(CROSS_NETWORK)
}

/// Whether a rendered object belongs to the gateway.
pub fn is_part(object: &DynamicObject) -> bool {
    object.labels().get("istio").is_some_and(|name| name == "eastwestgateway")
        || object.name_any().starts_with(NAME)
}

/// Deletes the gateway of a cluster. Returns whether it had one.
///
/// # Errors
/// The API server's.
pub async fn delete(client: &Client) -> anyhow::Result<bool> {
    let mut changed = false;
    for (api_version, kind, name) in PARTS {
        let api = kinds::api(client, api_version, kind, Some(ISTIO_NAMESPACE));
        let deleted = delete_if_exists(&api, name, &DeleteParams::default()).await;
        changed |= deleted.with_context(|| format!("deleting {kind} {name}"))?;
    }
    Ok(changed)
}

/// Returns the addresses of a cluster's gateway, IP addresses or host names: of the spec if it names some, else those that its
/// Service was assigned.
///
/// # Errors
/// The API server's.
pub async fn addresses(client: &Client, of_spec: &[String]) -> anyhow::Result<Vec<String>> {
    match of_spec {
        [] => addresses_of(client, NAME).await,
        given => Ok(given.to_vec()),
    }
}

/// Returns the addresses of a Service of type LoadBalancer in Istio's namespace, IP addresses or host names; none if it has none, or
/// does not exist.
///
/// # Errors
/// The API server's.
pub(super) async fn addresses_of(client: &Client, name: &str) -> anyhow::Result<Vec<String>> {
    let services: Api<Service> = Api::namespaced(client.clone(), ISTIO_NAMESPACE);
    let service = services.get_opt(name).await.with_context(|| format!("getting the Service {name}"))?;
    Ok(service.as_ref().map(addresses_in).unwrap_or_default())
}

/// Returns the addresses that a load balancer assigned to a Service, IP addresses or host names.
pub fn addresses_in(service: &Service) -> Vec<String> {
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let assigned = balancer.and_then(|balancer| balancer.ingress.as_ref()).into_iter().flatten();
    assigned.filter_map(|ingress| ingress.ip.clone().or_else(|| ingress.hostname.clone())).collect()
}

/// Whether the endpoints of a proxy are exactly the gateway with these addresses. istiod resolves host names: then each endpoint may
/// have any address, on the gateway's port.
pub fn are(endpoints: &[String], addresses: &[String]) -> bool {
    if addresses.iter().any(|address| address.parse::<IpAddr>().is_err()) {
        let on_port = |endpoint: &String| endpoint.ends_with(&format!(":{PORT}"));
        return !endpoints.is_empty() && endpoints.iter().all(on_port);
    }
    let mut expected: Vec<String> = addresses.iter().map(|address| format!("{address}:{PORT}")).collect();
    let mut endpoints = endpoints.to_vec();
    expected.sort();
    endpoints.sort();
    !expected.is_empty() && endpoints == expected
}

/// Waits until a cluster's gateway has at least this number of healthy endpoints for a port of a host. A call before that fails,
/// and the caller's circuit breaker then ejects the gateway. `record` is that of the cluster.
///
/// # Errors
/// If it has fewer by the deadline.
pub async fn wait_for_endpoints(
    client: &Client,
    cluster: &Cluster,
    (host, port): (&str, u16),
    wanted: usize,
    record: &Record,
    step: &Step,
    deadline: Instant,
) -> anyhow::Result<()> {
    let what = format!("the east-west gateway of {} to have all endpoints", cluster.name);
    let sni = envoy::through_gateway(port, host);
    let mut retries = Retries::new(record);
    wait::until(step, &what, deadline, async || {
        let known = async {
            let pods = pods::ready(client, ISTIO_NAMESPACE, SELECTOR).await?;
            let Some(pod) = pods.last() else { return Ok(None) };
            let said = envoy::page(client, ISTIO_NAMESPACE, &pod.name_any(), "clusters").await?;
            anyhow::Ok(Some(envoy::healthy(&said, &sni).len()))
        };
        match known.await {
            Ok(Some(known)) if known >= wanted => Ok(Poll::Ready(())),
            Ok(Some(known)) => Ok(Poll::NotYet(format!("{known} of {wanted} endpoints are known"))),
            Ok(None) => Ok(Poll::NotYet("no pod is ready".into())),
            Err(error) => retries.failed(&what, error),
        }
    })
    .await
}

/// Waits until a cluster's gateway accepts connections from a node of another cluster: kube-proxy forwards them only some time
/// after its pod is ready. Calls before that fail, and the caller's circuit breaker then ejects the gateway. `client` and
/// `record` are those of the gateway's cluster.
///
/// # Errors
/// If it does not by the deadline, or the engine reports an error.
pub async fn wait_for_connections(
    (client, cluster): (&Client, &Cluster),
    (engine, node): (&Engine, &str),
    record: &Record,
    step: &Step,
    deadline: Instant,
) -> anyhow::Result<()> {
    let what = format!("the east-west gateway of {} to accept connections", cluster.name);
    let mut retries = Retries::new(record);
    wait::until(step, &what, deadline, async || {
        let addresses = match addresses(client, cluster.gateways()).await {
            Ok(addresses) => addresses,
            Err(error) => return retries.failed(&what, error),
        };
        let Some(address) = addresses.first() else {
            return Ok(Poll::NotYet("it has no address".into()));
        };
        let connect = format!("exec 3<>/dev/tcp/{address}/{PORT}");
        let said = node::try_exec(engine, node, &["timeout", "2", "bash", "-c", &connect]).await?;
        Ok(match said.status {
            0 => Poll::Ready(()),
            _ => Poll::NotYet(format!("{node} cannot connect to {address}, port {PORT}: {}", said.stderr.trim())),
        })
    })
    .await
}

/// Waits until a cluster's gateway has an address: of a cluster that kind created, one of its node's range. `record` is that of the
/// cluster.
///
/// # Errors
/// If it has none by the deadline.
pub async fn wait_for_address(
    client: &Client,
    cluster: &Cluster,
    record: &Record,
    step: &Step,
    deadline: Instant,
) -> anyhow::Result<()> {
    let what = "the east-west gateway to have an address";
    let mut retries = Retries::new(record);
    wait::until(step, what, deadline, async || match addresses(client, cluster.gateways()).await {
        Ok(found) => Ok(match (&cluster.host, found.first()) {
            (Host::Kind(kind), None) => Poll::NotYet(format!(
                "it has none; docker exec {} journalctl -u kindmesh-balancer says why",
                kind.control_plane()
            )),
            (Host::Existing(_), None) => Poll::NotYet(format!(
                "its Service has none; kubectl --context {} -n {ISTIO_NAMESPACE} describe service {NAME} says why",
                cluster.context
            )),
            (Host::Kind(kind), Some(address)) if !address.parse().is_ok_and(|address| kind.balances(address)) => {
                Poll::NotYet(format!("{address} is not in its cluster's range"))
            }
            (_, Some(_)) => Poll::Ready(()),
        }),
        Err(error) => retries.failed(what, error),
    })
    .await
}

#[cfg(test)]
mod tests {
    #[test]
    fn endpoints_are_exactly_the_gateway() {
        let are = |endpoints: &[&str], addresses: &[&str]| {
            let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
            super::are(&owned(endpoints), &owned(addresses))
        };
        assert!(are(&["10.0.0.2:15443", "10.0.0.1:15443"], &["10.0.0.1", "10.0.0.2"]));
        // Another port, one more, one less, twice the same, or nothing.
        assert!(!are(&["10.0.0.1:8080"], &["10.0.0.1"]));
        assert!(!are(&["10.0.0.1:15443", "10.4.0.7:15443"], &["10.0.0.1"]));
        assert!(!are(&["10.0.0.1:15443"], &["10.0.0.1", "10.0.0.2"]));
        assert!(!are(&["10.0.0.1:15443", "10.0.0.1:15443"], &["10.0.0.1"]));
        assert!(!are(&[], &[]) && !are(&[], &["10.0.0.1"]) && !are(&[], &["gw.example"]));
        // A name was resolved; the port stays.
        assert!(are(&["198.51.100.7:15443"], &["gw.example"]));
        assert!(!are(&["198.51.100.7:8080"], &["gw.example"]));
    }
}
