//! The URL of a call, which names a Service.

use std::fmt;
use std::str::FromStr;

/// A URL `http://HOST[:PORT][/PATH]` whose host is the name of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    text: String,
    /// The Service's name.
    pub name: String,
    /// The Service's namespace, if the URL has one.
    pub namespace: Option<String>,
    /// The port. Default: 80.
    pub port: u16,
    /// The path. Default: `/`.
    pub path: String,
}

impl Address {
    /// Returns the URL as given.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("{why}: use http://orders:8080/path, or http://orders.shop:8080");
        let rest = match text.split_once("://") {
            Some(("http", rest)) => rest,
            Some(("https", _)) => {
                return Err(wrong("https is not supported, because the mesh encrypts calls"));
            }
            _ => return Err(wrong("the URL does not start with http://")),
        };
        let (host, path) = match rest.find(['/', '?']) {
            Some(end) => rest.split_at(end),
            None => (rest, "/"),
        };
        let (host, port) = match host.split_once(':') {
            Some((host, port)) => {
                let port = port.parse::<u16>().ok().filter(|port| *port != 0);
                (host, port.ok_or_else(|| wrong("the port is not between 1 and 65535"))?)
            }
            None => (host, 80),
        };
        let mut labels = host.trim_end_matches('.').split('.');
        let name = labels.next().unwrap_or_default().to_owned();
        let namespace = labels.next().map(str::to_owned);
        let rest: Vec<&str> = labels.collect();
        let fits = |label: &str| !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        let is_address = host.parse::<std::net::IpAddr>().is_ok();
        let ends = matches!(rest.as_slice(), [] | ["svc"] | ["svc", "cluster", "local"]);
        if is_address || !ends || !fits(&name) || namespace.as_deref().is_some_and(|label| !fits(label)) {
            return Err(wrong("the host is not the name of a Service"));
        }
        Ok(Self { text: text.to_owned(), name, namespace, port, path: path.to_owned() })
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
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.name.as_str(), address.namespace.as_deref()), (name, namespace), "{text}");
            assert_eq!((address.port, address.path.as_str()), (port, path), "{text}");
        }
        for wrong in
            ["orders:80", "https://orders", "http://10.0.0.1:80", "http://example.com.au", "http://a:0", "http://"]
        {
            assert!(wrong.parse::<Address>().is_err(), "{wrong}");
        }
    }
}
