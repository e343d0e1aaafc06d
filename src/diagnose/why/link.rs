//! The link: whether nodes have routes to the pods of other clusters, or pods of another network have a gateway.

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
        if let Some(fault) = cluster.faults.iter().find(|fault| fault.total) {
            let saw = format!("a fault that you asked for: {}", fault.what);
            return Hop::wrong(HOP, saw, facts.kindmesh("fault clear"));
        }
        match &cluster.linked {
            Linked::Yes | Linked::NotInspected | Linked::Unknown => {}
            Linked::Gateway => {
                if let Some(problem) = gateway_problem(cluster) {
                    return Hop::wrong(
                        HOP,
                        format!("{name} is on another network than {here}, and its east-west gateway {problem}"),
                        facts.kindmesh("up"),
                    );
                }
            }
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
                    format!("{node} has no route to the peer's pods or gateway (link between {here} and {name})"),
                    format!(
                        "check the link: {}; then repair it: {}",
                        facts.kindmesh("logs link"),
                        facts.kindmesh("up")
                    ),
                );
            }
        }
    }
    match others.iter().find(|cluster| cluster.linked == Linked::Unknown) {
        Some(cluster) => Hop {
            verdict: Verdict::Unknown,
            ..Hop::ok(HOP, format!("failed to read the routes to {}", cluster.name))
        },
        None => Hop::ok(HOP, works(here, &others)),
    }
}

/// Returns what is wrong with the gateway of a cluster on another network.
fn gateway_problem(cluster: &Cluster) -> Option<String> {
    let Some(gateway) = &cluster.gateway else { return Some("does not exist".into()) };
    match (&gateway.lacks, gateway.addresses.is_empty()) {
        (Some(lacks), _) => Some(format!("is not ready: {lacks}")),
        (None, true) => Some("has no address".into()),
        (None, false) => None,
    }
}

fn works(here: &str, others: &[&&Cluster]) -> String {
    let gateway = |cluster: &&&Cluster| {
        let gateway = cluster.gateway.as_ref().filter(|_| cluster.linked == Linked::Gateway)?;
        let address = Some(gateway.addresses.join(", ")).filter(|addresses| !addresses.is_empty())?;
        Some(format!("{} through its gateway {address}", cluster.name))
    };
    let through: Vec<String> = others.iter().filter_map(gateway).collect();
    let direct = others.iter().filter(|cluster| gateway(cluster).is_none());
    let (unseen, routed): (Vec<&&&Cluster>, Vec<_>) =
        direct.partition(|cluster| cluster.linked == Linked::NotInspected);
    let names =
        |clusters: &[&'_ &&Cluster]| clusters.iter().map(|cluster| cluster.name.clone()).collect::<Vec<_>>();
    let (unseen, routed) = (names(&unseen), names(&routed));
    let mut parts = Vec::new();
    if !routed.is_empty() {
        parts.push(format!("the nodes of {here} and {} have routes to each other's pods", listed(&routed)));
    }
    if !unseen.is_empty() {
        parts.push(format!(
            "pods of {here} have to reach those of {} directly; the nodes of clusters that exist are not inspected",
            listed(&unseen)
        ));
    }
    if !through.is_empty() {
        parts.push(format!("pods of {here} reach {}", listed(&through)));
    }
    let faults: Vec<&str> =
        others.iter().flat_map(|cluster| &cluster.faults).map(|fault| fault.what.as_str()).collect();
    if !faults.is_empty() {
        parts.push(format!("with a fault that you asked for: {}", faults.join("; ")));
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::super::facts::Gateway;
    use super::super::testing::works;
    use super::*;

    #[test]
    fn disabled_link_differs_from_a_broken_one() {
        let mut facts = works();
        facts.clusters[1].linked = Linked::Cut;
        assert!(judge(&facts).cure.unwrap().contains("e-cluster1-control-plane and e-cluster2-control-plane"));
        facts.clusters[1].linked = Linked::No("e-cluster2-control-plane".into());
        assert!(judge(&facts).saw.starts_with("e-cluster2-control-plane has no route"));
        facts.clusters[1].linked = Linked::Gateway;
        assert!(judge(&facts).saw.ends_with("its east-west gateway does not exist"));
        facts.clusters[1].gateway = Some(Gateway { addresses: Vec::new(), lacks: None });
        assert!(judge(&facts).saw.ends_with("its east-west gateway has no address"));
        facts.clusters[1].gateway = Some(Gateway { addresses: vec!["172.30.0.136".into()], lacks: None });
        assert_eq!(judge(&facts).saw, "pods of cluster1 reach cluster2 through its gateway 172.30.0.136");
        let what = "link cut between cluster1 and cluster2, ends in 9 s".to_owned();
        facts.clusters[1].faults = vec![super::super::facts::Fault { what: what.clone(), total: false }];
        assert!(judge(&facts).saw.ends_with(&format!("; with a fault that you asked for: {what}")));
        facts.clusters[1].faults[0].total = true;
        assert_eq!(judge(&facts).saw, format!("a fault that you asked for: {what}"));
        assert_eq!(judge(&facts).cure.as_deref(), Some("kindmesh fault clear --name e"));
        facts.clusters[1].faults.clear();
        facts.clusters[1].linked = Linked::Unknown;
        assert_eq!(judge(&facts).verdict, Verdict::Unknown);
    }
}
