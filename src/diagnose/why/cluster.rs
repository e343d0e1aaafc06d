//! The proxy's cluster: the endpoints of the caller's proxy, and which of them it considers healthy.

use super::{Facts, Hop};

const HOP: &str = "cluster";

pub(super) fn judge(facts: &Facts) -> Hop {
    let Some(caller) = facts.caller.as_ref().filter(|caller| caller.meshed) else {
        return from_outside(facts);
    };
    let Some(proxy) = &facts.proxy else { return Hop::unknown(HOP, "the caller's proxy did not respond") };
    let pools = facts.pools();
    let known: Vec<_> = pools.iter().filter_map(|pool| proxy.endpoints.get(pool)).flatten().collect();
    let healthy = known.iter().filter(|(_, health)| health == "healthy").count();
    if healthy > 0 {
        let of = if healthy == known.len() { String::new() } else { format!(" of {}", known.len()) };
        return Hop::ok(HOP, format!("the caller's proxy has {healthy}{of} healthy endpoints"));
    }
    let restart = format!(
        "kubectl --context {} -n {} delete pod {}, which recreates it",
        facts.context(),
        facts.call.namespace,
        caller.pod
    );
    match known.first() {
        None => Hop::wrong(
            HOP,
            "the caller's proxy has no endpoints",
            format!("if the hops before this one are right, the update is on its way; otherwise {restart}"),
        ),
        Some((address, health)) if health.contains("failed_outlier_check") => Hop::wrong(
            HOP,
            format!(
                "the circuit is open: {} endpoints, {address} among them, are ejected after failures",
                known.len()
            ),
            "wait for the DestinationRule's baseEjectionTime, and check the logs of the pods for the failures",
        ),
        Some((address, health)) => Hop::wrong(
            HOP,
            format!("none of {} endpoints is healthy for the caller's proxy; {address}: {health}", known.len()),
            "check the pods' logs",
        ),
    }
}

/// Without a proxy, kube-proxy sends the call only to pods of the caller's own cluster.
fn from_outside(facts: &Facts) -> Hop {
    let meshed = facts.caller.as_ref().is_none_or(|caller| caller.meshed);
    let (here, call) = (facts.serving().iter().any(|cluster| facts.is_here(cluster)), &facts.call);
    if meshed {
        return Hop::unknown(HOP, "there is no caller whose proxy can be inspected");
    }
    if here {
        return Hop::ok(HOP, format!("without a proxy: only pods of {}", call.cluster));
    }
    let pod = facts.caller.as_ref().map(|caller| caller.pod.clone()).unwrap_or_default();
    Hop::wrong(
        HOP,
        format!(
            "the caller {pod} has no proxy, so its call stays in {}, where no pod of {} is ready",
            call.cluster, call.name
        ),
        format!(
            "add it to the mesh: kubectl --context {} label namespace {} istio-injection=enabled, then recreate \
                its pods",
            facts.context(),
            call.namespace
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::testing::{POOL, works};
    use super::*;

    #[test]
    fn open_circuit_differs_from_missing_endpoints() {
        let mut facts = works();
        let endpoints = &mut facts.proxy.as_mut().unwrap().endpoints;
        endpoints.get_mut(POOL).unwrap()[0].1 = "/failed_outlier_check".into();
        assert!(judge(&facts).saw.starts_with("the circuit is open: 1 endpoints, 10.2.0.1:8080"));
        facts.proxy.as_mut().unwrap().endpoints.clear();
        assert_eq!(judge(&facts).saw, "the caller's proxy has no endpoints");
    }

    #[test]
    fn caller_without_a_proxy_reaches_only_its_cluster() {
        let mut facts = works();
        facts.caller.as_mut().unwrap().meshed = false;
        let hop = judge(&facts);
        assert!(
            hop.verdict == Verdict::Wrong && hop.cure.unwrap().contains("label namespace shop istio-injection")
        );
        facts.clusters[0].pods = facts.clusters[1].pods.clone();
        assert_eq!(judge(&facts).verdict, Verdict::Ok);
        facts.caller = None;
        assert_eq!(judge(&facts).verdict, Verdict::Unknown);
    }
}
