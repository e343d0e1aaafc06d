//! Which istiod the proxies of each cluster use, and how those of remote clusters reach it.
//!
//! A primary with remote clusters exposes its istiod with a Service of type LoadBalancer that asks for an address: the last one of
//! the cluster's range, so that it is known before the cluster exists, and no Service gets that does not ask for it. If a remote cluster is on
//! another network, the Service leads through the primary's east-west gateway.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::subnets::Subnets;
use super::{Cluster, Plan};
use crate::spec::{self, Spec};

/// A primary's istiod, as remote clusters reach it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exposed {
    /// Its address.
    pub address: Ipv4Addr,
    /// Whether it is reached through the primary's east-west gateway.
    pub through_gateway: bool,
}

/// Returns how the istiod that a cluster's proxies use is exposed; none if no remote cluster uses it. `subnets` are those of the
/// clusters that kind creates.
pub(super) fn exposed(
    spec: &Spec,
    cluster: &spec::Cluster,
    subnets: &BTreeMap<String, Subnets>,
) -> Option<Exposed> {
    let primary = spec.control_plane_of(cluster);
    let mut remotes = remotes_of(spec, primary).peekable();
    remotes.peek()?;
    let through_gateway = remotes.any(|remote| spec.network_of(remote) != spec.network_of(primary));
    Some(Exposed { address: subnets.get(primary.name.as_str())?.balancers?.broadcast(), through_gateway })
}

/// Whether a cluster's range has too few addresses for its gateway and its istiod.
pub(super) fn lacks_addresses(spec: &Spec, subnets: &BTreeMap<String, Subnets>, has_gateways: bool) -> bool {
    spec.clusters.iter().any(|cluster| {
        let Some(own) = subnets.get(cluster.name.as_str()) else { return false };
        let needed = usize::from(has_gateways) + usize::from(remotes_of(spec, cluster).next().is_some());
        needed > own.balancers.map_or(0, |range| 1 << (32 - range.prefix_len()))
    })
}

fn remotes_of<'a>(spec: &'a Spec, primary: &'a spec::Cluster) -> impl Iterator<Item = &'a spec::Cluster> {
    let uses =
        move |cluster: &&spec::Cluster| spec.primary_of(cluster).is_some_and(|used| used.name == primary.name);
    spec.clusters.iter().filter(uses)
}

impl Cluster {
    /// Whether its proxies use the istiod of another cluster.
    pub fn is_remote(&self) -> bool {
        self.primary.is_some()
    }
}

impl Plan {
    /// Returns the cluster whose istiod a cluster's proxies use: itself, unless it is a remote cluster. Istio's objects take effect
    /// there.
    pub fn control_plane_of<'a>(&'a self, cluster: &'a Cluster) -> &'a Cluster {
        cluster.primary.as_ref().and_then(|primary| self.cluster(primary)).unwrap_or(cluster)
    }

    /// Returns the remote clusters whose proxies use a cluster's istiod.
    pub fn remotes_of<'a>(&'a self, primary: &'a Cluster) -> impl Iterator<Item = &'a Cluster> {
        self.clusters.iter().filter(|cluster| cluster.primary.as_ref() == Some(&primary.name))
    }
}
