//! Remote secrets, with which each cluster's istiod reads its peers.

use anyhow::Context;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, DynamicObject};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::ISTIO_NAMESPACE;
use super::{apply, istiod};
use crate::base::event::Step;
use crate::base::wait::{self, Poll};
use crate::cluster::refusal::{Record, Retries};

const READER_TOKEN: &str = include_str!("../../../mesh-manifests/istio/reader-token.yaml");
const REMOTE_SECRET: &str = include_str!("../../../mesh-manifests/istio/remote-secret.yaml");
/// The name of the Secret with the reader token.
pub(crate) const READER_TOKEN_NAME: &str = "istio-reader-service-account-istio-remote-secret-token";

/// What peers need to read a cluster.
#[derive(Clone)]
pub struct Reader {
    /// The certificate authority of its API server, PEM.
    pub(super) ca: Vec<u8>,
    /// A bearer token.
    token: String,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reader { .. }")
    }
}

impl Reader {
    /// Also trusts the certificate authorities (PEM) by which this host reaches the API server: peers may use the same address, behind
    /// a proxy with a certificate of its own.
    ///
    /// # Errors
    /// If the token's or these cannot be read.
    pub fn trusting(mut self, ca: &str) -> anyhow::Result<Self> {
        let known = pem::parse_many(&self.ca).context("reading the certificate authority of the reader token")?;
        for more in pem::parse_many(ca).context("reading the certificate authorities of the context")? {
            if known.iter().all(|known| known.contents() != more.contents()) {
                if self.ca.last() != Some(&b'\n') {
                    self.ca.push(b'\n');
                }
                self.ca.extend_from_slice(pem::encode(&more).as_bytes());
            }
        }
        Ok(self)
    }
}

/// Returns the Secret that Kubernetes fills with the reader token.
///
/// # Errors
/// If the built-in file is invalid.
pub fn token_objects() -> anyhow::Result<Vec<DynamicObject>> {
    apply::objects(READER_TOKEN)
}

/// Waits for the reader token. `record` is that of the cluster.
///
/// # Errors
/// The API server's, or if the token is missing at the deadline.
pub async fn reader(client: &Client, record: &Record, step: &Step, deadline: Instant) -> anyhow::Result<Reader> {
    let api: Api<Secret> = Api::namespaced(client.clone(), ISTIO_NAMESPACE);
    let what = "the reader token";
    let mut retries = Retries::new(record);
    wait::until(step, what, deadline, async || {
        let secret = match api.get_opt(READER_TOKEN_NAME).await {
            Ok(Some(secret)) => secret,
            Ok(None) => return retries.absent(what, format!("secret {READER_TOKEN_NAME} not found")),
            Err(error) => return retries.failed(what, error),
        };
        let data = secret.data.unwrap_or_default();
        let get = |key: &str| data.get(key).map(|value| value.0.clone());
        Ok(match (get("ca.crt"), get("token")) {
            (Some(ca), Some(token)) => {
                Poll::Ready(Reader { ca, token: String::from_utf8(token).context("the token is not text")? })
            }
            _ => Poll::NotYet(format!("secret {READER_TOKEN_NAME} has no token yet")),
        })
    })
    .await
}

/// Returns the name of the remote secret for a cluster.
pub fn secret_name(cluster: &str) -> String {
    format!("istio-remote-secret-{cluster}")
}

/// Returns the remote secret for a cluster, to apply in a peer that reaches its API server at `url`. It must be correct from the
/// start: istiod may not pick up a later correction (istio#58047).
///
/// # Errors
/// If the built-in file is invalid.
pub fn secret(name: &str, url: &str, reader: &Reader) -> anyhow::Result<DynamicObject> {
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {
            "server": url,
            "certificate-authority-data": ByteString(reader.ca.clone()),
        }}],
        "users": [{"name": name, "user": {"token": reader.token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    });
    let mut secret: Value = serde_yaml::from_str(REMOTE_SECRET)?;
    secret["metadata"]["name"] = json!(secret_name(name));
    secret["metadata"]["annotations"] = json!({"networking.istio.io/cluster": name});
    secret["data"] = json!({name: ByteString(serde_yaml::to_string(&kubeconfig)?.into_bytes())});
    apply::object(secret)
}

/// Waits until this cluster's istiod has synced every peer. `record` is that of the cluster.
///
/// # Errors
/// If it has not synced them by the deadline.
pub async fn wait_synced(
    client: &Client,
    peers: &[&str],
    record: &Record,
    step: &Step,
    deadline: Instant,
) -> anyhow::Result<()> {
    let what = "istiod to sync its peers";
    let mut retries = Retries::new(record);
    wait::until(step, what, deadline, async || match unsynced(client, peers).await {
        Ok(missing) if missing.is_empty() => Ok(Poll::Ready(())),
        Ok(missing) => Ok(Poll::NotYet(missing.join(", "))),
        Err(error) => retries.failed(what, error),
    })
    .await
}

/// Returns the peers that istiod has not synced, each with its status.
///
/// # Errors
/// If istiod does not respond.
pub async fn unsynced(client: &Client, peers: &[&str]) -> anyhow::Result<Vec<String>> {
    let mut missing = Vec::new();
    for known in istiod::remote_clusters(client).await? {
        missing.extend(peers.iter().filter_map(|peer| match known.iter().find(|cluster| cluster.id == *peer) {
            Some(cluster) if cluster.sync_status == "synced" => None,
            Some(cluster) => Some(format!("{peer} is {}", cluster.sync_status)),
            None => Some(format!("{peer} is not known yet")),
        }));
    }
    missing.dedup();
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_authorities_are_trusted_once() {
        let of = |content: &[u8]| pem::encode(&pem::Pem::new("CERTIFICATE", content));
        // As the API server's file may be.
        let reader = Reader { ca: of(b"own").trim_end().as_bytes().to_vec(), token: String::new() };
        let trusting = reader.trusting(&[of(b"proxy"), of(b"own")].concat()).unwrap();
        let all = pem::parse_many(&trusting.ca).unwrap();
        assert_eq!(all.iter().map(pem::Pem::contents).collect::<Vec<_>>(), [&b"own"[..], b"proxy"]);
        assert_eq!(trusting.clone().trusting(&of(b"proxy")).unwrap().ca, trusting.ca);
    }
}
