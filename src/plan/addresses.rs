//! The subnets of an environment: those it already has, else the first free ones of a fixed list of candidates.

use ipnet::Ipv4Net;

use crate::base::error::Error;
use crate::plan::inventory::Taken;

/// Returns candidates for Docker networks: /24s of the private range that Docker itself uses last, then of the others.
/// If a VPN uses all of 10/8, the rest is still free.
fn network_candidates() -> impl Iterator<Item = Ipv4Net> {
    let high = (0..=255).map(|third| net([172, 30, third, 0], 24));
    let low = (0..=255).map(|third| net([192, 168, third, 0], 24));
    let wide = (0..=255).map(|third| net([10, 30, third, 0], 24));
    high.chain(low).chain(wide)
}

/// Returns candidates for pods and Services: /16s, first those outside Docker's default pools, last the shared address
/// space of RFC 6598.
fn cluster_candidates() -> impl Iterator<Item = Ipv4Net> {
    let private = (100..=254).map(|second| net([10, second, 0, 0], 16));
    let docker = (16..=31).map(|second| net([172, second, 0, 0], 16));
    let shared = (64..=127).map(|second| net([100, second, 0, 0], 16));
    private.chain(docker).chain(shared)
}

fn net(address: [u8; 4], prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(address.into(), prefix)
}

/// The prefix length of the largest range for a cluster's Services: eight addresses.
const BALANCERS_PREFIX: u8 = 29;

/// Returns the half of a Docker network from which the engine assigns addresses to nodes. The other half is for Services.
pub fn node_range(network: Ipv4Net) -> Ipv4Net {
    Ipv4Net::new(network.network(), network.prefix_len() + 1).unwrap_or(network)
}

/// Returns the ranges of a Docker network for Services of type LoadBalancer, each for one cluster: parts of the upper half, of
/// eight addresses, or fewer in a network smaller than a /24. A /24 has 15.
pub fn balancer_ranges(network: Ipv4Net) -> impl Iterator<Item = Ipv4Net> {
    let prefix = (network.prefix_len() + 5).clamp(BALANCERS_PREFIX, 32);
    let upper = network.subnets(network.prefix_len() + 1).ok().and_then(|mut halves| halves.nth(1));
    let ranges = upper.and_then(|upper| upper.subnets(prefix).ok()).into_iter().flatten();
    // The last one has the broadcast address.
    ranges.filter(move |range| range.broadcast() != network.broadcast())
}

/// Allocates subnets, each only once.
#[derive(Debug)]
pub struct Allocator {
    taken: Vec<Taken>,
}

impl Allocator {
    /// Creates an allocator with the subnets that are in use.
    pub fn new(taken: Vec<Taken>) -> Self {
        Self { taken }
    }

    /// Returns a subnet in use that overlaps this one, if any.
    pub fn owner(&self, subnet: &Ipv4Net) -> Option<&Taken> {
        self.taken.iter().find(|taken| taken.overlaps(subnet))
    }

    /// Marks a subnet as used by `by`.
    pub fn take(&mut self, subnet: Ipv4Net, by: impl Into<String>) {
        self.taken.push(Taken { subnet, by: by.into() });
    }

    /// Allocates a free subnet for the Docker network.
    ///
    /// # Errors
    /// A missing prerequisite if every candidate overlaps a subnet in use.
    pub fn network(&mut self, by: &str) -> Result<Ipv4Net, Error> {
        self.first(network_candidates(), by)
    }

    /// Allocates a free subnet for the pods or Services of a cluster.
    ///
    /// # Errors
    /// A missing prerequisite if every candidate overlaps a subnet in use.
    pub fn cluster(&mut self, by: &str) -> Result<Ipv4Net, Error> {
        self.first(cluster_candidates(), by)
    }

    fn first(&mut self, mut candidates: impl Iterator<Item = Ipv4Net>, by: &str) -> Result<Ipv4Net, Error> {
        let Some(free) = candidates.find(|candidate| self.owner(candidate).is_none()) else {
            let taken: Vec<_> = self.taken.iter().map(|t| format!("{} is in use by {}", t.subnet, t.by)).collect();
            return Err(Error::prerequisite(format!("no free subnet for {by}"))
                .evidence(taken.join("\n"))
                .hint("remove an unused Docker network (docker network ls), or disconnect the VPN while the environment runs"));
        };
        self.take(free, by);
        Ok(free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(subnet: &str) -> Taken {
        Taken { subnet: subnet.parse().unwrap(), by: "a VPN".into() }
    }

    #[test]
    fn first_free_candidate_is_assigned_once() {
        let mut addresses = Allocator::new(vec![taken("172.30.0.0/23")]);
        assert_eq!(addresses.network("a").unwrap().to_string(), "172.30.2.0/24");
        assert_eq!(addresses.network("b").unwrap().to_string(), "172.30.3.0/24");
    }

    #[test]
    fn vpn_using_10_0_0_0_8_leaves_other_ranges() {
        let mut addresses = Allocator::new(vec![taken("10.0.0.0/8"), taken("172.16.0.0/12")]);
        assert_eq!(addresses.network("a").unwrap().to_string(), "192.168.0.0/24");
        assert_eq!(addresses.cluster("b").unwrap().to_string(), "100.64.0.0/16");
    }

    #[test]
    fn upper_half_is_for_services() {
        let ranges = |text: &str| balancer_ranges(text.parse().unwrap()).collect::<Vec<_>>();
        assert_eq!(node_range("172.30.0.0/24".parse().unwrap()).to_string(), "172.30.0.0/25");
        let wide = ranges("172.30.0.0/24");
        assert_eq!(
            (wide.len(), wide[0].to_string(), wide[14].to_string()),
            (15, "172.30.0.128/29".into(), "172.30.0.240/29".into())
        );
        let small = ranges("172.30.0.0/28");
        assert_eq!(
            (small.len(), small[0].to_string(), small[6].to_string()),
            (7, "172.30.0.8/32".into(), "172.30.0.14/32".into())
        );
    }

    #[test]
    fn no_free_subnet_is_an_error_that_names_the_owners() {
        let error = Allocator::new(vec![taken("0.0.0.0/1"), taken("128.0.0.0/1")]).network("a").unwrap_err();
        assert_eq!(error.kind, crate::base::error::Kind::Prerequisite);
        assert_eq!(error.evidence, ["0.0.0.0/1 is in use by a VPN", "128.0.0.0/1 is in use by a VPN"]);
    }
}
