//! The Service: whether it has the called port, and whether the port declares what the client speaks.

use super::facts::{Cluster, Heard, Port, listed};
use super::protocol::{Declared, Speaks};
use super::{Facts, Hop};

const HOP: &str = "service";

pub(super) fn judge(facts: &Facts) -> Hop {
    let call = &facts.call;
    let Some((here, service)) = facts.named().and_then(|here| Some((here, here.service.as_ref()?))) else {
        return Hop::skipped(HOP, "no Service");
    };
    let Some(port) = here.port(call.port) else {
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
    let lacks = facts.clusters.iter().find(|other| other.service.is_some() && other.port(call.port).is_none());
    if let Some(other) = lacks {
        return Hop::wrong(
            HOP,
            format!("Service {} has port {} in {}, but not in {}", call.name, call.port, here.name, other.name),
            format!("define the same ports in both: {} edit service {}", facts.kubectl(other), call.name),
        );
    }
    if let Some(wrong) = renamed(facts, here, port).or_else(|| of_own_node(facts, here)) {
        return wrong;
    }
    match spoken(facts, Declared::of(port)).and_then(|handled| received(facts).map(|()| handled)) {
        Ok(handled) => Hop::ok(
            HOP,
            format!("port {} ({handled}{}), targetPort {}", port.number, differs(facts, port), port.target),
        ),
        Err((saw, wanted)) => Hop::wrong(HOP, format!("port {} {saw}", port.number), declare(facts, wanted)),
    }
}

/// Judges the port's name. Of the endpoints of a cluster, istiod sends those whose port has the name that its own cluster's Service gives
/// the port, or the first Service it finds (`EndpointBuilder` of Istio).
fn renamed(facts: &Facts, here: &Cluster, port: &Port) -> Option<Hop> {
    let (call, number) = (&facts.call, port.number);
    let own = facts.clusters.iter().find(|cluster| cluster.name == facts.control_plane);
    let (first, wanted) = own.and_then(|own| Some((own, own.port(number)?))).unwrap_or((here, port));
    let serving = facts.serving();
    let other = |cluster: &Cluster| cluster.port(number).filter(|other| other.name != wanted.name).cloned();
    let (cluster, other) = serving.iter().find_map(|cluster| Some((*cluster, other(cluster)?)))?;
    let called = |port: &Port| match port.name.as_str() {
        "" => "has no name".to_owned(),
        name => format!("is named {name}"),
    };
    let saw = format!(
        "port {number} of Service {} {} in {}, but {} in {}: istiod joins ports by name, so the pods in {} receive no calls",
        call.name,
        called(wanted),
        first.name,
        called(&other),
        cluster.name,
        cluster.name
    );
    // The Service without pods is the copy.
    let (of, name) = match serving.iter().any(|serving| serving.name == first.name) {
        true => (cluster, &wanted.name),
        false => (first, &other.name),
    };
    let index = of.service.iter().flat_map(|service| &service.ports).position(|port| port.number == number)?;
    let change = match name.as_str() {
        "" => format!(r#"[{{"op":"remove","path":"/spec/ports/{index}/name"}}]"#),
        name => format!(r#"[{{"op":"add","path":"/spec/ports/{index}/name","value":"{name}"}}]"#),
    };
    let patch = format!("{} patch service {} --type json -p '{change}'", facts.kubectl(of), call.name);
    Some(Hop::wrong(HOP, saw, format!("use the same name in every cluster: {patch}")))
}

/// Judges a Service whose endpoints are those of the caller's node only, of which pods in other clusters are none.
fn of_own_node(facts: &Facts, here: &Cluster) -> Option<Hop> {
    here.service.as_ref().filter(|service| service.node_local)?;
    let (call, serving) = (&facts.call, facts.serving());
    if serving.is_empty() || serving.iter().any(|cluster| facts.is_here(cluster)) {
        return None;
    }
    Some(Hop::wrong(
        HOP,
        format!(
            "Service {} in {} has internalTrafficPolicy: Local: only pods on the caller's own node receive calls, but all are in other \
                clusters",
            call.name, here.name
        ),
        format!(
            r#"{} patch service {} -p '{{"spec":{{"internalTrafficPolicy":"Cluster"}}}}'"#,
            facts.kubectl(here),
            call.name
        ),
    ))
}

/// Checks that the pods' proxies, which go by the Service in their own cluster, take what the client speaks.
fn received(facts: &Facts) -> Result<(), (String, &'static str)> {
    let http = |cluster: &&Cluster| {
        let declared = cluster.port(facts.call.port).map(Declared::of);
        matches!(declared, Some(Declared::Http | Declared::Http2 | Declared::Grpc))
    };
    match facts.serving().into_iter().find(http).filter(|_| facts.call.speaks == Speaks::Tcp) {
        Some(cluster) => {
            let declared = cluster.port(facts.call.port).map_or(Declared::Nothing, Declared::of);
            let name = &cluster.name;
            Err((format!("is declared as {declared} in {name}: the proxies of its pods accept only HTTP"), "tcp"))
        }
        None => Ok(()),
    }
}

/// Returns how proxies handle what the client speaks on a port that declares this, or why they fail it, and the protocol
/// to declare instead.
fn spoken(facts: &Facts, declared: Declared) -> Result<String, (String, &'static str)> {
    use Declared::{Grpc, Http, Http2, Nothing, Tcp, Tls};
    let speaks_first = matches!(facts.direct, Some(Heard::Bytes(_)));
    Ok(match (facts.call.speaks, declared) {
        (Speaks::Http, Nothing) if facts.call.as_declared => {
            "not declared as HTTP: the proxy detects the protocol; judged as HTTP, use tcp:// for another".into()
        }
        (Speaks::Http, Nothing) => "not declared as HTTP: the proxy detects the protocol".into(),
        (Speaks::Http, Http) => "HTTP".into(),
        (Speaks::Http, Http2 | Grpc) => format!("declared as {declared}: the pods receive requests as HTTP/2"),
        (Speaks::Grpc, Http2 | Grpc) => "gRPC: calls are balanced one by one".into(),
        (Speaks::Grpc, Nothing) => "not declared as gRPC: the proxy detects HTTP/2".into(),
        (Speaks::Grpc, Http) => {
            return Err((
                "is declared as HTTP, so the pods receive HTTP/1.1, in which a gRPC server fails every call"
                    .into(),
                "grpc",
            ));
        }
        (Speaks::Http | Speaks::Grpc, Tcp | Tls) => format!(
            "declared as {declared}, not as {}: connections are balanced, not calls; routes, timeouts and retries have \
                no effect",
            facts.call.speaks
        ),
        (Speaks::Tcp, Tcp) => "TCP: connections are balanced".into(),
        (Speaks::Tcp, Tls) => "declared as TLS: the client must send TLS".into(),
        (Speaks::Tcp, Nothing) if speaks_first => {
            return Err((
                "declares no protocol: the proxies wait for the client's first bytes to detect it, but here the \
                    server speaks first, so that the connection hangs"
                    .into(),
                "tcp",
            ));
        }
        (Speaks::Tcp, Nothing) => {
            "not declared as TCP: the proxies wait for the client's first bytes to detect the protocol".into()
        }
        (Speaks::Tcp, Http | Http2 | Grpc) => {
            let first = if speaks_first { ", and the server's first bytes do not arrive" } else { "" };
            return Err((format!("is declared as {declared}: the proxies accept only HTTP{first}"), "tcp"));
        }
    })
}

/// Returns a remark about a cluster that declares something else. Its proxies go by that.
fn differs(facts: &Facts, port: &Port) -> String {
    let other = facts.clusters.iter().find_map(|cluster| {
        let declared = Declared::of(cluster.port(facts.call.port)?);
        (declared != Declared::of(port)).then(|| format!("; {} declares {declared} for it", cluster.name))
    });
    other.unwrap_or_default()
}

/// Returns the commands that declare a protocol in every cluster with the Service.
fn declare(facts: &Facts, protocol: &str) -> String {
    let patch = format!(r#"'{{"spec":{{"ports":[{{"port":{},"appProtocol":"{protocol}"}}]}}}}'"#, facts.call.port);
    let served = facts.clusters.iter().filter(|cluster| cluster.service.is_some());
    let commands: Vec<String> = served
        .map(|cluster| format!("{} patch service {} -p {patch}", facts.kubectl(cluster), facts.call.name))
        .collect();
    format!("declare it as {protocol} in every cluster: {}", commands.join("; "))
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

    fn with(speaks: Speaks, declared: Option<&str>, direct: Option<Heard>) -> Hop {
        let mut facts = works();
        facts.call.speaks = speaks;
        facts.direct = direct;
        for cluster in &mut facts.clusters {
            let port = &mut cluster.service.as_mut().unwrap().ports[0];
            (port.name, port.protocol) = ("x".into(), declared.map(str::to_owned));
        }
        judge(&facts)
    }

    #[test]
    fn each_protocol_is_judged_by_what_the_port_declares() {
        let mut table = String::new();
        for speaks in [Speaks::Http, Speaks::Grpc, Speaks::Tcp] {
            for declared in [Some("http"), Some("http2"), Some("grpc"), Some("tcp"), Some("tls"), None] {
                let hop = with(speaks, declared, None);
                let declared = declared.unwrap_or("-");
                table.push_str(&format!("{speaks} on {declared}: {:?}: {}\n", hop.verdict, hop.saw));
            }
        }
        insta::assert_snapshot!(table);
    }

    #[test]
    fn server_that_speaks_first_needs_the_declaration() {
        let greeting = Some(Heard::Bytes("220 ready".into()));
        let hop = with(Speaks::Tcp, None, greeting.clone());
        assert!(hop.verdict == Verdict::Wrong && hop.saw.contains("so that the connection hangs"), "{hop:?}");
        assert_eq!(
            hop.cure.unwrap(),
            "declare it as tcp in every cluster: \
            kubectl --context kind-e-cluster1 -n shop patch service orders \
            -p '{\"spec\":{\"ports\":[{\"port\":8080,\"appProtocol\":\"tcp\"}]}}'; \
            kubectl --context kind-e-cluster2 -n shop patch service orders \
            -p '{\"spec\":{\"ports\":[{\"port\":8080,\"appProtocol\":\"tcp\"}]}}'"
        );
        assert!(with(Speaks::Tcp, Some("http"), greeting.clone()).saw.ends_with("first bytes do not arrive"));
        assert_eq!(with(Speaks::Tcp, Some("tcp"), greeting).verdict, Verdict::Ok);
        assert_eq!(with(Speaks::Tcp, None, Some(Heard::Nothing)).verdict, Verdict::Ok);
    }

    #[test]
    fn port_has_the_same_name_in_every_cluster_with_pods() {
        let mut facts = works();
        facts.clusters[1].service.as_mut().unwrap().ports[0].name = "web".into();
        let hop = judge(&facts);
        assert_eq!(
            hop.saw,
            "port 8080 of Service orders is named http in cluster1, but is named web in cluster2: istiod joins ports by name, so the \
                pods in cluster2 receive no calls"
        );
        assert_eq!(
            hop.cure.unwrap(),
            "use the same name in every cluster: kubectl --context kind-e-cluster1 -n shop patch service orders --type json \
                -p '[{\"op\":\"add\",\"path\":\"/spec/ports/0/name\",\"value\":\"web\"}]'"
        );
        // A Service without pods does not matter.
        facts.clusters[0].pods = std::mem::take(&mut facts.clusters[1].pods);
        assert_eq!(judge(&facts).verdict, Verdict::Ok);
        facts.clusters[1].pods = facts.clusters[0].pods.clone();
        facts.clusters[0].service.as_mut().unwrap().ports[0].name = String::new();
        let hop = judge(&facts);
        assert!(
            hop.saw.starts_with("port 8080 of Service orders has no name in cluster1, but is named web"),
            "{hop:?}"
        );
        assert!(
            hop.cure
                .unwrap()
                .contains(r#"kind-e-cluster2 -n shop patch service orders --type json -p '[{"op":"remove""#)
        );
    }

    #[test]
    fn pods_of_other_clusters_are_not_on_the_own_node() {
        let mut facts = works();
        facts.clusters[0].service.as_mut().unwrap().node_local = true;
        let hop = judge(&facts);
        assert!(hop.verdict == Verdict::Wrong && hop.saw.contains("internalTrafficPolicy: Local"), "{hop:?}");
        facts.clusters[0].pods = facts.clusters[1].pods.clone();
        assert_eq!(judge(&facts).verdict, Verdict::Ok);
    }

    #[test]
    fn bytes_need_the_declaration_in_the_pods_cluster() {
        let mut facts = works();
        facts.call.speaks = Speaks::Tcp;
        facts.clusters[0].service.as_mut().unwrap().ports[0].protocol = Some("tcp".into());
        let hop = judge(&facts);
        assert_eq!(hop.saw, "port 8080 is declared as HTTP in cluster2: the proxies of its pods accept only HTTP");
    }

    #[test]
    fn another_declaration_in_another_cluster_is_named() {
        let mut facts = works();
        facts.clusters[1].service.as_mut().unwrap().ports[0].protocol = Some("tcp".into());
        assert_eq!(judge(&facts).saw, "port 8080 (HTTP; cluster2 declares TCP for it), targetPort http");
    }

    #[test]
    fn target_without_a_scheme_on_an_undeclared_port_is_judged_as_http() {
        let mut facts = works();
        facts.call.as_declared = true;
        assert_eq!(judge(&facts).saw, "port 8080 (HTTP), targetPort http");
        facts.clusters.iter_mut().for_each(|c| c.service.as_mut().unwrap().ports[0].name = "web".into());
        assert!(judge(&facts).saw.contains("use tcp:// for another"));
    }
}
