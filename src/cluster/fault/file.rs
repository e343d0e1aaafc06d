//! The file of a fault on a node, which the script there reads: see `kind-configs/node/kindmesh-fault`.

use std::time::Duration;

use jiff::Timestamp;

use super::{Fault, Kind};
use crate::base::error::Error;
use crate::plan::{Cluster, Plan};

/// Returns the file of a fault on the nodes of `here`, for the traffic to `there`.
///
/// # Errors
/// A usage error if one of the clusters exists already.
pub fn lines(
    fault: &Fault,
    lasts: Duration,
    plan: &Plan,
    here: &Cluster,
    there: &Cluster,
) -> Result<String, Error> {
    let kind = there.kind()?;
    let value = fault.kind.value().map(|value| format!(" {value}")).unwrap_or_default();
    let mut text = format!("fault {}{value}\n", fault.kind.name());
    text.push_str(&format!("between {}\n", fault.clusters.join(" ")));
    // The node knows when that is by its own clock.
    text.push_str(&format!("lasts {}\n", lasts.as_secs()));
    if fault.kind == Kind::KillIstiod {
        return Ok(text);
    }
    if matches!(fault.kind, Kind::Bandwidth { .. } | Kind::Delay { .. } | Kind::Jitter { .. }) {
        // One for each peer, of all faults that shape its traffic. The number is hexadecimal.
        let place = plan.clusters.iter().position(|cluster| cluster.name == there.name).unwrap_or_default();
        text.push_str(&format!("class {:x}\n", 0x10 + place));
    }
    let is_neighbor = here.network == there.network;
    // Pods of other networks may have the addresses of this cluster's, and are never destinations on the wire.
    let pods = is_neighbor.then_some(kind.pod_subnet);
    for subnet in pods.into_iter().chain(kind.balancers) {
        text.push_str(&format!("to {subnet}\n"));
    }
    let network = &plan.docker()?.network.name;
    for node in &kind.nodes {
        // With the network's name as a suffix, so that the host's search domains are not tried.
        let name = format!("{node}.{network}");
        match fault.kind {
            Kind::Partition => text.push_str(&format!("node {name}\n")),
            // A gateway answers to the node of the pod that calls it.
            _ if !is_neighbor => text.push_str(&format!("replies {name}\n")),
            _ => {}
        }
    }
    Ok(text)
}

/// Returns the faults in files of a node, which follow each other. A file that cannot be read is left out.
pub(super) fn read(text: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    let (mut kind, mut clusters) = (None, Vec::new());
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("fault"), Some(name)) => {
                kind = Kind::read(name, words.next());
                clusters.clear();
            }
            (Some("between"), Some(first)) => {
                clusters = std::iter::once(first).chain(words).map(str::to_owned).collect();
            }
            (Some("ends"), Some(time)) => {
                let ends = time.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
                if let (Some(kind), Some(ends)) = (kind.take(), ends) {
                    faults.push(Fault { kind, clusters: std::mem::take(&mut clusters), ends });
                }
            }
            _ => {}
        }
    }
    faults
}
