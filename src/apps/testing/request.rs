//! A request that a test makes a caller send.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::base::error::Error;
use crate::sample::Probe;

/// The default timeout of a response.
const TIMEOUT: Duration = Duration::from_secs(30);

/// One HTTP request, on a new connection.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    url: String,
    headers: BTreeMap<String, String>,
    body: Option<Value>,
    within: Duration,
}

impl Request {
    /// Creates a GET of a URL `http://HOST[:PORT][/PATH]`.
    pub fn get(url: impl Into<String>) -> Self {
        Self { url: url.into(), headers: BTreeMap::new(), body: None, within: TIMEOUT }
    }

    /// Creates a POST of JSON.
    pub fn post(url: impl Into<String>, body: Value) -> Self {
        Self { body: Some(body), ..Self::get(url) }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }

    /// Sets the timeout of the response, 30 s by default.
    #[must_use]
    pub fn within(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    /// Returns the URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the request for the caller, with an ID.
    pub(super) fn probe(&self, id: &str) -> Result<Probe, Error> {
        let (url, path) = split(&self.url)?;
        let mut headers = self.headers.clone();
        headers.insert("x-request-id".into(), id.to_owned());
        let timeout_millis = u64::try_from(self.within.as_millis()).unwrap_or(u64::MAX);
        Ok(Probe { url, path, headers, body: self.body.clone(), timeout_millis })
    }
}

/// Splits a URL into host and path.
fn split(url: &str) -> Result<(String, String), Error> {
    let refused = || {
        Error::usage(format!("{url:?} is not a valid URL for a call"))
            .hint("use http://orders:8080/path: plain HTTP, since the mesh encrypts")
    };
    let rest = url.strip_prefix("http://").ok_or_else(refused)?;
    let (host, path) = match rest.find(['/', '?']) {
        Some(end) => rest.split_at(end),
        None => (rest, "/"),
    };
    let host: crate::sample::ProducerUrl = format!("http://{host}").parse().map_err(|_| refused())?;
    let slash = if path.starts_with('/') { "" } else { "/" };
    Ok((host.to_string(), format!("{slash}{path}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_split_into_host_and_path() {
        for (url, host, path) in [
            ("http://orders:8080", "http://orders:8080", "/"),
            ("http://orders/a/b?c=d", "http://orders:80", "/a/b?c=d"),
            ("http://orders:1?c", "http://orders:1", "/?c"),
        ] {
            assert_eq!(split(url).unwrap(), (host.to_owned(), path.to_owned()));
        }
        for wrong in ["https://orders", "orders:8080", "http://", "http://a:b/"] {
            assert!(split(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn request_carries_its_id_and_the_given_fields() {
        let probe = Request::post("http://a/b", serde_json::json!(1)).header("x", "y").probe("id-1").unwrap();
        assert_eq!((probe.headers["x"].as_str(), probe.headers["x-request-id"].as_str()), ("y", "id-1"));
        assert_eq!((probe.path.as_str(), probe.body), ("/b", Some(serde_json::json!(1))));
    }
}
