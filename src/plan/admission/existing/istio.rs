//! The Istio in a cluster that exists. With `mesh.install`, there must be none that kindmesh did not install: two would inject the same
//! pods. Without, there must be one that fits.

use super::{Found, Refusal, kubectl};
use crate::base::names::{GATEWAY, ISTIO_NAMESPACE};
use crate::plan::existing::{Facts, Istiod};
use crate::spec::{Cluster, Label};

/// How to get the Istio that is needed.
const DOCUMENTED: &str = "install it as docs/existing-clusters.md says";

pub(super) fn guard(found: &Found<'_>) -> Vec<Refusal> {
    match found.spec.mesh.install {
        true => found.each(|_, cluster, facts| of_others(cluster, facts)),
        false => used(found),
    }
}

fn of_others(cluster: &Cluster, facts: &Facts) -> Option<Refusal> {
    let istiod = facts.istiods.iter().find(|istiod| !istiod.ours)?;
    let what = format!(
        "Istio {} with revision {} exists in cluster {}, but kindmesh did not install it",
        istiod.version, istiod.revision, cluster.name
    );
    let evidence = vec![format!("deployment {} in namespace {}", istiod.name, istiod.namespace)];
    Some(Refusal { evidence, ..Refusal::usage(what, "use it with mesh.install: false, or uninstall it") })
}

fn used(found: &Found<'_>) -> Vec<Refusal> {
    let mesh_id = found.clusters().find_map(|(_, _, facts)| facts.istiods.first()).map(|istiod| &istiod.mesh.id);
    let mut networks = found.clusters().map(|(_, cluster, _)| found.network(cluster));
    let first = networks.next();
    let needs_gateway = networks.any(|network| Some(network) != first);
    found.each(|index, cluster, facts| {
        let name = &cluster.name;
        let istiod = match facts.istiods.as_slice() {
            [one] => one,
            [] => {
                let what = format!("mesh.install is false, but cluster {name} has no istiod");
                let fix = "install Istio there, or let kindmesh do it in all clusters: mesh.install: true";
                return Some(Refusal::usage(what, fix));
            }
            all => {
                let what = format!("cluster {name} has {} control planes of Istio, but one is needed", all.len());
                return Some(Refusal::usage(what, "uninstall the others"));
            }
        };
        let mut unfit = unfit(istiod, mesh_id.map_or("", String::as_str));
        unfit.extend(other_name(istiod, index, cluster));
        unfit.extend(other_network(istiod, index, cluster, found.network(cluster)));
        if needs_gateway && !istiod.mesh.gateway {
            let fix = "install an east-west gateway of that name, with a load balancer";
            unfit.push((
                format!("namespace {ISTIO_NAMESPACE} has no Service {GATEWAY} with an address"),
                fix.into(),
            ));
        }
        let fix = unfit.first()?.1.clone();
        let others = unfit.iter().skip(1).map(|(what, fix)| format!("{what}; fix: {fix}"));
        let evidence = unfit.iter().take(1).map(|(what, _)| what.clone()).chain(others).collect();
        let what = format!("the Istio in cluster {name} does not fit this environment");
        Some(Refusal { evidence, ..Refusal::usage(what, fix) })
    })
}

/// Returns what only another installation changes, each with the fix.
fn unfit(istiod: &Istiod, mesh_id: &str) -> Vec<(String, String)> {
    let wanted = [
        ("the namespace of istiod", istiod.namespace.as_str(), ISTIO_NAMESPACE),
        ("the revision", istiod.revision.as_str(), "default"),
        ("meshID", istiod.mesh.id.as_str(), mesh_id),
        ("the trust domain", istiod.mesh.trust_domain.as_str(), "cluster.local"),
    ];
    let other = wanted.into_iter().filter(|(_, is, wanted)| is != wanted);
    other.map(|(what, is, wanted)| (differs(what, is, wanted), DOCUMENTED.into())).collect()
}

fn other_name(istiod: &Istiod, index: usize, cluster: &Cluster) -> Option<(String, String)> {
    let (is, wanted) = (istiod.mesh.cluster.as_str(), cluster.name.as_str());
    // Istio's default, which all clusters share, is none.
    let fix = match is.parse::<Label>() {
        Ok(_) => format!("set clusters[{index}].name: {is}"),
        Err(_) => DOCUMENTED.into(),
    };
    (is != wanted).then(|| (differs("clusterName", is, wanted), fix))
}

/// Proxies have the network of `global.network`, and istiod gives the label's to the endpoints of its cluster.
fn other_network(istiod: &Istiod, index: usize, cluster: &Cluster, wanted: &str) -> Option<(String, String)> {
    let (label, proxies) = (istiod.mesh.network.as_str(), istiod.mesh.proxy_network.as_str());
    match (label == wanted, proxies == wanted) {
        (true, true) => None,
        (false, true) => Some((
            differs("the network of its namespace", label, wanted),
            format!(
                "{} label namespace {ISTIO_NAMESPACE} --overwrite topology.istio.io/network={wanted}",
                kubectl(cluster)
            ),
        )),
        (_, false) if !proxies.is_empty() => {
            Some((differs("global.network", proxies, wanted), format!("set clusters[{index}].network: {proxies}")))
        }
        (_, false) => Some((differs("global.network", proxies, wanted), DOCUMENTED.into())),
    }
}

fn differs(what: &str, is: &str, wanted: &str) -> String {
    format!("{what} is \"{is}\", not \"{wanted}\"")
}
