//! Clients for the clusters' API servers.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};

/// How long one request may take: kind's API servers are on this machine.
const READ_WITHIN: Duration = Duration::from_secs(30);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// A client for the only cluster of a kubeconfig file.
///
/// # Errors
/// When the file cannot be read or used.
pub async fn connect(kubeconfig: &Path) -> anyhow::Result<Client> {
    let what = || format!("using {}", kubeconfig.display());
    let file = Kubeconfig::read_from(kubeconfig).with_context(what)?;
    let mut config =
        kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.with_context(what)?;
    // A proxy of the surroundings is never the way to a node of this machine.
    config.proxy_url = None;
    config.read_timeout = Some(READ_WITHIN);
    config.connect_timeout = Some(CONNECT_WITHIN);
    Client::try_from(config).with_context(what)
}
