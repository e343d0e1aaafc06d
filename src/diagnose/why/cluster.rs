//! The Envoy cluster: the endpoints that the caller's proxy knows, and their health.

use super::facts::Proxy;
use super::{Facts, Hop};
use crate::cluster::ejection;

const HOP: &str = "cluster";

pub(super) fn judge(facts: &Facts) -> Hop {
    let Some(caller) = facts.caller.as_ref().filter(|caller| caller.meshed) else {
        return from_outside(facts);
    };
    let Some(proxy) = &facts.proxy else { return Hop::unknown(HOP, "the caller's proxy did not respond") };
    let pools = facts.pools();
    if pools.iter().all(|pool| proxy.passes_through.contains(pool)) {
        return Hop::ok(
            HOP,
            "the caller's proxy forwards to the address that the client connects to, since the Service is headless: no \
                balancing, no circuit breaker",
        );
    }
    let known: Vec<_> = pools.iter().filter_map(|pool| proxy.endpoints.get(pool)).flatten().collect();
    let healthy = known.iter().filter(|(_, health)| health == "healthy").count();
    if healthy > 0 {
        let of = if healthy == known.len() { String::new() } else { format!(" of {}", known.len()) };
        let breaker = pools.iter().find_map(|pool| closed(proxy, pool)).unwrap_or_default();
        return Hop::ok(HOP, format!("healthy endpoints in the caller's proxy: {healthy}{of}{breaker}"));
    }
    let restart =
        format!("kubectl --context {} -n {} delete pod {}", facts.context(), facts.call.namespace, caller.pod);
    match known.first() {
        None => Hop::wrong(
            HOP,
            "the caller's proxy has no endpoints",
            format!(
                "if all earlier hops are OK, istiod's update is pending: retry; otherwise recreate the pod: {restart}"
            ),
        ),
        Some((address, health)) if health.contains("failed_outlier_check") => Hop::wrong(
            HOP,
            format!(
                "circuit breaker open: outlier detection ejected all endpoints ({}), {address} among them",
                known.len()
            ),
            "wait for the DestinationRule's baseEjectionTime, and check the pods' logs for the failures",
        ),
        Some((address, health)) => Hop::wrong(
            HOP,
            format!("healthy endpoints in the caller's proxy: 0 of {}; {address}: {health}", known.len()),
            "check the pods' logs",
        ),
    }
}

/// Returns what is wrong with the circuit breaker of an Envoy cluster, if it can never open.
fn closed(proxy: &Proxy, pool: &str) -> Option<String> {
    let endpoints = u64::try_from(proxy.endpoints.get(pool)?.len()).ok()?;
    let why = ejection::impossible(*proxy.ejectable.get(pool)?, endpoints)?;
    Some(format!(
        "; the circuit breaker never opens: {why}; in the DestinationRule, {}",
        ejection::cure(endpoints)
    ))
}

/// Without a proxy, kube-proxy sends the call only to pods of the caller's own cluster.
fn from_outside(facts: &Facts) -> Hop {
    let meshed = facts.caller.as_ref().is_none_or(|caller| caller.meshed);
    let (here, call) = (facts.serving().iter().any(|cluster| facts.is_here(cluster)), &facts.call);
    if meshed {
        return Hop::unknown(HOP, "no caller, so no proxy to inspect");
    }
    if here {
        return Hop::ok(
            HOP,
            format!("the caller has no proxy: kube-proxy routes its calls only to pods in {}", call.cluster),
        );
    }
    let pod = facts.caller.as_ref().map(|caller| caller.pod.clone()).unwrap_or_default();
    Hop::wrong(
        HOP,
        format!(
            "caller {pod} has no proxy, so its calls stay in {}, where Service {} has no ready pods",
            call.cluster, call.name
        ),
        format!(
            "add its namespace to the mesh: kubectl --context {} label namespace {} istio-injection=enabled, then recreate \
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
        assert!(
            judge(&facts)
                .saw
                .starts_with("circuit breaker open: outlier detection ejected all endpoints (1), 10.2.0.1")
        );
        facts.proxy.as_mut().unwrap().endpoints.clear();
        assert_eq!(judge(&facts).saw, "the caller's proxy has no endpoints");
    }

    #[test]
    fn circuit_breaker_that_never_opens_is_named() {
        let mut facts = works();
        facts.proxy.as_mut().unwrap().ejectable = [(POOL.to_owned(), 10)].into();
        let hop = judge(&facts);
        assert_eq!(
            hop.saw,
            "healthy endpoints in the caller's proxy: 1; the circuit breaker never opens: at most 10 % of the only endpoint may \
                be ejected, which is less than one; in the DestinationRule, set maxEjectionPercent: 100"
        );
        assert_eq!(hop.verdict, Verdict::Ok);
        facts.proxy.as_mut().unwrap().ejectable = [(POOL.to_owned(), 100)].into();
        assert_eq!(judge(&facts).saw, "healthy endpoints in the caller's proxy: 1");
    }

    #[test]
    fn headless_service_has_no_endpoints_in_the_proxy() {
        let mut facts = works();
        let proxy = facts.proxy.as_mut().unwrap();
        proxy.endpoints.clear();
        proxy.passes_through = [POOL.to_owned()].into();
        let hop = judge(&facts);
        assert!(hop.verdict == Verdict::Ok && hop.saw.contains("headless"), "{hop:?}");
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
