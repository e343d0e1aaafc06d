//! The rules for the subnets of a spec: of the Docker network, and of a cluster's pods and Services.

use ipnet::Ipv4Net;

use super::problems::Problems;
use super::{Cluster, Spec, Subnet};

/// Addresses of the Docker network that are reserved for a later cluster and another container.
const SPARE_ADDRESSES: u64 = 2;
/// The prefix length of the part of its cluster's pod subnet that a node has: the default of Kubernetes.
const NODE_PREFIX: u8 = 24;
/// The largest subnet for Services: Kubernetes allows 2^20 addresses.
const SERVICES_MIN_PREFIX: u8 = 12;
/// The largest subnet for pods: Kubernetes allows 2^16 nodes.
const PODS_MIN_PREFIX: u8 = 8;

/// What a subnet of a cluster is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Its pods.
    Pods,
    /// Its Services.
    Services,
}

impl Use {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Pods, Self::Services];

    /// Its name in a sentence.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pods => "pods",
            Self::Services => "Services",
        }
    }

    /// The field of a cluster.
    pub fn field(self) -> &'static str {
        match self {
            Self::Pods => "podSubnet",
            Self::Services => "serviceSubnet",
        }
    }
}

impl Cluster {
    /// Returns the subnet that the spec sets for this use, if any.
    pub fn subnet_for(&self, of: Use) -> Option<Ipv4Net> {
        let subnet = match of {
            Use::Pods => self.pod_subnet,
            Use::Services => self.service_subnet,
        };
        match subnet {
            Subnet::Auto => None,
            Subnet::Fixed(net) => Some(net),
        }
    }
}

/// Whether subnets of two clusters may overlap: those of the same use, if the clusters are on different Istio networks, because
/// then neither reaches an address of the other.
pub fn may_overlap(spec: &Spec, (one, of): (&Cluster, Use), (other, of_other): (&Cluster, Use)) -> bool {
    of == of_other && spec.network_of(one) != spec.network_of(other)
}

/// Returns the problems of all subnets of a spec: the path, what is wrong, and the fix.
pub(super) fn problems(spec: &Spec) -> Vec<(String, String, String)> {
    let mut found = Problems::default();
    let problems = &mut found;
    network(problems, spec);
    for (index, cluster) in spec.clusters.iter().enumerate() {
        for of in Use::ALL {
            let Some(subnet) = cluster.subnet_for(of) else { continue };
            let path = format!("clusters[{index}].{}", of.field());
            size(problems, &path, cluster, of, subnet);
            overlap(problems, spec, (index, cluster, of), &path, subnet);
        }
    }
    found.0
}

fn network(problems: &mut Problems, spec: &Spec) {
    let Subnet::Fixed(subnet) = spec.network.subnet else { return };
    let path = "network.subnet";
    if let Some(why) = unusable(&subnet) {
        problems.add(path, format!("{subnet} {why}"), "use a private subnet such as 172.30.0.0/24, or auto");
    }
    if subnet.prefix_len() < 16 {
        let what =
            format!("{subnet} is larger than a /16: pod and Service subnets come from the same private range");
        problems.add(path, what, "use a /24 such as 172.30.0.0/24, which fits 124 nodes, or auto");
    }
    let of_kind = spec.clusters.iter().filter(|cluster| !cluster.exists());
    let nodes: u64 = of_kind.map(|cluster| 1 + u64::from(cluster.workers)).sum();
    // Nodes get addresses of the lower half; the network's own address and its gateway are not available to them.
    let needed = 2 * (nodes + SPARE_ADDRESSES + 2);
    let size = 1_u64 << (32 - subnet.prefix_len());
    if size < needed {
        let fits = (0..=29).rev().find(|prefix| 1_u64 << (32 - prefix) >= needed).unwrap_or(0);
        let what = format!("{subnet} is too small for {nodes} nodes: they need a /{fits}");
        problems.add(path, what, format!("use a /{fits} or larger, or auto"));
    }
}

