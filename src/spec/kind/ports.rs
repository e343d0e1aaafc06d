//! Ports of the host that kind configurations ask for: each can be used once.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Problem;
use crate::spec::Cluster;

/// A port of the host: its number and protocol, and where it was asked for.
struct Port<'a> {
    number: i64,
    protocol: &'a str,
    address: &'a str,
    path: String,
}

/// Returns the problems of ports that several nodes or API servers ask for, with their paths in the spec.
pub(in crate::spec) fn problems(clusters: &[Cluster]) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut taken: BTreeMap<(i64, &str), Vec<Port<'_>>> = BTreeMap::new();
    for port in clusters.iter().enumerate().flat_map(|(index, cluster)| of(index, cluster)) {
        let others = taken.entry((port.number, port.protocol)).or_default();
        let all = |address: &str| address.is_empty() || address == "0.0.0.0" || address == "::";
        let same = |other: &&Port<'_>| all(other.address) || all(port.address) || other.address == port.address;
        if let Some(other) = others.iter().find(same) {
            found.push(Problem {
                path: port.path.clone(),
                what: format!("is port {} of the host, which {} uses", port.number, other.path),
                fix: "choose another port, or 0 for a free one".into(),
            });
        }
        others.push(port);
    }
    found
}

fn of(index: usize, cluster: &Cluster) -> Vec<Port<'_>> {
    let mut found = Vec::new();
    let prefix = format!("clusters[{index}].kind");
    if let Some(networking) = cluster.kind.get("networking") {
        // By default, kind binds the API server to the loopback address.
        let address = networking["apiServerAddress"].as_str().unwrap_or("127.0.0.1");
        found.extend(port(
            &networking["apiServerPort"],
            "TCP",
            address,
            format!("{prefix}.networking.apiServerPort"),
        ));
    }
    let nodes = cluster.kind.get("nodes").and_then(Value::as_array).into_iter().flatten().enumerate();
    for (node, mappings) in nodes.filter_map(|(node, value)| Some((node, value["extraPortMappings"].as_array()?)))
    {
        for (number, mapping) in mappings.iter().enumerate() {
            let path = format!("{prefix}.nodes[{node}].extraPortMappings[{number}].hostPort");
            let protocol = mapping["protocol"].as_str().unwrap_or("TCP");
            let address = mapping["listenAddress"].as_str().unwrap_or_default();
            found.extend(port(&mapping["hostPort"], protocol, address, path));
        }
    }
    found
}

/// Returns a port, unless the engine chooses it.
fn port<'a>(number: &Value, protocol: &'a str, address: &'a str, path: String) -> Option<Port<'a>> {
    let number = number.as_i64().filter(|number| *number > 0)?;
    Some(Port { number, protocol, address, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(spec: &str) -> Vec<String> {
        let spec: crate::spec::Spec = serde_yaml::from_str(spec).unwrap();
        problems(&spec.clusters).into_iter().map(|problem| format!("{} {}", problem.path, problem.what)).collect()
    }

    fn mapped(name: &str, mapping: &str) -> String {
        format!("{{name: {name}, kind: {{nodes: [{{extraPortMappings: [{mapping}]}}]}}}}")
    }

    #[test]
    fn port_of_two_clusters_is_named_with_both_places() {
        let ports =
            |one: &str, other: &str| told(&format!("clusters: [{}, {}]", mapped("a", one), mapped("b", other)));
        let one = "{containerPort: 80, hostPort: 8080}";
        assert_eq!(
            ports(one, one),
            ["clusters[1].kind.nodes[0].extraPortMappings[0].hostPort is port 8080 of the host, which \
                clusters[0].kind.nodes[0].extraPortMappings[0].hostPort uses"]
        );
        assert_eq!(ports(one, "{containerPort: 80, hostPort: 8081}"), [""; 0]);
        assert_eq!(ports(one, "{containerPort: 80, hostPort: 8080, protocol: UDP}"), [""; 0]);
        assert_eq!(ports(one, "{containerPort: 80, hostPort: 8080, listenAddress: 127.0.0.1}").len(), 1);
        let at = |address: &str| format!("{{containerPort: 80, hostPort: 8080, listenAddress: {address}}}");
        assert_eq!(ports(&at("127.0.0.1"), &at("127.0.0.2")), [""; 0]);
        assert_eq!(ports("{containerPort: 80, hostPort: 0}", "{containerPort: 80, hostPort: 0}"), [""; 0]);
    }

    #[test]
    fn port_of_two_api_servers_is_named() {
        let api = "kind: {networking: {apiServerPort: 6443}}";
        let told = told(&format!("clusters: [{{name: a, {api}}}, {{name: b, {api}}}]"));
        assert_eq!(
            told,
            [
                "clusters[1].kind.networking.apiServerPort is port 6443 of the host, which clusters[0].kind.networking.apiServerPort \
                uses"
            ]
        );
    }
}
