//! The subnets of an environment: those it already has, else those of the spec, else free ones.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv4Net;

use super::addresses::{self, Allocator};
use super::admission;
use super::inventory::{ClusterSubnets, Environment, Inventory};
use crate::base::error::Error;
use crate::spec::subnets::{Use, may_overlap, overlaps};
use crate::spec::{self, Spec, Subnet};

/// The subnets of a cluster.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subnets {
    pub pods: Ipv4Net,
    pub services: Ipv4Net,
    /// The part of the Docker network for its Services of type LoadBalancer.
    pub balancers: Option<Ipv4Net>,
}

impl Subnets {
    fn of(&self, of: Use) -> Ipv4Net {
        match of {
            Use::Pods => self.pods,
            Use::Services => self.services,
        }
    }
}

/// The subnets of an environment.
#[derive(Debug)]
pub(super) struct Assigned {
    /// The subnet of the Docker network.
    pub network: Ipv4Net,
    /// Those of each cluster that kind creates, by its name.
    pub clusters: BTreeMap<String, Subnets>,
    /// Allocates further ones.
    pub addresses: Allocator,
}

/// Assigns all subnets.
///
/// # Errors
/// A usage error if one of the spec is in use or differs from an existing one; a missing prerequisite if none is free.
pub(super) fn assign(spec: &Spec, existing: &Environment, inventory: &Inventory) -> Result<Assigned, Error> {
    let mut addresses = Allocator::new(
        inventory.taken.iter().filter(|taken| Some(taken.subnet) != existing.subnet).cloned().collect(),
    );
    for cluster in spec.kind_clusters() {
        for of in Use::ALL {
            let known = known(existing, cluster, of);
            let taken = cluster.subnet_for(of).and_then(|wanted| addresses.owner(&wanted));
            admission::cluster_subnet(spec, cluster, of, known, taken)?;
        }
    }
    // First reserve the subnets in use, including those of clusters that the spec no longer lists.
    for (name, known) in existing.clusters.iter().chain(&existing.removed) {
        for of in Use::ALL {
            if let Some(net) = known.of(of) {
                addresses.take(net, format!("{} of cluster {name}", of.name()));
            }
        }
    }
    // Also before the Docker network gets a free one.
    for cluster in spec.kind_clusters() {
        for of in Use::ALL {
            if let Some(net) = cluster.subnet_for(of) {
                addresses.take(net, format!("{} of cluster {}", of.name(), cluster.name));
            }
        }
    }
    let network = network(spec, existing, &mut addresses)?;
    // One of a cluster that was added to an earlier network no longer counts.
    let balancers = |known: &ClusterSubnets| known.balancers.filter(|range| network.contains(range));
    // An existing network has this part only if it was created with it.
    let reserved =
        existing.network.is_none() || existing.clusters.values().any(|known| balancers(known).is_some());
    let in_use: BTreeSet<_> =
        existing.clusters.values().chain(existing.removed.values()).filter_map(balancers).collect();
    let ranges = addresses::balancer_ranges(network).filter(|range| reserved && !in_use.contains(range));
    let mut ranges = ranges.collect::<Vec<_>>().into_iter();
    let mut clusters = BTreeMap::new();
    for cluster in spec.kind_clusters() {
        let mut get = |of: Use| match known(existing, cluster, of).or_else(|| cluster.subnet_for(of)) {
            Some(net) => Ok(net),
            None => addresses.cluster(&format!("{} of cluster {}", of.name(), cluster.name)),
        };
        let (pods, services) = (get(Use::Pods)?, get(Use::Services)?);
        let balancers = of_cluster(existing, cluster).as_ref().and_then(balancers).or_else(|| ranges.next());
        clusters.insert(cluster.name.to_string(), Subnets { pods, services, balancers });
    }
    check(spec, existing, network, &clusters)?;
    Ok(Assigned { network, clusters, addresses })
}

fn of_cluster(existing: &Environment, cluster: &spec::Cluster) -> Option<ClusterSubnets> {
    let name = cluster.name.as_str();
    existing.clusters.get(name).or(existing.removed.get(name)).copied()
}

/// Returns the subnet that a cluster has. One that was removed gets the subnets again that it had, unless the spec sets others.
fn known(existing: &Environment, cluster: &spec::Cluster, of: Use) -> Option<Ipv4Net> {
    let name = cluster.name.as_str();
    let exists = existing.clusters.contains_key(name);
    of_cluster(existing, cluster).filter(|_| exists || cluster.subnet_for(of).is_none())?.of(of)
}

fn network(spec: &Spec, existing: &Environment, addresses: &mut Allocator) -> Result<Ipv4Net, Error> {
    let by = format!("the network of environment {}", spec.name);
    let taken = match spec.network.subnet {
        Subnet::Fixed(wanted) => addresses.owner(&wanted),
        Subnet::Auto => None,
    };
    admission::subnet(spec, existing, taken)?;
    let subnet = match (spec.network.subnet, existing.subnet) {
        (_, Some(has)) => has,
        (Subnet::Fixed(wanted), None) => wanted,
        (Subnet::Auto, None) => return addresses.network(&by),
    };
    addresses.take(subnet, by);
    Ok(subnet)
}

/// Refuses subnets that overlap, where one of the spec meets an existing one.
fn check(
    spec: &Spec,
    existing: &Environment,
    network: Ipv4Net,
    clusters: &BTreeMap<String, Subnets>,
) -> Result<(), Error> {
    let all = || {
        let own = |cluster: &'_ spec::Cluster| clusters.get(cluster.name.as_str()).copied();
        let all = spec.clusters.iter().filter_map(move |cluster| Some((cluster, own(cluster)?)));
        all.flat_map(|(cluster, subnets)| Use::ALL.map(|of| (cluster, of, subnets.of(of))))
    };
    for (index, (cluster, of, subnet)) in all().enumerate() {
        // An existing cluster keeps the subnet that it has.
        if existing.clusters.contains_key(cluster.name.as_str()) {
            continue;
        }
        if overlaps(network, subnet) {
            return Err(admission::overlapping((cluster, of, subnet), &format!("the Docker network {network}")));
        }
        for (_, (other, of_other, taken)) in all().enumerate().filter(|(before, _)| *before != index) {
            if overlaps(subnet, taken) && !may_overlap(spec, (cluster, of), (other, of_other)) {
                let by = format!("{taken} of the {} of cluster {}", of_other.name(), other.name);
                return Err(admission::overlapping((cluster, of, subnet), &by));
            }
        }
        // A cluster that is about to be deleted still has its subnets.
        let listed = |name: &str| spec.clusters.iter().any(|cluster| cluster.name.as_str() == name);
        for (name, known) in existing.clusters.iter().filter(|(name, _)| !listed(name)) {
            let taken = Use::ALL.into_iter().filter_map(|of| known.of(of)).find(|net| overlaps(*net, subnet));
            if let Some(taken) = taken {
                let by = format!("{taken} of cluster {name}, which this run would delete later");
                return Err(admission::overlapping((cluster, of, subnet), &by));
            }
        }
    }
    Ok(())
}
