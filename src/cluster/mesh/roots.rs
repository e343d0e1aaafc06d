//! The objects of a cluster that a restored one may need with other content:
//!
//! - those that hold its root of trust: the secret `cacerts`, and the config maps with which istiod publishes the root's
//!   certificate. A snapshot has them without their data.
//! - the config maps with which Kubernetes publishes the certificate of its CA, likewise without their data.
//! - those that run istiod: they contain the address of the network's gateway.
//! - Services of type LoadBalancer: they have addresses of the network.

use std::net::Ipv4Addr;

use anyhow::Context;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service};
use kube::Client;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};

use super::istio::ISTIOD;
use super::{ISTIO_NAMESPACE, cacerts};
use crate::host::trust::Intermediate;

/// The name of istiod's config map in every namespace.
const ROOT_CERT: &str = "istio-ca-root-cert";
/// The name of Kubernetes' config map in every namespace.
const KUBERNETES_CERT: &str = "kube-root-ca.crt";

/// Returns the objects of a cluster, as etcd has them, without the data of those that hold its root of trust.
///
/// # Errors
/// The API server's.
pub async fn objects(client: &Client) -> anyhow::Result<Vec<Value>> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), ISTIO_NAMESPACE);
    let config_maps: Api<ConfigMap> = Api::all(client.clone());
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), ISTIO_NAMESPACE);
    let replica_sets: Api<ReplicaSet> = Api::namespaced(client.clone(), ISTIO_NAMESPACE);
    let pods: Api<Pod> = Api::namespaced(client.clone(), ISTIO_NAMESPACE);
    let services: Api<Service> = Api::all(client.clone());
    let balanced = ListParams::default().fields("spec.type=LoadBalancer");
    let named = |name: &str| ListParams::default().fields(&format!("metadata.name={name}"));
    let (istio, kubernetes) = (named(ROOT_CERT), named(KUBERNETES_CERT));
    let istiod = ListParams::default().labels(&format!("app={ISTIOD}"));
    let (cacerts, roots, kubernetes, deployments, replica_sets, pods, services) = futures::try_join!(
        secrets.get_opt("cacerts"),
        config_maps.list(&istio),
        config_maps.list(&kubernetes),
        deployments.list(&istiod),
        replica_sets.list(&istiod),
        pods.list(&istiod),
        services.list(&balanced)
    )
    .context("reading what a restored cluster may need with other content")?;
    // A remote cluster has none.
    let cacerts = cacerts.iter().map(|secret| Ok(without_data(stored(secret)?)));
    let mut objects = cacerts.collect::<anyhow::Result<Vec<_>>>()?;
    for root in roots.iter().chain(&kubernetes) {
        objects.push(without_data(stored(root)?));
    }
    objects.extend(deployments.iter().map(stored).collect::<Result<Vec<_>, _>>()?);
    objects.extend(replica_sets.iter().map(stored).collect::<Result<Vec<_>, _>>()?);
    objects.extend(pods.iter().map(stored).collect::<Result<Vec<_>, _>>()?);
    objects.extend(services.iter().map(stored).collect::<Result<Vec<_>, _>>()?);
    Ok(objects)
}

/// Returns an object as it is stored: without the resource version, which is the revision of etcd's record.
fn stored<K: k8s_openapi::Resource + serde::Serialize>(object: &K) -> anyhow::Result<Value> {
    let mut object = serde_json::to_value(object)?;
    object["apiVersion"] = json!(K::API_VERSION);
    object["kind"] = json!(K::KIND);
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
    }
    Ok(object)
}

fn without_data(mut object: Value) -> Value {
    object["data"] = json!({});
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
        // kubectl keeps the data of what it applied in an annotation.
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
    }
    object
}

/// Returns the objects to replace: those that hold the root of trust with the data of this intermediate CA, if it is another
/// one; those that run istiod with this address of the gateway, if it is another one; Services without their addresses, unless
/// all of them are `kept`.
pub fn changed(
    objects: &[Value],
    trust: Option<&Intermediate>,
    gateway: Option<Ipv4Addr>,
    kept: impl Fn(Ipv4Addr) -> bool,
) -> Vec<Value> {
    objects.iter().filter_map(|object| change(object.clone(), trust, gateway, &kept)).collect()
}

