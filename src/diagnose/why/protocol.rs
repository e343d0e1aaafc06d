//! What the port of a Service declares. Proxies handle a connection as declared.

use std::fmt;

pub use super::facts::Speaks;
use super::facts::{Facts, Port};

/// What a Service's port declares, as Istio reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Declared {
    /// HTTP/1.1
    Http,
    /// HTTP/2
    Http2,
    /// gRPC, which proxies handle as HTTP/2
    Grpc,
    /// TCP, or a protocol of a database
    Tcp,
    /// TLS of the application
    Tls,
    /// Nothing that Istio knows: proxies detect HTTP by the client's first bytes.
    Nothing,
}

/// The ports of SMTP, DNS, MySQL and MongoDB: without a declaration, Istio handles them as TCP.
const WELL_KNOWN: [u16; 4] = [25, 53, 3306, 27017];

impl Declared {
    /// Returns what a port declares, by `appProtocol`, else by the start of its name up to the first `-`.
    pub(super) fn of(port: &Port) -> Self {
        let said = match port.protocol.as_deref() {
            Some("kubernetes.io/h2c") => return Self::Http2,
            Some("kubernetes.io/ws") => return Self::Http,
            Some("kubernetes.io/wss") => return Self::Tls,
            Some(protocol) => protocol.to_ascii_lowercase(),
            None => port.name.to_ascii_lowercase(),
        };
        match said.split('-').next().unwrap_or_default() {
            "http" => Self::Http,
            "http2" => Self::Http2,
            "grpc" => Self::Grpc,
            "tcp" | "mongo" | "mysql" | "redis" => Self::Tcp,
            "https" | "tls" => Self::Tls,
            _ if WELL_KNOWN.contains(&port.number) => Self::Tcp,
            _ => Self::Nothing,
        }
    }

    /// Whether proxies forward connections as they are: no routes, no retries, no HTTP attributes in policies.
    pub(super) fn is_bytes(self) -> bool {
        matches!(self, Self::Tcp | Self::Tls)
    }

    /// Returns what a client of the port speaks.
    pub(super) fn speaks(self) -> Speaks {
        match self {
            Self::Http | Self::Http2 | Self::Nothing => Speaks::Http,
            Self::Grpc => Speaks::Grpc,
            Self::Tcp | Self::Tls => Speaks::Tcp,
        }
    }
}

/// Whether a Service's port declares something else than HTTP or gRPC: proxies forward its connections as they are.
pub fn declares_bytes(name: &str, app_protocol: Option<&str>, number: u16) -> bool {
    let protocol = app_protocol.map(str::to_owned);
    Declared::of(&Port { name: name.to_owned(), number, protocol, ..Port::default() }).is_bytes()
}

impl fmt::Display for Declared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "HTTP",
            Self::Http2 => "HTTP/2",
            Self::Grpc => "gRPC",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
            Self::Nothing => "nothing",
        })
    }
}

impl Facts {
    /// Returns what the called port declares: in the caller's cluster, whose proxies go by it, else in another one.
    pub(super) fn declared(&self) -> Option<Declared> {
        self.clusters.iter().find_map(|cluster| cluster.port(self.call.port)).map(Declared::of)
    }

    /// Whether the proxies handle the call as bytes of a connection, not as requests.
    pub(super) fn is_bytes(&self) -> bool {
        self.call.speaks == Speaks::Tcp || self.declared().is_some_and(Declared::is_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_declares_by_app_protocol_or_by_its_name() {
        for (name, protocol, number, declared) in [
            ("http-web", None, 80, Declared::Http),
            ("web", Some("http"), 80, Declared::Http),
            ("HTTP", None, 80, Declared::Http),
            ("x", Some("kubernetes.io/h2c"), 80, Declared::Http2),
            ("x", Some("kubernetes.io/ws"), 80, Declared::Http),
            ("grpc", None, 80, Declared::Grpc),
            ("grpc-web", None, 80, Declared::Grpc),
            ("http2-a", None, 80, Declared::Http2),
            // appProtocol decides, also if Istio does not know it.
            ("http", Some("tcp"), 80, Declared::Tcp),
            ("http", Some("example.com/own"), 80, Declared::Nothing),
            ("redis", None, 6379, Declared::Tcp),
            ("https", None, 443, Declared::Tls),
            ("web", None, 80, Declared::Nothing),
            ("", None, 80, Declared::Nothing),
            ("db", None, 3306, Declared::Tcp),
            ("httpx", None, 80, Declared::Nothing),
        ] {
            let port =
                Port { name: name.into(), number, protocol: protocol.map(str::to_owned), ..Port::default() };
            assert_eq!(Declared::of(&port), declared, "{name} {protocol:?} {number}");
        }
    }
}
