//! The server side: the pods have the port that the Service uses.

use super::{Facts, Hop};

const HOP: &str = "farSide";

pub(super) fn judge(facts: &Facts) -> Hop {
    let ready = facts.ready();
    let Some((cluster, pod)) = ready.first() else { return Hop::skipped(HOP, "there are no endpoints") };
    let port = cluster.service.as_ref().and_then(|s| s.ports.iter().find(|port| port.number == facts.call.port));
    let Some(port) = port else { return Hop::skipped(HOP, "there is no such port") };
    let is_number = port.target.parse::<u16>().is_ok();
    if !is_number && !pod.port_names.contains(&port.target) {
        return Hop::wrong(
            HOP,
            format!(
                "the Service in {} uses the pods' port \"{}\", but {} names no such port: {}",
                cluster.name,
                port.target,
                pod.name,
                if pod.port_names.is_empty() { "it names none".into() } else { pod.port_names.join(", ") }
            ),
            format!("set its targetPort: {} edit service {}", facts.kubectl(cluster), facts.call.name),
        );
    }
    let outside = ready.iter().filter(|(_, pod)| !pod.meshed).count();
    let mesh = match outside {
        0 => "with a proxy".to_owned(),
        some => format!("{some} of them without a proxy"),
    };
    Hop::ok(HOP, format!("{} ready pods serve it on port {}, {mesh}", ready.len(), port.target))
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::testing::works;
    use super::*;

    #[test]
    fn named_port_must_exist_on_the_pods() {
        let mut facts = works();
        facts.clusters[1].pods[0].port_names = vec!["web".into()];
        let hop = judge(&facts);
        assert!(hop.saw.contains("port \"http\", but orders-1 names no such port: web"), "{hop:?}");
        facts.clusters[1].service.as_mut().unwrap().ports[0].target = "8080".into();
        assert_eq!(judge(&facts).verdict, Verdict::Ok);
    }
}
