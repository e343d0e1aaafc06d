//! The server side: whether the pods have the Service's target port.

use super::{Facts, Hop};

const HOP: &str = "farSide";

pub(super) fn judge(facts: &Facts) -> Hop {
    let ready = facts.ready();
    let Some((cluster, pod)) = ready.first() else { return Hop::skipped(HOP, "no endpoints") };
    let port = cluster.service.as_ref().and_then(|s| s.ports.iter().find(|port| port.number == facts.call.port));
    let Some(port) = port else { return Hop::skipped(HOP, "the Service has no such port") };
    if pod.port(&port.target).is_none() {
        let named: Vec<&str> =
            pod.ports.iter().map(|(name, _)| name.as_str()).filter(|name| !name.is_empty()).collect();
        return Hop::wrong(
            HOP,
            format!(
                "the Service in {} has targetPort \"{}\", but {} has no port of that name (named ports: {})",
                cluster.name,
                port.target,
                pod.name,
                if named.is_empty() { "none".into() } else { named.join(", ") }
            ),
            format!(
                "set targetPort to a port of the pods: {} edit service {}",
                facts.kubectl(cluster),
                facts.call.name
            ),
        );
    }
    let outside = ready.iter().filter(|(_, pod)| !pod.meshed).count();
    let mesh = match outside {
        0 => "all with a proxy".to_owned(),
        some => format!("{some} without a proxy"),
    };
    Hop::ok(HOP, format!("ready pods: {} on port {}, {mesh}", ready.len(), port.target))
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::testing::works;
    use super::*;

    #[test]
    fn named_port_must_exist_on_the_pods() {
        let mut facts = works();
        facts.clusters[1].pods[0].ports[0].0 = "web".into();
        let hop = judge(&facts);
        assert!(
            hop.saw.contains("targetPort \"http\", but orders-1 has no port of that name (named ports: web)"),
            "{hop:?}"
        );
        facts.clusters[1].service.as_mut().unwrap().ports[0].target = "8080".into();
        assert_eq!(judge(&facts).verdict, Verdict::Ok);
    }
}
