//! The resources that clusters need, calculated from measurements (docs/performance.md, "Scale").

use std::collections::BTreeSet;
use std::fmt;

use crate::spec::Spec;

/// The resources that an idle environment needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// The minimum memory, in bytes.
    pub memory: u64,
    /// The recommended memory, in bytes: enough for pods to survive load.
    pub memory_wanted: u64,
    /// The number of inotify instances (`fs.inotify.max_user_instances`).
    pub watchers: u64,
    /// The number of remote secrets: each cluster with an istiod has one for every other cluster.
    pub remote_secrets: u64,
}

/// A cluster with a control plane, the mesh and the samples.
const CLUSTER: Size = Size { memory: 700_000_000, memory_wanted: 1_900_000_000, watchers: 33, remote_secrets: 0 };
/// Each additional worker.
const WORKER: Size = Size { memory: 200_000_000, memory_wanted: 400_000_000, watchers: 14, remote_secrets: 0 };
/// An east-west gateway. Its resident memory was 32 MB on 2026-11-27, in the test lab.
const GATEWAY: Size = Size { memory: 32_000_000, memory_wanted: 100_000_000, watchers: 2, remote_secrets: 0 };

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gigabytes = |bytes: u64| bytes as f64 / 1e9;
        let Self { watchers, remote_secrets, .. } = self;
        write!(
            f,
            "{:.1} GB of memory when idle ({:.1} recommended), ",
            gigabytes(self.memory),
            gigabytes(self.memory_wanted)
        )?;
        write!(f, "{watchers} inotify instances, {remote_secrets} remote secrets")
    }
}

impl Size {
    /// Returns the resources that a spec needs on the host: those of clusters that kind creates.
    pub fn of(spec: &Spec) -> Self {
        let clusters = spec.kind_clusters().count() as u64;
        let workers = spec.clusters.iter().map(|cluster| u64::from(cluster.workers)).sum::<u64>();
        let networks: BTreeSet<_> = spec.clusters.iter().map(|cluster| spec.network_of(cluster)).collect();
        let gateways = if networks.len() > 1 { clusters } else { 0 };
        let primaries = spec.clusters.iter().filter(|cluster| spec.primary_of(cluster).is_none()).count() as u64;
        let sum = |of: fn(&Self) -> u64| clusters * of(&CLUSTER) + workers * of(&WORKER) + gateways * of(&GATEWAY);
        Self {
            memory: sum(|size| size.memory),
            memory_wanted: sum(|size| size.memory_wanted),
            watchers: sum(|size| size.watchers),
            remote_secrets: primaries * (spec.clusters.len() as u64).saturating_sub(1),
        }
    }
}
