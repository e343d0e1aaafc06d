//! The route: where the caller's proxy sends requests for the host, or bytes for the address.

use std::net::Ipv4Addr;

use super::facts::{Proxy, Route};
use super::{Facts, Hop};

const HOP: &str = "route";

pub(super) fn judge(facts: &Facts) -> Hop {
    let call = &facts.call;
    if !facts.caller.as_ref().is_some_and(|caller| caller.meshed) {
        return Hop::skipped(
            HOP,
            "the caller has no proxy: the call goes to the Service's cluster IP, in the caller's own cluster",
        );
    }
    let Some(proxy) = &facts.proxy else { return Hop::unknown(HOP, "the caller's proxy did not respond") };
    let host = facts.host();
    if facts.is_bytes() {
        return by_address(facts, proxy);
    }
    let Some(route) = &proxy.route else {
        // Not HTTP: Envoy matches the address, without an HTTP route.
        if proxy.clusters.contains_key(&facts.pool()) {
            return Hop::ok(HOP, format!("routed by address: port {} is not declared as HTTP", call.port));
        }
        return Hop::wrong(
            HOP,
            format!("the caller's proxy has no HTTP route for {host}:{}", call.port),
            format!(
                "check whether a Sidecar limits its configuration: kubectl --context {} get sidecars -A",
                facts.context()
            ),
        );
    };
    let from = route.virtual_service.as_deref().map_or_else(
        || "the Service's default HTTP route".to_owned(),
        |virtual_service| format!("VirtualService {}", virtual_service.replace(" -n ", " in namespace ")),
    );
    let edit = || match &route.virtual_service {
        Some(virtual_service) => {
            format!("kubectl --context {} edit virtualservice {virtual_service}", facts.context())
        }
        None => facts.kindmesh("up"),
    };
    if let Some(status) = route.direct {
        return Hop::wrong(HOP, format!("{from} has a direct response with status {status}"), edit());
    }
    if route.aborts >= 100.0 {
        return Hop::wrong(HOP, format!("{from} injects a fault into every call"), edit());
    }
    let missing = route.clusters.iter().find(|cluster| !proxy.clusters.contains_key(*cluster));
    if let Some(missing) = missing {
        return Hop::wrong(
            HOP,
            format!("{from} routes to {}, which does not exist", shown(missing)),
            format!("use an existing host and subset: {}", edit()),
        );
    }
    Hop::ok(
        HOP,
        format!(
            "{from} routes to {}{}",
            route.clusters.iter().map(|c| shown(c)).collect::<Vec<_>>().join(", "),
            limits(route)
        ),
    )
}

/// Judges the route of bytes: the listener for the Service's address, and the Envoy clusters behind it.
fn by_address(facts: &Facts, proxy: &Proxy) -> Hop {
    let pools = facts.pools();
    let to = pools.iter().map(|pool| shown(pool)).collect::<Vec<_>>().join(", ");
    let by = match facts.listener().and_then(|route| route.virtual_service.as_deref()) {
        Some(found) => format!("VirtualService {}", found.replace(" -n ", " in namespace ")),
        None => "address".to_owned(),
    };
    if let Some(missing) = pools.iter().find(|pool| !proxy.clusters.contains_key(*pool)) {
        return Hop::wrong(
            HOP,
            format!(
                "connections are routed by {by} to {}, which the caller's proxy does not have",
                shown(missing)
            ),
            format!(
                "check the subsets of the DestinationRule, and whether a Sidecar limits the configuration: \
                    kubectl --context {} get destinationrules,sidecars -A",
                facts.context()
            ),
        );
    }
    Hop::ok(HOP, format!("connections are routed by {by} to {to}: no HTTP routes, timeouts or retries"))
}

fn limits(route: &Route) -> String {
    let mut limits = String::new();
    if let Some(timeout) = &route.timeout {
        limits.push_str(&format!(", timeout {timeout}"));
    }
    if route.aborts > 0.0 {
        limits.push_str(&format!(", and injects faults into {} % of calls", route.aborts));
    }
    limits
}

/// Formats the name of an Envoy cluster: `outbound|8080|v2|orders.shop.svc.cluster.local`.
fn shown(cluster: &str) -> String {
    match cluster.split('|').collect::<Vec<_>>().as_slice() {
        ["outbound", port, "", host] => format!("{host}:{port}"),
        ["outbound", port, subset, host] => format!("subset {subset} of {host}:{port}"),
        _ => cluster.to_owned(),
    }
}

impl Facts {
    /// Returns the name of the Service's Envoy cluster.
    pub(super) fn pool(&self) -> String {
        format!("outbound|{}||{}", self.call.port, self.host())
    }

