//! What `deploy` notes about the objects that it applies: mistakes that depend on clusters, which only it knows for certain.

use std::collections::BTreeMap;

use kube::ResourceExt;
use kube::api::DynamicObject;

use super::mesh::{Clusters, Mesh, Source};
use super::rule::Finding;
use super::{breaker, network, port_name};
use crate::lifecycle::deploy::place::Placed;
use crate::lifecycle::deploy::stubs::STUB;

/// Returns the notes on placed objects. `live` are the Services that exist, by cluster; stubs among them are replaced.
pub fn notes(placed: &[Placed], live: &BTreeMap<String, Vec<DynamicObject>>) -> Vec<String> {
    let sources: Vec<Source> = placed.iter().map(Source::of_placed).collect();
    let mesh = Mesh(&sources);
    let cuts = network::cuts(mesh).into_iter().filter(|cut| cut.is_called).map(|cut| cut.finding);
    let mut notes: Vec<String> =
        breaker::find(mesh).into_iter().chain(cuts).map(|found| note(&sources, &found)).collect();
    let existing =
        live.iter().flat_map(|(cluster, services)| services.iter().map(move |service| (cluster, service)));
    let existing = existing.filter(|(_, service)| !service.labels().contains_key(STUB));
    let mut services: Vec<Source> = existing
        .map(|(cluster, service)| Source {
            object: service.clone(),
            folder: 0,
            clusters: Clusters::In([cluster.clone()].into()),
        })
        .collect();
    let existing = services.len();
    services.extend(sources);
    let renamed = port_name::find(Mesh(&services)).into_iter().filter(|found| found.source >= existing);
    notes.extend(renamed.map(|found| note(&services, &found)));
    notes
}

fn note(sources: &[Source], found: &Finding) -> String {
    let source = &sources[found.source];
    format!("{} {}: {}; {}", source.kind(), source.name(), found.what, found.fix)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ORDERS, rule, sources};
    use super::*;
    use crate::lifecycle::deploy::place::By;

    fn placed(yaml: &str, clusters: &[&str]) -> Vec<Placed> {
        let clusters: Vec<String> = clusters.iter().map(|name| (*name).to_owned()).collect();
        let placed = |source: &Source| Placed {
            object: source.object.clone(),
            clusters: clusters.clone(),
            by: By::To,
            source: Default::default(),
        };
        sources(yaml).iter().map(placed).collect()
    }

    #[test]
    fn breaker_is_noted_with_its_fix() {
        let yaml = format!("{ORDERS}---\n{}", rule("trafficPolicy: {outlierDetection: {}}"));
        let notes = |clusters: &[&str]| notes(&placed(&yaml, clusters), &BTreeMap::new());
        assert_eq!(notes(&["a", "b"]).len(), 1);
        let note = &notes(&["a", "b"])[0];
        assert!(note.starts_with("DestinationRule orders: the circuit breaker of orders never opens"), "{note}");
        assert!(note.contains("10 % of 4 endpoints") && note.contains("set maxEjectionPercent to 25"), "{note}");
        assert_eq!(notes(&["a", "b", "c", "d", "e"]), [] as [String; 0]);
    }

    #[test]
    fn network_policy_is_noted_if_something_calls_the_pods() {
        let deny = "---\n{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: deny, namespace: shop}, \
            spec: {podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}}\n";
        let web = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: shop}, spec: {template: {metadata: \
            {labels: {app: web}}, spec: {containers: [{name: a, env: [{name: ORDERS, value: \"http://orders:8080\"}]}]}}}}";
        let mut all = placed(&format!("{ORDERS}{deny}"), &["a"]);
        assert_eq!(notes(&all, &BTreeMap::new()), [] as [String; 0]);
        all.extend(placed(web, &["b"]));
        let notes = notes(&all, &BTreeMap::new());
        assert!(
            notes.len() == 1
                && notes[0].starts_with(
                    "NetworkPolicy deny: pods of other clusters cannot reach Deployment orders, but Deployment web in b refers to \
                        http://orders:8080 (ORDERS); add an ipBlock"
                ),
            "{notes:?}"
        );
    }

    #[test]
    fn port_of_an_existing_service_with_another_name_is_noted() {
        let mut there = sources(ORDERS)[0].object.clone();
        there.data["spec"]["ports"][0]["name"] = "web".into();
        let live = |service: DynamicObject| BTreeMap::from([("b".to_owned(), vec![service])]);
        let all = placed(ORDERS, &["a"]);
        assert_eq!(
            notes(&all, &live(there.clone())),
            [
                "Service orders: port 8080 of Service orders has name http in a, but name web in b; use the same in every cluster"
            ]
        );
        there.labels_mut().insert(STUB.to_owned(), "true".to_owned());
        assert_eq!(notes(&all, &live(there)), [] as [String; 0]);
    }
}
