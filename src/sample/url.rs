//! The URL of a service: plain HTTP, a host and a port.

use std::fmt;
use std::str::FromStr;

use http::Uri;

/// `http://HOST[:PORT]`: only plain HTTP, because the mesh encrypts the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerUrl {
    host: String,
    port: u16,
}

impl ProducerUrl {
    /// Creates the URL of a host and a port.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// Returns the host name or address; an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the port, 80 if the URL has none.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns `HOST:PORT`, as in the Host header.
    pub(super) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for ProducerUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "http://{}", self.authority())
    }
}

/// The error for a text that is not `http://HOST[:PORT]`.
#[derive(Debug, thiserror::Error)]
#[error("{text} is not a URL of the form http://HOST:PORT: {why}")]
pub struct ProducerUrlError {
    text: String,
    why: &'static str,
}

impl FromStr for ProducerUrl {
    type Err = ProducerUrlError;

    fn from_str(text: &str) -> Result<Self, ProducerUrlError> {
        let refuse = |why| ProducerUrlError { text: text.to_owned(), why };
        let url: Uri = text.parse().map_err(|_| refuse("it is not a URL"))?;
        if url.scheme_str() != Some("http") {
            return Err(refuse("the scheme must be http"));
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() {
            return Err(refuse("a path or a query is not supported"));
        }
        let authority = url.authority().ok_or_else(|| refuse("the host is missing"))?;
        if authority.as_str().contains('@') {
            return Err(refuse("a user name is not supported"));
        }
        let host = authority.host();
        if host.is_empty() {
            return Err(refuse("the host is missing"));
        }
        // `Uri` treats a port out of range as missing, which would silently mean 80.
        let port = match authority.as_str().strip_prefix(host) {
            Some("") => 80,
            _ => authority
                .port_u16()
                .filter(|port| *port != 0)
                .ok_or_else(|| refuse("the port must be 1 to 65535"))?,
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { host, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_read_as_they_print() {
        for text in ["http://sample-producer:8080", "http://127.0.0.1:1", "http://[::1]:8080"] {
            assert_eq!(text.parse::<ProducerUrl>().unwrap().to_string(), text);
        }
        assert_eq!("http://producer/".parse::<ProducerUrl>().unwrap().to_string(), "http://producer:80");
        assert_eq!("http://[::1]:8080".parse::<ProducerUrl>().unwrap().host(), "::1");
    }

    #[test]
    fn invalid_request_is_rejected_with_a_reason() {
        for (text, why) in [
            ("https://producer:8080", "scheme"),
            ("producer:8080", "scheme"),
            ("http://producer:8080/messages", "path"),
            ("http://producer:8080?x=1", "query"),
            ("http://me@producer:8080", "user name"),
            ("http://producer:70000", "port"),
            ("http://producer:0", "port"),
            ("http://", "not a URL"),
            ("", "not a URL"),
        ] {
            let error = text.parse::<ProducerUrl>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