/// Returns the objects to replace so that they publish this certificate of Kubernetes' CA.
pub fn of_kubernetes(objects: &[Value], ca_pem: &str) -> Vec<Value> {
    let published = objects.iter().filter(|object| is_config_map(object, KUBERNETES_CERT)).cloned();
    let with_data = published.map(|mut object| {
        object["data"] = json!({"ca.crt": ca_pem});
        object
    });
    with_data.collect()
}

fn is_config_map(object: &Value, name: &str) -> bool {
    object["kind"] == "ConfigMap" && object["metadata"]["name"] == name
}

fn change(
    mut object: Value,
    trust: Option<&Intermediate>,
    gateway: Option<Ipv4Addr>,
    kept: impl Fn(Ipv4Addr) -> bool,
) -> Option<Value> {
    match object["kind"].as_str()? {
        "Secret" => object["data"] = cacerts::data(trust?),
        "ConfigMap" if !is_config_map(&object, ROOT_CERT) => return None,
        "ConfigMap" => object["data"] = json!({"root-cert.pem": trust?.root_pem}),
        "Service" => {
            let ingress = object["status"]["loadBalancer"]["ingress"].as_array()?;
            let mut addresses = ingress.iter().filter_map(|ingress| ingress["ip"].as_str()?.parse().ok());
            if addresses.all(kept) {
                return None;
            }
            object["status"] = json!({"loadBalancer": {}});
        }
        _ => {
            let nameservers = ["/spec/template/spec/dnsConfig/nameservers", "/spec/dnsConfig/nameservers"]
                .into_iter()
                .find(|path| object.pointer(path).is_some())?;
            *object.pointer_mut(nameservers)? = json!([gateway?]);
        }
    }
    Some(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_changed_only_where_needed() {
        let secret: Secret = serde_json::from_value(json!({"metadata": {"name": "cacerts", "uid": "u",
            "resourceVersion": "7"}, "data": {"ca-key.pem": "b2xk"}}))
        .unwrap();
        let secret = without_data(stored(&secret).unwrap());
        let metadata = json!({"name": "cacerts", "uid": "u"});
        assert_eq!(secret, json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {}}));
        let root = json!({"kind": "ConfigMap", "metadata": {"name": ROOT_CERT}, "data": {}});
        let dns = json!({"dnsConfig": {"nameservers": ["172.30.0.1"]}});
        let deployment = json!({"kind": "Deployment", "spec": {"template": {"spec": dns}}});
        let pod = json!({"kind": "Pod", "spec": dns});
        let foreign = json!({"kind": "Pod", "spec": {}});
        let service =
            json!({"kind": "Service", "status": {"loadBalancer": {"ingress": [{"ip": "172.30.0.128"}]}}});
        let kubernetes = json!({"kind": "ConfigMap", "metadata": {"name": KUBERNETES_CERT}, "data": {}});
        let all = [secret, root, kubernetes, deployment, pod, foreign, service];
        let published = of_kubernetes(&all, "pem");
        assert_eq!((published.len(), &published[0]["data"]), (1, &json!({"ca.crt": "pem"})));

        let trust = Intermediate {
            cert_pem: "cert".into(),
            key_pem: "key".into(),
            chain_pem: "chain".into(),
            root_pem: "root".into(),
        };
        assert!(changed(&all, None, None, |_| true).is_empty());
        let with_trust = changed(&all, Some(&trust), None, |_| true);
        assert_eq!(with_trust.len(), 2);
        assert_eq!(
            (&with_trust[0]["data"]["ca-key.pem"], &with_trust[0]["metadata"]["uid"]),
            (&json!("a2V5"), &json!("u"))
        );
        assert_eq!(with_trust[1]["data"], json!({"root-cert.pem": "root"}));
        let moved = changed(&all, None, Some([172, 30, 9, 1].into()), |_| false);
        assert_eq!(moved.len(), 3);
        assert_eq!(moved[2]["status"], json!({"loadBalancer": {}}));
        assert_eq!(moved[0].pointer("/spec/template/spec/dnsConfig/nameservers"), Some(&json!(["172.30.9.1"])));
        assert_eq!(moved[1].pointer("/spec/dnsConfig/nameservers"), Some(&json!(["172.30.9.1"])));
    }
}
