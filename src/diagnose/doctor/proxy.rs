//! Proxies in environment variables: requests that they must not receive, and nodes that cannot reach them.

use super::check::{Check, Judgement, Severity, good};
use super::facts::{Facts, RegistryAnswer};

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "proxy.except",
        finds: "HTTP_PROXY or HTTPS_PROXY is set, and NO_PROXY does not cover both 127.0.0.1 and localhost",
        tested: "real: environment variables",
        judge: except,
    },
    Check {
        id: "proxy.loopback",
        finds: "HTTP_PROXY or HTTPS_PROXY has a loopback address, which nodes cannot reach",
        tested: "real: environment variables",
        judge: loopback,
    },
    Check {
        id: "proxy.engine",
        finds: "HTTP_PROXY or HTTPS_PROXY is set, the engine has no HTTPS proxy, and it cannot reach a registry, or gets \
            no response in time",
        tested: "real: environment variables, and a test registry that does not exist",
        judge: engine,
    },
];

/// The host's loopback address and name.
const SELF: [&str; 2] = ["127.0.0.1", "localhost"];

fn named(facts: &Facts) -> Option<String> {
    let named: Vec<_> = facts.proxy.named.iter().map(|(name, value)| format!("{name}={}", bare(value))).collect();
    (!named.is_empty()).then(|| named.join(" "))
}

/// Returns a proxy's address without user and password.
fn bare(proxy: &str) -> String {
    match (proxy.split_once("://"), proxy.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        (None, Some((_, host))) => host.into(),
        (_, None) => proxy.into(),
    }
}

fn except(facts: &Facts) -> Vec<Judgement> {
    let Some(evidence) = named(facts) else { return good() };
    let listed: Vec<_> = facts.proxy.except.split(',').map(str::trim).collect();
    let missing: Vec<_> = SELF
        .into_iter()
        .filter(|own| !listed.iter().any(|listed| listed == own || *listed == "*" || covers(listed, own)))
        .collect();
    if missing.is_empty() {
        return good();
    }
    let missing = missing.join(",");
    Judgement::found(
        Severity::Warns,
        format!("a proxy is set, and NO_PROXY does not cover {missing}"),
        format!("{evidence} NO_PROXY={}", facts.proxy.except),
        "curl, Python and browsers send requests to the API servers and to the caller page (kindmesh open) through the \
            proxy; kindmesh and kubectl do not",
        format!("export NO_PROXY={missing}${{NO_PROXY:+,$NO_PROXY}}; export no_proxy=$NO_PROXY"),
    )
}

/// Whether an item of `NO_PROXY` that is a network contains an address.
fn covers(listed: &str, address: &str) -> bool {
    let network = listed.parse::<ipnet::Ipv4Net>();
    matches!((network, address.parse()), (Ok(network), Ok(address)) if network.contains::<&std::net::Ipv4Addr>(&address))
}

fn loopback(facts: &Facts) -> Vec<Judgement> {
    let host = |proxy: &str| {
        let address = bare(proxy);
        let address = address.split_once("://").map_or(address.as_str(), |(_, rest)| rest).to_owned();
        address.split(['/', ':']).next().unwrap_or_default().to_owned()
    };
    let here = |proxy: &str| SELF.contains(&host(proxy).as_str()) || host(proxy).starts_with("127.");
    let local: Vec<_> = facts.proxy.named.iter().filter(|(_, value)| here(value)).collect();
    if local.is_empty() {
        return good();
    }
    let evidence: Vec<_> = local.iter().map(|(name, value)| format!("{name}={}", bare(value))).collect();
    Judgement::found(
        Severity::Warns,
        "the proxy has a loopback address",
        evidence.join(" "),
        "kind passes these variables to the nodes, where that address is the node's own: nodes cannot pull your \
            images (kindmesh loads its own)",
        "let the proxy listen on the Docker bridge too, and use that address: ip -4 -brief address show \
            docker0; or unset the variables for kindmesh up",
    )
}

fn engine(facts: &Facts) -> Vec<Judgement> {
    let (Some(engine), Some(evidence)) = (&facts.engine, named(facts)) else { return good() };
    let unreached = |answer: &RegistryAnswer| match answer {
        RegistryAnswer::Silent => true,
        RegistryAnswer::Refused(_, said) => super::images::is_unreachable(said),
        RegistryAnswer::There(_) | RegistryAnswer::Unasked(_) => false,
    };
    let Some(image) = facts.images.iter().find(|image| unreached(&image.answer)) else { return good() };
    if !engine.proxy.is_empty() {
        return good();
    }
    Judgement::found(
        Severity::Warns,
        "a proxy is set in this environment, but the engine has none",
        format!(
            "{evidence}; docker info: no HTTPS Proxy; the registry of {} is unreachable, or does not respond in time",
            image.name
        ),
        "the engine pulls images, and does not use this environment's variables",
        "configure the engine in /etc/docker/daemon.json: {\"proxies\": {\"http-proxy\": \"…\", \
            \"https-proxy\": \"…\"}}, then sudo systemctl restart docker",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::doctor::facts::Proxy;
    use crate::diagnose::doctor::judge;
    use crate::diagnose::doctor::testing::{found, golden, good, missing_image};

    fn proxy(value: &str, except: &str) -> Proxy {
        Proxy { named: vec![("HTTPS_PROXY".into(), value.into())], except: except.into() }
    }

    #[test]
    fn no_proxy_must_include_the_host() {
        let mut facts = good();
        facts.proxy = proxy("http://ada:secret@proxy.example:3128", "");
        golden("proxy_except", &facts);
        for except in ["localhost,127.0.0.1", "*", "localhost, 127.0.0.0/8"] {
            facts.proxy.except = except.into();
            assert_eq!(found(&facts), "", "{except}");
        }
        facts.proxy.except = "localhost".into();
        assert!(found(&facts).contains("export NO_PROXY=127.0.0.1$"));
    }

    #[test]
    fn loopback_proxy_is_unreachable_from_nodes() {
        let mut facts = good();
        facts.proxy = proxy("http://127.0.0.1:3128/", "localhost,127.0.0.1");
        golden("proxy_loopback", &facts);
        for elsewhere in ["proxy.example:3128", "http://10.1.2.3:80"] {
            facts.proxy = proxy(elsewhere, "*");
            assert_eq!(found(&facts), "");
        }
    }

    #[test]
    fn engine_without_the_shells_proxy() {
        let mut facts = good();
        facts.proxy = proxy("http://proxy.example:3128", "*");
        facts.images = vec![missing_image(RegistryAnswer::Silent)];
        let ids: Vec<_> = judge(&facts).findings.iter().map(|finding| finding.id).collect();
        assert_eq!(ids, ["proxy.engine", "registry.unreachable"]);
        facts.engine.as_mut().unwrap().proxy = "http://proxy.example:3128".into();
        let ids: Vec<_> = judge(&facts).findings.iter().map(|finding| finding.id).collect();
        assert_eq!(ids, ["registry.unreachable"]);
    }
}
