//! Ports of a Service that have another name in another cluster.

use serde_json::Value;

use super::mesh::{Clusters, Mesh, Source};
use super::rule::{Finding, Rule, Severity};

pub(super) static RULE: Rule = Rule {
    id: "port-name-differs",
    summary: "A port of a Service with another name or protocol in another cluster",
    reason: "istiod joins the ports of a Service in several clusters by name: pods behind a port with another name get no calls from \
        the other clusters. Proxies go by the protocol that the Service of their own cluster declares.",
    severity: Severity::Error,
};

pub(super) fn find(mesh: Mesh) -> Vec<Finding> {
    let services: Vec<(usize, &Source)> = mesh.of("Service").collect();
    let pairs = services.iter().enumerate().filter_map(|(index, (number, service))| {
        let same = |other: &Source| other.name() == service.name() && other.namespace() == service.namespace();
        let (_, other) = services[..index].iter().find(|(_, other)| same(other) && are_apart(other, service))?;
        Some((*number, *service, *other))
    });
    pairs.flat_map(|(number, service, other)| judge(number, service, other)).collect()
}

/// Whether two objects are in different clusters.
fn are_apart(one: &Source, other: &Source) -> bool {
    matches!((&one.clusters, &other.clusters), (Clusters::In(one), Clusters::In(other)) if one.is_disjoint(other))
}

fn judge(number: usize, service: &Source, other: &Source) -> Vec<Finding> {
    let text = |port: &Value, field: &str| port[field].as_str().unwrap_or_default().to_owned();
    let judge = |(index, port): (usize, &Value)| {
        let there = other.list("ports").iter().find(|there| there["port"] == port["port"])?;
        let field = ["name", "appProtocol"].into_iter().find(|field| text(port, field) != text(there, field))?;
        let shown = |port: &Value| match text(port, field).as_str() {
            "" => format!("no {field}"),
            value => format!("{field} {value}"),
        };
        let what = format!(
            "port {} of Service {} has {} in {}, but {} in {}",
            port["port"],
            service.name(),
            shown(port),
            clusters(service),
            shown(there),
            clusters(other)
        );
        let found = RULE.found(number, format!("spec.ports[{index}]"), what, "use the same in every cluster");
        Some(if field == "name" { found } else { found.with(Severity::Warning) })
    };
    service.list("ports").iter().enumerate().filter_map(judge).collect()
}

fn clusters(service: &Source) -> String {
    match &service.clusters {
        Clusters::In(clusters) => clusters.iter().cloned().collect::<Vec<_>>().join(" and "),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::found;
    use super::*;

    /// The Service `orders` in two clusters.
    fn with(east: &str, west: &str) -> Vec<Finding> {
        let service = |cluster: &str, port: &str| {
            format!(
                "{{apiVersion: v1, kind: Service, metadata: {{name: orders, annotations: {{kindmesh/clusters: {cluster}}}}}, \
                    spec: {{selector: {{app: orders}}, ports: [{{port: 90, name: admin}}, {{port: 80{port}}}]}}}}\n---\n"
            )
        };
        found(&(service("east", east) + &service("west", west)), find)
    }

    #[test]
    fn other_name_is_an_error_and_other_protocol_a_warning() {
        let name = with(", name: http", ", name: web");
        assert_eq!(name[0].what, "port 80 of Service orders has name web in west, but name http in east");
        assert_eq!((name.len(), name[0].path.as_str(), name[0].severity), (1, "spec.ports[1]", Severity::Error));
        assert_eq!(
            with("", ", name: web")[0].what,
            "port 80 of Service orders has name web in west, but no name in east"
        );
        let protocol = with(", name: a, appProtocol: http", ", name: a, appProtocol: tcp");
        assert_eq!((protocol.len(), protocol[0].severity), (1, Severity::Warning));
    }

    #[test]
    fn same_name_is_clean_and_so_are_variants_for_one_cluster() {
        assert_eq!(with(", name: http", ", name: http"), []);
        let variant = |name: &str| {
            format!(
                "{{apiVersion: v1, kind: Service, metadata: {{name: a}}, spec: {{ports: [{{port: 80, name: {name}}}]}}}}\n---\n"
            )
        };
        assert_eq!(found(&(variant("http") + &variant("web")), find), []);
    }
}
