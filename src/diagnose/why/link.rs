//! The link: whether nodes have routes to the pods of other clusters.

use super::facts::{Cluster, Linked, listed};
use super::{Facts, Hop, Verdict};

const HOP: &str = "link";

pub(super) fn judge(facts: &Facts) -> Hop {
    let here = &facts.call.cluster;
    let serving = facts.serving();
    // Pods that istiod does not know receive no calls.
    let others: Vec<&&Cluster> =
        serving.iter().filter(|cluster| !facts.is_here(cluster) && facts.sees(cluster)).collect();
    if others.is_empty() {
        return Hop::skipped(HOP, format!("no ready pods outside {here}"));
    }
    for cluster in &others {
        let name = &cluster.name;
        match &cluster.linked {
            Linked::Yes | Linked::Unknown => {}
            Linked::Cut => {
                let nodes = format!(
                    "{}-{here}-control-plane and {}-{name}-control-plane",
                    facts.environment, facts.environment
                );
                return Hop::wrong(
                    HOP,
                    format!("the link between {here} and {name} is disabled"),
                    format!("delete /etc/kindmesh/cut on {nodes}: docker exec NODE rm /etc/kindmesh/cut"),
                );
            }
            Linked::No(node) => {
                return Hop::wrong(
                    HOP,
                    format!("{node} has no route to the peer's pods (link between {here} and {name})"),
                    format!(
                        "check the link: {}; then repair it: {}",
                        facts.kindmesh("logs link"),
                        facts.kindmesh("up")
                    ),
                );
            }
        }
    }
    let names: Vec<&str> = others.iter().map(|cluster| cluster.name.as_str()).collect();
    match others.iter().find(|cluster| cluster.linked == Linked::Unknown) {
        Some(cluster) => Hop {
            verdict: Verdict::Unknown,
            ..Hop::ok(HOP, format!("failed to read the routes to {}", cluster.name))
        },
        None => {
            Hop::ok(HOP, format!("the nodes of {here} and {} have routes to each other's pods", listed(&names)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::works;
    use super::*;

    #[test]
    fn disabled_link_differs_from_a_broken_one() {
        let mut facts = works();
        facts.clusters[1].linked = Linked::Cut;
        assert!(judge(&facts).cure.unwrap().contains("e-cluster1-control-plane and e-cluster2-control-plane"));
        facts.clusters[1].linked = Linked::No("e-cluster2-control-plane".into());
        assert!(judge(&facts).saw.starts_with("e-cluster2-control-plane has no route"));
        facts.clusters[1].linked = Linked::Unknown;
        assert_eq!(judge(&facts).verdict, Verdict::Unknown);
    }
}
