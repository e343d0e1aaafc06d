//! Where a cluster holds its root of trust: the secret `cacerts`, and the config maps with which istiod publishes the root's
//! certificate. A snapshot has these objects without their data; a restored cluster gets them with new data.

use anyhow::Context;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Client;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};

use super::ISTIO_NAMESPACE;
use crate::host::trust::Intermediate;

/// The name of istiod's config map in every namespace.
const ROOT_CERT: &str = "istio-ca-root-cert";

/// Returns the objects of a cluster, as etcd has them, without their data.
///
/// # Errors
/// The API server's.
pub async fn objects(client: &Client) -> anyhow::Result<Vec<Value>> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), ISTIO_NAMESPACE);
    let config_maps: Api<ConfigMap> = Api::all(client.clone());
    let named = ListParams::default().fields(&format!("metadata.name={ROOT_CERT}"));
    let (cacerts, roots) = futures::try_join!(secrets.get("cacerts"), config_maps.list(&named))
        .context("reading where the cluster holds its root of trust")?;
    let mut objects = vec![blank(serde_json::to_value(cacerts)?, "Secret")];
    for root in roots {
        objects.push(blank(serde_json::to_value(root)?, "ConfigMap"));
    }
    Ok(objects)
}

fn blank(mut object: Value, kind: &str) -> Value {
    object["apiVersion"] = json!("v1");
    object["kind"] = json!(kind);
    object["data"] = json!({});
    // It is the revision of etcd's record, not part of it.
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
    }
    object
}

/// Returns the objects with the data of a cluster's intermediate CA.
pub fn with_trust(objects: &[Value], intermediate: &Intermediate) -> Vec<Value> {
    let secret: Value = intermediate
        .secret_data()
        .into_iter()
        .map(|(key, value)| (key, json!(k8s_openapi::ByteString(value))))
        .collect();
    let fill = |object: &Value| {
        let mut object = object.clone();
        object["data"] = match object["kind"].as_str() {
            Some("Secret") => secret.clone(),
            _ => json!({"root-cert.pem": intermediate.root_pem}),
        };
        object
    };
    objects.iter().map(fill).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_keep_everything_but_their_data() {
        let live = json!({"metadata": {"name": "cacerts", "uid": "u", "resourceVersion": "7"}, "data": {"ca-key.pem": "b2xk"}});
        let kept = blank(live, "Secret");
        assert_eq!(
            kept,
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "cacerts", "uid": "u"}, "data": {}})
        );
        let root = blank(json!({"metadata": {"name": ROOT_CERT}}), "ConfigMap");
        let new = Intermediate {
            cert_pem: "cert".into(),
            key_pem: "key".into(),
            chain_pem: "chain".into(),
            root_pem: "root".into(),
        };
        let filled = with_trust(&[kept, root], &new);
        assert_eq!(filled[0]["data"]["ca-key.pem"], "a2V5");
        assert_eq!(filled[0]["metadata"]["uid"], "u");
        assert_eq!(filled[1]["data"], json!({"root-cert.pem": "root"}));
    }
}
