//! Kubeconfig files: the environment's, with every cluster, and the user's own, which changes only on request.

use std::path::{Path, PathBuf};

pub mod contexts;
pub mod entries;
mod lock;
mod user_file;

pub use user_file::{MERGE_TIMEOUT, merge_into, merged_into, remove_from, users_own};

use anyhow::Context;
use kube::config::Kubeconfig;

use crate::host::state::{self, Files};
use crate::plan::Plan;

/// Writes the environment's file, merged from the clusters' own; the current context is the first cluster with a caller.
///
/// # Errors
/// If one of them cannot be read, or the file cannot be written.
pub fn ensure(files: &Files, plan: &Plan) -> anyhow::Result<PathBuf> {
    let mut merged = Kubeconfig::default();
    for cluster in &plan.clusters {
        merged = merged.merge(read(&files.of_cluster(&cluster.name, "kubeconfig"))?)?;
    }
    let first = plan.samples.iter().flat_map(|samples| &samples.callers).next();
    let current = first.and_then(|name| plan.cluster(name)).or(plan.clusters.first());
    merged.current_context = current.map(|cluster| cluster.context.clone());
    let path = files.kubeconfig();
    state::write_private(&path, serde_yaml::to_string(&merged)?.as_bytes())?;
    Ok(path)
}

fn read(path: &Path) -> anyhow::Result<Kubeconfig> {
    Kubeconfig::read_from(path).with_context(|| format!("reading {}", path.display()))
}
