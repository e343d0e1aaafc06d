//! Istio's manifests, rendered by istioctl from its embedded charts. They are cached by version and values, since rendering
//! takes longer than anything else that needs no cluster.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use sha2::{Digest, Sha256};
use tokio::process::Command;

use crate::base::digest::hex;
use crate::base::event::Outcome;
use crate::host::state;
use crate::host::tool::{Found, process};
use crate::plan::Cluster;

/// The timeout of istioctl. Observed: one or two seconds.
const RENDER_TIMEOUT: Duration = Duration::from_secs(120);
/// The directory of the cache with rendered manifests.
pub const FOLDER: &str = "istio";

/// Returns the path of the cached manifests for one cluster.
///
/// # Errors
/// If the plan's values cannot be serialized as YAML.
pub fn kept(cache: &Path, cluster: &Cluster) -> anyhow::Result<PathBuf> {
    let mut digest = Sha256::new();
    digest.update(&cluster.istio_version);
    digest.update([0]);
    digest.update(serde_yaml::to_string(&cluster.istio)?);
    Ok(cache.join(FOLDER).join(format!("{}.yaml", hex(&digest.finalize()))))
}

/// Returns Istio's manifests for one cluster, from the cache or rendered by `istioctl`, which has the cluster's version.
///
/// # Errors
/// istioctl's, with its output.
pub async fn manifests(
    cache: &Path,
    cluster: &Cluster,
    istioctl: impl AsyncFnOnce() -> anyhow::Result<Found>,
) -> anyhow::Result<Outcome<String>> {
    let path = kept(cache, cluster)?;
    if let Ok(kept) = tokio::fs::read_to_string(&path).await {
        return Ok(Outcome::unchanged(kept));
    }
    let istioctl = istioctl().await?;
    let file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    std::fs::write(file.path(), serde_yaml::to_string(&cluster.istio)?).context("writing istioctl's input")?;
    let mut command = Command::new(&istioctl.path);
    // An empty kubeconfig: rendering must not depend on the user's current cluster.
    command.args(["manifest", "generate", "-f"]).arg(file.path()).env("KUBECONFIG", "/dev/null");
    let output = process::run_within(&mut command, RENDER_TIMEOUT)
        .await
        .with_context(|| format!("rendering Istio {} for {}", cluster.istio_version, cluster.name))?;
    let manifests = String::from_utf8(output.stdout).context("istioctl's output is not text")?;
    // Do not cache the output of another version, specified by KINDMESH_ISTIOCTL, under this name.
    if istioctl.version.trim_start_matches('v') == cluster.istio_version {
        state::write_private(&path, manifests.as_bytes())?;
    }
    Ok(Outcome::changed(manifests))
}
