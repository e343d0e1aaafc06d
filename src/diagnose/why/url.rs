//! The target of a call, which names a Service: a URL, or a host and a port.

use std::fmt;
use std::str::FromStr;

use super::protocol::Speaks;

/// A target `http://HOST[:PORT][/PATH]`, `grpc://HOST:PORT[/SERVICE/METHOD]`, `tcp://HOST:PORT` or `HOST:PORT`, whose host is the
/// name of a Service, or of a pod of a headless Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    text: String,
    /// What the client speaks. Without a scheme, what the Service's port declares.
    pub speaks: Option<Speaks>,
    /// The pod's name, if the host is `POD.SERVICE.NAMESPACE.svc`.
    pub pod: Option<String>,
    /// The Service's name.
    pub name: String,
    /// The Service's namespace, if the host has one.
    pub namespace: Option<String>,
    /// The port. Default for HTTP: 80.
    pub port: u16,
    /// The path, with a gRPC service and method as `/SERVICE/METHOD`. Default: `/`.
    pub path: String,
}

impl Address {
    /// Returns the target as given.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn wrong(why: impl fmt::Display) -> String {
    format!(
        "{why}: use http://orders:8080/path, grpc://orders:8082/package.Service/Method, tcp://orders:9000 or \
            orders:8080, with orders.shop for another namespace"
    )
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (speaks, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(speaks(scheme)?), rest),
            None => (None, text),
        };
        let (host, path) = match rest.find(['/', '?']) {
            Some(end) => rest.split_at(end),
            None => (rest, "/"),
        };
        let (host, port) = match (host.split_once(':'), speaks) {
            (Some((host, port)), _) => {
                let port = port.parse::<u16>().ok().filter(|port| *port != 0);
                (host, port.ok_or_else(|| wrong("the port is not between 1 and 65535"))?)
            }
            (None, Some(Speaks::Http)) => (host, 80),
            (None, _) => return Err(wrong("the target has no port")),
        };
        match speaks {
            Some(Speaks::Http) => {}
            Some(Speaks::Grpc) => check_method(path)?,
            Some(Speaks::Tcp) if path != "/" => return Err(wrong("a TCP connection has no path")),
            None if path != "/" => return Err(wrong("a path needs http:// or grpc://")),
            Some(Speaks::Tcp) | None => {}
        }
        let name = Name::of(host).ok_or_else(|| {
            wrong(format!(
                "the host {host:?} is not the name of a Service, nor of a pod of a headless Service \
                    (orders-0.orders.shop.svc)"
            ))
        })?;
        let Name { pod, name, namespace } = name;
        Ok(Self { text: text.to_owned(), speaks, pod, name, namespace, port, path: path.to_owned() })
    }
}

fn speaks(scheme: &str) -> Result<Speaks, String> {
    match scheme {
        "http" => Ok(Speaks::Http),
        "grpc" => Ok(Speaks::Grpc),
        "tcp" => Ok(Speaks::Tcp),
        "https" | "grpcs" | "wss" | "tls" => {
            Err(wrong(format!("{scheme} is not supported, because the mesh encrypts calls")))
        }
        "ws" | "http2" | "h2c" => Err(wrong(format!("{scheme} is not a scheme of its own here, but HTTP"))),
        _ => Err(wrong(format!("the scheme {scheme:?} is not http, grpc or tcp"))),
    }
}

/// Checks that a path is a gRPC service and method, or absent.
fn check_method(path: &str) -> Result<(), String> {
    let is_name =
        |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
    match path.trim_start_matches('/').split_once('/') {
        _ if path == "/" => Ok(()),
        Some((service, method)) if is_name(service) && is_name(method) && !path.starts_with("//") => Ok(()),
        _ => Err(wrong(format!("the path {path:?} is not a gRPC service and method"))),
    }
}

/// Returns the name and the namespace of the Service that a full name is of: `SERVICE.NAMESPACE.svc.cluster.local`.
pub(super) fn service_of(host: &str) -> Option<(String, String)> {
    host.strip_suffix(".svc.cluster.local")?;
    let Name { pod: None, name, namespace: Some(namespace) } = Name::of(host)? else { return None };
    Some((name, namespace))
}

/// The parts of a host.
struct Name {
    pod: Option<String>,
    name: String,
    namespace: Option<String>,
}

