//! The endpoints: the ready pods behind the Service, in all clusters.

use super::facts::{Cluster, listed};
use super::{Facts, Hop};

const HOP: &str = "endpoints";

pub(super) fn judge(facts: &Facts) -> Hop {
    let serving = facts.serving();
    if !serving.is_empty() {
        let counts: Vec<String> = serving
            .iter()
            .map(|cluster| {
                let (ready, all) = (cluster.pods.iter().filter(|pod| pod.ready).count(), cluster.pods.len());
                let of = if ready == all { String::new() } else { format!(" of {all}") };
                format!("{ready}{of} ready in {}", cluster.name)
            })
            .collect();
        return Hop::ok(HOP, format!("pods: {}", listed(&counts)));
    }
    let call = &facts.call;
    let none = facts.clusters.iter().all(|cluster| cluster.pods.is_empty() && cluster.silent.is_none());
    if let (Some(pod), true) = (&call.to_pod, none) {
        let context = facts.clusters.last().map(|cluster| facts.kubectl(cluster)).unwrap_or_default();
        return Hop::wrong(
            HOP,
            format!("no cluster has a pod {pod} behind Service {}", call.name),
            format!("list the pods: {context} get pods"),
        );
    }
    if facts.clusters.iter().all(|cluster| cluster.service.is_none() && cluster.silent.is_none()) {
        return Hop::skipped(HOP, "no Service, so no endpoints");
    }
    if let Some(cluster) = facts.clusters.iter().find(|cluster| cluster.silent.is_some()) {
        let why = cluster.silent.as_deref().unwrap_or_default();
        return Hop::wrong(
            HOP,
            format!("no ready pods found, and {} does not respond: {why}", cluster.name),
            facts.kindmesh("status"),
        );
    }
    if let Some(cluster) = facts.clusters.iter().find(|cluster| cluster.service.is_none() && has_ready(cluster)) {
        return Hop::wrong(
            HOP,
            format!("the pods run in {}, which has no Service {} to select them", cluster.name, call.name),
            format!("create the Service in {} too, so that it selects the pods", cluster.name),
        );
    }
    if let Some((cluster, pod)) = facts.clusters.iter().find_map(|c| Some((c, c.pods.first()?))) {
        let count: usize = facts.clusters.iter().map(|cluster| cluster.pods.len()).sum();
        let why = if pod.why.is_empty() { String::new() } else { format!(": {}", pod.why) };
        return Hop::wrong(
            HOP,
            format!("0 of {count} pods ready; {} in {}{why}", pod.name, cluster.name),
            format!("{} describe pod {}", facts.kubectl(cluster), pod.name),
        );
    }
    let scaled = |cluster: &&Cluster| cluster.workloads.iter().any(|workload| workload.replicas == 0);
    if let Some(cluster) = facts.clusters.iter().find(scaled) {
        let workload = cluster.workloads.iter().find(|workload| workload.replicas == 0);
        let (kind, name) = workload.map(|w| (w.kind.as_str(), w.name.as_str())).unwrap_or_default();
        return Hop::wrong(
            HOP,
            format!("{kind} {name} in {} is scaled to 0 replicas", cluster.name),
            format!("{} scale {} {name} --replicas=1", facts.kubectl(cluster), kind.to_lowercase()),
        );
    }
    if let Some((cluster, workload)) = facts.clusters.iter().find_map(|c| Some((c, c.workloads.first()?))) {
        let (kind, name) = (&workload.kind, &workload.name);
        return Hop::wrong(
            HOP,
            format!("{kind} {name} in {} has no pods yet", cluster.name),
            format!("{} describe {} {name}", facts.kubectl(cluster), kind.to_lowercase()),
        );
    }
    let selector =
        facts.clusters.iter().find_map(|cluster| cluster.service.as_ref()).map(|service| &service.selector);
    let selector: Vec<String> =
        selector.into_iter().flatten().map(|(key, value)| format!("{key}={value}")).collect();
    let namespace = &call.service_namespace;
    let context = facts.clusters.last().map(|cluster| facts.kubectl(cluster)).unwrap_or_default();
    match selector.is_empty() {
        true => Hop::wrong(
            HOP,
            format!("Service {} selects no pods: it has no selector", call.name),
            format!("{context} edit service {}", call.name),
        ),
        false => Hop::wrong(
            HOP,
            format!("no pod in namespace {namespace} of any cluster has the labels {}", selector.join(",")),
            format!(
                "compare the labels: {context} get pods --show-labels; {context} get service {} -o wide",
                call.name
            ),
        ),
    }
}

fn has_ready(cluster: &Cluster) -> bool {
    cluster.pods.iter().any(|pod| pod.ready)
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::testing::works;
    use super::*;

    #[test]
    fn workload_scaled_to_zero_comes_with_its_fix() {
        let mut facts = works();
        facts.clusters[1].pods.clear();
        facts.clusters[1].workloads[0].replicas = 0;
        let hop = judge(&facts);
        assert_eq!(hop.saw, "Deployment orders in cluster2 is scaled to 0 replicas");
        assert_eq!(
            hop.cure.unwrap(),
            "kubectl --context kind-e-cluster2 -n shop scale deployment orders --replicas=1"
        );
    }

    #[test]
    fn each_reason_for_missing_endpoints_is_distinct() {
        let mut facts = works();
        facts.clusters[1].pods[0].ready = false;
        facts.clusters[1].pods[0].why = "app: CrashLoopBackOff".into();
        assert!(judge(&facts).saw.ends_with("orders-1 in cluster2: app: CrashLoopBackOff"));
        facts.clusters[1].pods.clear();
        assert!(judge(&facts).saw.contains("no pods yet"));
        facts.clusters[1].workloads.clear();
        assert!(judge(&facts).saw.contains("has the labels app=orders"));
        facts.clusters.iter_mut().for_each(|c| c.service.as_mut().unwrap().selector.clear());
        assert!(judge(&facts).saw.contains("no selector"));
        facts.clusters[1].silent = Some("connection refused".into());
        assert!(judge(&facts).saw.contains("cluster2 does not respond"));
    }

    #[test]
    fn missing_pod_of_a_headless_service_is_named() {
        let mut facts = works();
        facts.call.to_pod = Some("orders-9".into());
        facts.clusters[1].pods.clear();
        assert_eq!(judge(&facts).saw, "no cluster has a pod orders-9 behind Service orders");
    }

    #[test]
    fn pods_count_only_in_clusters_with_the_service() {
        let mut facts = works();
        facts.clusters[1].service = None;
        let hop = judge(&facts);
        assert!(hop.verdict == Verdict::Wrong && hop.saw.contains("the pods run in cluster2"), "{hop:?}");
        facts.clusters[0].service = None;
        assert_eq!(judge(&facts).verdict, Verdict::Skipped);
    }
}
