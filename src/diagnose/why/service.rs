//! The Service: whether it has the called port and declares HTTP.

use super::facts::{Port, listed};
use super::{Facts, Hop};

const HOP: &str = "service";

pub(super) fn judge(facts: &Facts) -> Hop {
    let call = &facts.call;
    let Some((here, service)) = facts.here().and_then(|here| Some((here, here.service.as_ref()?))) else {
        return Hop::skipped(HOP, "no Service");
    };
    let Some(port) = service.ports.iter().find(|port| port.number == call.port) else {
        let ports: Vec<String> = service.ports.iter().map(|port| port.number.to_string()).collect();
        return Hop::wrong(
            HOP,
            format!(
                "Service {} in {} has no port {}; its ports: {}",
                call.name,
                here.name,
                call.port,
                listed(&ports)
            ),
            match ports.first() {
                Some(first) => {
                    format!(
                        "call port {first}, or add the port: {} edit service {}",
                        facts.kubectl(here),
                        call.name
                    )
                }
                None => format!("{} edit service {}", facts.kubectl(here), call.name),
            },
        );
    };
    // Istio merges the endpoints of several clusters by port number.
    let differs = facts.clusters.iter().filter_map(|cluster| Some((cluster, cluster.service.as_ref()?)));
    let lacks = differs.into_iter().find(|(_, other)| !other.ports.iter().any(|other| other.number == call.port));
    if let Some((other, _)) = lacks {
        return Hop::wrong(
            HOP,
            format!("Service {} has port {} in {}, but not in {}", call.name, call.port, here.name, other.name),
            format!("define the same ports in both: {} edit service {}", facts.kubectl(other), call.name),
        );
    }
    let http = if speaks_http(port) { "HTTP" } else { "not declared as HTTP: the proxy detects the protocol" };
    Hop::ok(HOP, format!("port {} ({http}), targetPort {}", port.number, port.target))
}

/// Whether a port is declared as HTTP, by its protocol or by the prefix of its name.
pub(super) fn speaks_http(port: &Port) -> bool {
    let said = port.protocol.clone().unwrap_or_else(|| port.name.split('-').next().unwrap_or_default().to_owned());
    ["http", "http2", "grpc", "grpc-web", "kubernetes.io/h2c"].contains(&said.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::testing::works;
    use super::*;

    #[test]
    fn missing_port_is_listed_with_existing_ones() {
        let mut facts = works();
        facts.call.port = 80;
        let hop = judge(&facts);
        assert!(hop.verdict == Verdict::Wrong && hop.saw.contains("no port 80; its ports: 8080"), "{hop:?}");
        assert!(hop.cure.unwrap().starts_with("call port 8080"));
    }

    #[test]
    fn both_clusters_need_the_port() {
        let mut facts = works();
        facts.clusters[1].service.as_mut().unwrap().ports[0].number = 9090;
        assert!(judge(&facts).saw.contains("but not in cluster2"));
    }

    #[test]
    fn http_is_detected_by_name_or_protocol() {
        let port = |name: &str, protocol: Option<&str>| Port {
            name: name.into(),
            protocol: protocol.map(str::to_owned),
            ..Port::default()
        };
        assert!(speaks_http(&port("http-web", None)) && speaks_http(&port("web", Some("http"))));
        assert!(!speaks_http(&port("web", None)) && !speaks_http(&port("http", Some("tcp"))));
    }
}