impl Name {
    /// Reads `SERVICE`, `SERVICE.NAMESPACE`, both with `.svc[.cluster.local]`, or `POD.SERVICE.NAMESPACE.svc[.cluster.local]`.
    /// The name of a pod needs `.svc`: `a.b.c` could be a host outside the cluster.
    fn of(host: &str) -> Option<Self> {
        if host.parse::<std::net::IpAddr>().is_ok() {
            return None;
        }
        let host = host.strip_suffix('.').unwrap_or(host);
        let (name, is_full) = match host.strip_suffix(".cluster.local").unwrap_or(host).strip_suffix(".svc") {
            Some(name) => (name, true),
            None => (host, false),
        };
        let labels: Vec<&str> = name.split('.').collect();
        let fits =
            |label: &&str| !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        if !labels.iter().all(fits) {
            return None;
        }
        let owned = |label: &str| label.to_owned();
        match (labels.as_slice(), is_full) {
            ([name], false) => Some(Self { pod: None, name: owned(name), namespace: None }),
            ([name, namespace], _) => {
                Some(Self { pod: None, name: owned(name), namespace: Some(owned(namespace)) })
            }
            ([pod, name, namespace], true) => {
                Some(Self { pod: Some(owned(pod)), name: owned(name), namespace: Some(owned(namespace)) })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_services_are_read() {
        for (text, name, namespace, port, path) in [
            ("http://orders", "orders", None, 80, "/"),
            ("http://orders:8080/a?b", "orders", None, 8080, "/a?b"),
            ("http://orders.shop", "orders", Some("shop"), 80, "/"),
            ("http://orders.shop.svc.cluster.local.:1", "orders", Some("shop"), 1, "/"),
            ("grpc://orders.shop:8082/shop.v1.Orders/Get", "orders", Some("shop"), 8082, "/shop.v1.Orders/Get"),
            ("tcp://orders.shop.svc:9000", "orders", Some("shop"), 9000, "/"),
            ("orders:9000", "orders", None, 9000, "/"),
            ("orders.shop:9000", "orders", Some("shop"), 9000, "/"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.name.as_str(), address.namespace.as_deref()), (name, namespace), "{text}");
            assert_eq!((address.port, address.path.as_str()), (port, path), "{text}");
            assert_eq!((address.pod.as_deref(), address.text()), (None, text), "{text}");
        }
    }

    #[test]
    fn only_full_names_of_services_are_aliases_of_services() {
        assert_eq!(service_of("orders.shop.svc.cluster.local"), Some(("orders".into(), "shop".into())));
        for other in ["orders.shop.svc", "orders.shop", "orders", "db-0.db.shop.svc.cluster.local", "example.com"]
        {
            assert_eq!(service_of(other), None, "{other}");
        }
    }

    #[test]
    fn scheme_is_the_protocol() {
        for (text, speaks) in [
            ("http://a:1", Some(Speaks::Http)),
            ("grpc://a:1", Some(Speaks::Grpc)),
            ("tcp://a:1", Some(Speaks::Tcp)),
            ("tcp://a:1/", Some(Speaks::Tcp)),
            ("a:1", None),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().speaks, speaks, "{text}");
        }
    }

    #[test]
    fn pods_of_headless_services_are_read() {
        for text in ["tcp://db-0.db.shop.svc:1", "http://db-0.db.shop.svc.cluster.local:1", "db-0.db.shop.svc.:1"]
        {
            let address: Address = text.parse().unwrap();
            let parts = (address.pod.as_deref(), address.name.as_str(), address.namespace.as_deref());
            assert_eq!(parts, (Some("db-0"), "db", Some("shop")), "{text}");
        }
    }

    #[test]
    fn wrong_targets_name_what_is_wrong_and_what_is_valid() {
        for (text, why) in [
            ("", "no port"),
            ("orders", "no port"),
            ("tcp://orders", "no port"),
            ("grpc://orders/a.B/C", "no port"),
            ("orders:", "port is not"),
            ("http://a:0", "port is not"),
            ("tcp://a:65536", "port is not"),
            ("tcp://a:-1", "port is not"),
            ("tcp://a:1:2", "port is not"),
            ("https://orders", "the mesh encrypts"),
            ("grpcs://orders:1", "the mesh encrypts"),
            ("ws://orders:1", "but HTTP"),
            ("http2://orders:1", "but HTTP"),
            ("HTTP://orders:1", "is not http, grpc or tcp"),
            ("udp://orders:1", "is not http, grpc or tcp"),
            ("://orders:1", "is not http, grpc or tcp"),
            ("tcp://orders:1/a", "has no path"),
            ("tcp://orders:1?a", "has no path"),
            ("orders:1/a", "a path needs"),
            ("grpc://orders:1/Method", "not a gRPC service and method"),
            ("grpc://orders:1/a.B/C/D", "not a gRPC service and method"),
            ("grpc://orders:1//C", "not a gRPC service and method"),
            ("grpc://orders:1/a.B/", "not a gRPC service and method"),
            ("grpc://orders:1/a.B/C?d", "not a gRPC service and method"),
            ("http://10.0.0.1:80", "not the name of a Service"),
            ("10.0.0.1:80", "not the name of a Service"),
            ("tcp://[::1]:80", "port is not"),
            ("http://example.com.au", "not the name of a Service"),
            ("http://", "not the name of a Service"),
            ("tcp://.shop:1", "not the name of a Service"),
            ("tcp://a.b.c:1", "not the name of a Service"),
            ("tcp://a.b.c.d.svc:1", "not the name of a Service"),
            ("tcp://a.svc:1", "not the name of a Service"),
            ("tcp://me@orders:1", "not the name of a Service"),
        ] {
            let error = text.parse::<Address>().expect_err(text);
            assert!(error.contains(why) && error.contains("tcp://orders:9000"), "{text}: {error}");
        }
    }
}