fn size(problems: &mut Problems, path: &str, cluster: &Cluster, of: Use, subnet: Ipv4Net) {
    if let Some(why) = unusable(&subnet) {
        return problems.add(
            path,
            format!("{subnet} {why}"),
            "use a private subnet such as 10.100.0.0/16, or auto",
        );
    }
    let prefix = subnet.prefix_len();
    let nodes = 1 + u32::from(cluster.workers);
    let (smallest, largest) = match of {
        Use::Pods => (NODE_PREFIX.saturating_sub(nodes.next_power_of_two().ilog2() as u8), PODS_MIN_PREFIX),
        Use::Services => (NODE_PREFIX, SERVICES_MIN_PREFIX),
    };
    let hint = format!("use a /{largest} to /{smallest}, or auto");
    if prefix > smallest {
        let why = match of {
            Use::Pods => format!("each of {nodes} nodes needs a /{NODE_PREFIX}"),
            Use::Services => "Services need at least that".to_owned(),
        };
        problems.add(path, format!("{subnet} is smaller than a /{smallest}: {why}"), hint);
    } else if prefix < largest {
        problems.add(
            path,
            format!("{subnet} is larger than a /{largest}, the largest that Kubernetes supports"),
            hint,
        );
    }
}

/// Compares a subnet with those before it, so that each pair is reported once.
fn overlap(
    problems: &mut Problems,
    spec: &Spec,
    (index, cluster, of): (usize, &Cluster, Use),
    path: &str,
    subnet: Ipv4Net,
) {
    if let Subnet::Fixed(network) = spec.network.subnet
        && overlaps(network, subnet)
    {
        problems.add(
            path,
            format!("{subnet} overlaps network.subnet {network}"),
            "choose another subnet, or auto",
        );
    }
    for (before, other) in spec.clusters.iter().enumerate().take(index + 1) {
        for of_other in Use::ALL {
            if before == index && (of_other == of || of == Use::Pods) {
                continue;
            }
            let Some(taken) = other.subnet_for(of_other) else { continue };
            if overlaps(taken, subnet) && !may_overlap(spec, (cluster, of), (other, of_other)) {
                let field = of_other.field();
                let hint = match of == of_other {
                    true => "choose another subnet, or auto; clusters on different Istio networks may share one",
                    false => "choose another subnet, or auto",
                };
                problems.add(path, format!("{subnet} overlaps clusters[{before}].{field} {taken}"), hint);
            }
        }
    }
}

/// Whether two subnets have addresses in common.
pub fn overlaps(one: Ipv4Net, other: Ipv4Net) -> bool {
    one.contains(&other) || other.contains(&one)
}

/// Returns why nodes cannot have addresses of this subnet; `None` if they can.
fn unusable(subnet: &Ipv4Net) -> Option<&'static str> {
    let address = subnet.network();
    let within = |networks: &[([u8; 4], u8)]| {
        networks.iter().any(|(first, prefix)| {
            Ipv4Net::new((*first).into(), *prefix).is_ok_and(|network| network.contains(subnet))
        })
    };
    if address.is_loopback() {
        Some("is a loopback subnet")
    } else if address.is_link_local() {
        Some("is link-local")
    } else if address.is_multicast() {
        Some("is a multicast subnet")
    } else if address.octets()[0] == 0 || address.octets()[0] >= 240 {
        Some("is reserved")
    } else if !within(&PRIVATE) {
        Some("is not private: hosts on the internet would become unreachable")
    } else {
        None
    }
}

/// Ranges that are not used on the internet: private use (RFC 1918), shared address space (RFC 6598), benchmarks (RFC
/// 2544) and documentation (RFC 5737).
const PRIVATE: [([u8; 4], u8); 8] = [
    ([10, 0, 0, 0], 8),
    ([172, 16, 0, 0], 12),
    ([192, 168, 0, 0], 16),
    ([100, 64, 0, 0], 10),
    ([198, 18, 0, 0], 15),
    ([192, 0, 2, 0], 24),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
];