    /// Returns the names of the Envoy clusters that the call is sent to.
    pub(super) fn pools(&self) -> Vec<String> {
        let requests = || self.proxy.as_ref().and_then(|proxy| proxy.route.as_ref());
        let route = if self.is_bytes() { self.listener() } else { requests() };
        route
            .map(|route| route.clusters.clone())
            .filter(|names| !names.is_empty())
            .unwrap_or_else(|| vec![self.pool()])
    }

    /// Returns what the caller's proxy does with bytes: that of the listener for the address that the client connects to, else
    /// of one that leads to the Service.
    fn listener(&self) -> Option<&Route> {
        let listeners = &self.proxy.as_ref()?.listeners;
        let address = self.target().map(|address| address.to_string());
        let exact = listeners.iter().find(|(at, _)| Some(at) == address.as_ref());
        let pool = self.pool();
        let found = exact.or_else(|| listeners.iter().find(|(_, route)| route.clusters.contains(&pool)));
        found.map(|(_, route)| route)
    }

    /// Returns the address that the client connects to: the Service's, or for a headless one that of a pod.
    pub(super) fn target(&self) -> Option<Ipv4Addr> {
        let service = self.named().and_then(|cluster| cluster.service.as_ref());
        let shared = service.and_then(|service| service.cluster_ip).filter(|_| self.call.to_pod.is_none());
        shared.or_else(|| self.resolved().first()?.1.address)
    }

    /// Returns the context of the caller's cluster.
    pub(super) fn context(&self) -> String {
        self.here().map(|here| here.context.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::testing::{POOL, works};
    use super::*;

    fn with(change: impl FnOnce(&mut Route)) -> Hop {
        let mut facts = works();
        change(facts.proxy.as_mut().unwrap().route.as_mut().unwrap());
        judge(&facts)
    }

    #[test]
    fn route_to_nowhere_or_with_faults_fails() {
        let subset = POOL.replace("||", "|v2|");
        let hop = with(|route| route.clusters = vec![subset]);
        assert!(
            hop.saw.contains("subset v2 of orders.shop.svc.cluster.local:8080, which does not exist"),
            "{hop:?}"
        );
        assert!(with(|route| route.direct = Some(404)).saw.contains("status 404"));
        let hop = with(|route| {
            route.aborts = 100.0;
            route.virtual_service = Some("orders -n shop".into());
        });
        assert!(hop.cure.unwrap().ends_with("edit virtualservice orders -n shop"));
        let hop = with(|route| {
            route.aborts = 50.0;
            route.timeout = Some("5s".into());
        });
        assert!(
            hop.verdict == Verdict::Ok && hop.saw.ends_with("timeout 5s, and injects faults into 50 % of calls"),
            "{hop:?}"
        );
    }

    #[test]
    fn bytes_are_routed_by_the_listener_of_the_address() {
        let mut facts = works();
        facts.call.speaks = super::super::protocol::Speaks::Tcp;
        let hop = judge(&facts);
        assert_eq!(
            hop.saw,
            "connections are routed by address to orders.shop.svc.cluster.local:8080: no HTTP routes, timeouts or retries"
        );
        // The HTTP route of the port does not matter; a VirtualService for TCP does.
        let proxy = facts.proxy.as_mut().unwrap();
        proxy.route.as_mut().unwrap().direct = Some(404);
        let listener = Route {
            clusters: vec![POOL.replace("||", "|v2|")],
            virtual_service: Some("split -n shop".into()),
            ..Route::default()
        };
        proxy.listeners = vec![("10.96.0.9".into(), Route::default()), ("10.96.0.1".into(), listener)];
        let hop = judge(&facts);
        assert!(
            hop.verdict == Verdict::Wrong
                && hop.saw.contains("by VirtualService split in namespace shop to subset v2"),
            "{hop:?}"
        );
    }

    #[test]
    fn no_route_verdict_without_a_proxy_or_its_response() {
        let mut facts = works();
        facts.proxy.as_mut().unwrap().route = None;
        assert_eq!(judge(&facts).verdict, Verdict::Ok);
        facts.proxy.as_mut().unwrap().clusters.clear();
        assert!(judge(&facts).saw.contains("no HTTP route for orders.shop.svc.cluster.local:8080"));
        facts.proxy = None;
        assert_eq!(judge(&facts).verdict, Verdict::Unknown);
        facts.caller.as_mut().unwrap().meshed = false;
        assert_eq!(judge(&facts).verdict, Verdict::Skipped);
    }
}
