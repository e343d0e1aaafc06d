//! Remote clusters: the caller's istiod reads the endpoints of other clusters with a remote secret for each.

use super::facts::{Cluster, listed};
use super::{Facts, Hop};

const HOP: &str = "remote";

pub(super) fn judge(facts: &Facts) -> Hop {
    let (here, istiods) = (&facts.call.cluster, &facts.control_plane);
    let serving = facts.serving();
    // The istiod of the caller's proxies knows the endpoints of its own cluster without a remote secret.
    let local = |cluster: &&&Cluster| facts.is_here(cluster) && here == istiods;
    let others: Vec<_> = serving.iter().filter(|cluster| !local(cluster)).collect();
    if others.is_empty() {
        return Hop::skipped(HOP, format!("no ready pods outside {here}"));
    }
    let primary = facts.clusters.iter().find(|cluster| cluster.name == *istiods);
    if let Some(why) = primary.filter(|_| istiods != here).and_then(|primary| primary.silent.as_ref()) {
        return Hop::wrong(
            HOP,
            format!(
                "{here} is a remote cluster, and {istiods}, whose istiod configures its proxies, does not respond: {why}"
            ),
            facts.kindmesh("status"),
        );
    }
    let names: Vec<&str> = others.iter().map(|cluster| cluster.name.as_str()).collect();
    if facts.synced.is_none() {
        if let Some(fault) = primary.and_then(|primary| primary.istiod_fault.as_ref()) {
            let saw = format!("a fault that you asked for: {fault}; proxies keep the endpoints that they know");
            return Hop::wrong(HOP, saw, facts.kindmesh("fault clear"));
        }
        return Hop::wrong(
            HOP,
            format!(
                "istiod of {istiods}, which sends the endpoints of {} to the proxies, does not respond",
                listed(&names)
            ),
            facts.kindmesh("status"),
        );
    }
    let unseen: Vec<_> = others.iter().filter(|cluster| !facts.sees(cluster)).collect();
    let Some(first) = unseen.first() else {
        return Hop::ok(HOP, format!("istiod of {istiods} reads the endpoints of {}", listed(&names)));
    };
    let state = facts.synced.iter().flatten().find(|(id, _)| *id == first.name).map(|(_, state)| state.as_str());
    let why = match (facts.remote_secrets.contains(&first.name), state) {
        (false, _) => format!("{istiods} has no remote secret for {}", first.name),
        (true, None) => {
            format!("{istiods} has a remote secret for {}, but istiod does not list the cluster", first.name)
        }
        (true, Some(state)) => format!("istiod of {istiods} reports sync status {state} for {}", first.name),
    };
    // The call reaches the pods that istiod knows, and does not fail because of the others.
    if unseen.len() < serving.len() {
        return Hop::ok(HOP, format!("{why}: its pods receive no calls, but other pods do"));
    }
    Hop::wrong(
        HOP,
        format!("{why}: proxies in the caller's cluster do not know its endpoints"),
        facts.kindmesh("up"),
    )
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::testing::works;
    use super::*;

    #[test]
    fn missing_secret_differs_from_an_unsynced_cluster() {
        let mut facts = works();
        facts.synced = Some(vec![("cluster2".into(), "timeout".into())]);
        assert!(judge(&facts).saw.contains("reports sync status timeout for cluster2"));
        facts.synced = Some(Vec::new());
        facts.remote_secrets.clear();
        let hop = judge(&facts);
        assert!(hop.saw.starts_with("cluster1 has no remote secret for cluster2"), "{hop:?}");
        assert_eq!(hop.cure.unwrap(), "kindmesh up --name e");
        facts.synced = None;
        assert!(judge(&facts).saw.contains("does not respond"));
        facts.clusters[0].istiod_fault = Some("istiod stopped in cluster1, ends in 9 s".into());
        let hop = judge(&facts);
        assert!(hop.saw.starts_with("a fault that you asked for: istiod stopped in cluster1"), "{hop:?}");
        assert_eq!(hop.cure.unwrap(), "kindmesh fault clear --name e");
    }

    #[test]
    fn a_remote_cluster_depends_on_its_primary() {
        let mut facts = works();
        facts.control_plane = "cluster2".into();
        let hop = judge(&facts);
        assert_eq!(
            (hop.verdict, hop.saw.as_str()),
            (Verdict::Ok, "istiod of cluster2 reads the endpoints of cluster2")
        );
        facts.synced = None;
        facts.clusters[1].istiod_fault = Some("istiod stopped in cluster2, ends in 9 s".into());
        assert!(judge(&facts).saw.starts_with("a fault that you asked for: istiod stopped in cluster2"));
        facts.clusters[1].silent = Some("no response within 5 s".into());
        let hop = judge(&facts);
        assert!(
            hop.verdict == Verdict::Wrong && hop.saw.contains("whose istiod configures its proxies"),
            "{hop:?}"
        );
    }

    #[test]
    fn the_primary_needs_a_remote_secret_for_the_callers_own_pods() {
        let mut facts = works();
        facts.control_plane = "cluster2".into();
        facts.clusters[0].pods = std::mem::take(&mut facts.clusters[1].pods);
        facts.synced = Some(Vec::new());
        facts.remote_secrets.clear();
        let hop = judge(&facts);
        assert!(
            hop.verdict == Verdict::Wrong && hop.saw.starts_with("cluster2 has no remote secret for cluster1"),
            "{hop:?}"
        );
    }

    #[test]
    fn pods_in_the_callers_cluster_are_enough() {
        let mut facts = works();
        facts.clusters[0].pods = facts.clusters[1].pods.clone();
        facts.synced = Some(Vec::new());
        let hop = judge(&facts);
        assert!(hop.verdict == Verdict::Ok && hop.saw.contains("its pods receive no calls"), "{hop:?}");
        facts.clusters[1].pods.clear();
        assert_eq!(judge(&facts).verdict, Verdict::Skipped);
    }
}
