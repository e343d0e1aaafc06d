//! Clients for the clusters' API servers.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use kube::Client;
use kube::client::{Body, ClientBuilder};
use kube::config::{KubeConfigOptions, Kubeconfig};
use tower::util::MapRequestLayer;

use crate::base::counts;

/// How long one request may take: kind's API servers are on this machine.
const READ_WITHIN: Duration = Duration::from_secs(30);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// A client for the only cluster of a kubeconfig file, each of whose requests is bounded in time.
///
/// # Errors
/// When the file cannot be read or used.
pub async fn connect(kubeconfig: &Path) -> anyhow::Result<Client> {
    open(kubeconfig, Some(READ_WITHIN)).await
}

/// The same for streams, a port-forward above all, that may be silent for long. Whoever uses it bounds the time.
///
/// # Errors
/// When the file cannot be read or used.
pub async fn connect_for_streams(kubeconfig: &Path) -> anyhow::Result<Client> {
    open(kubeconfig, None).await
}

async fn open(kubeconfig: &Path, read_within: Option<Duration>) -> anyhow::Result<Client> {
    let what = || format!("using {}", kubeconfig.display());
    let file = Kubeconfig::read_from(kubeconfig).with_context(what)?;
    let mut config =
        kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.with_context(what)?;
    // A proxy of the surroundings is never the way to a node of this machine.
    config.proxy_url = None;
    config.read_timeout = read_within;
    config.connect_timeout = Some(CONNECT_WITHIN);
    let counted = MapRequestLayer::new(|request: http::Request<Body>| {
        counts::kube_request();
        request
    });
    Ok(ClientBuilder::try_from(config).with_context(what)?.with_layer(&counted).build())
}

/// Whether trying again may help: the server is starting, or a webhook that just came up refuses once.
pub fn passes(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => {
            // Right after its start the server does not know its own roles yet.
            matches!(status.code, 401 | 403 | 404 | 409 | 429 | 500..=504)
                || status.message.contains("failed calling webhook")
        }
        kube::Error::HyperError(_) | kube::Error::Service(_) => true,
        _ => false,
    }
}
