//! The response to a call, and who sent it: the caller's proxy writes to its access log where it sent a request.

use std::net::Ipv4Addr;

/// The response to a call.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The status. One that a proxy generated, such as 503 without an endpoint, is also a response.
    pub status: u16,
    /// The body as text.
    pub body: String,
    /// The duration, in milliseconds.
    pub millis: u64,
    /// The request's ID, as in the access log of every proxy on its path.
    pub request_id: String,
    /// Who responded.
    pub served_by: ServedBy,
}

impl Answer {
    /// Parses the body as JSON.
    ///
    /// # Errors
    /// If it is not JSON, or not of the expected type.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> anyhow::Result<T> {
        use anyhow::Context;
        serde_json::from_str(&self.body).with_context(|| format!("reading the response {:?}", self.body))
    }
}

/// Who responded to a call, according to the caller's proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServedBy {
    /// The cluster; empty if the request was not sent anywhere.
    pub cluster: String,
    /// The pod; empty if it is in none of the test's own namespaces.
    pub pod: String,
    /// `ADDRESS:PORT` of the pod; empty if the request was not sent anywhere.
    pub address: String,
    /// Envoy's response flags: `-` for none, `UH` for no healthy endpoint, `UF` for a failed connection, `NR` for
    /// no route; empty if the proxy logged nothing about the request.
    pub flags: String,
    /// Envoy's details, such as `via_upstream`.
    pub details: String,
}

impl ServedBy {
    /// Returns the address without its port.
    pub(super) fn ip(&self) -> Option<Ipv4Addr> {
        self.address.rsplit_once(':')?.0.parse().ok()
    }
}

/// Parses a proxy's access log, in Istio's default format as text or JSON, for a request; cluster and pod are not in it.
pub(super) fn logged(log: &str, request_id: &str) -> Option<ServedBy> {
    let quoted = format!("\"{request_id}\"");
    let line = log.lines().rev().find(|line| line.contains(&quoted))?;
    if line.starts_with('{') {
        return as_json(line);
    }
    // After the request: `STATUS FLAGS DETAILS …`.
    let request_end = line.match_indices('"').nth(1)?.0;
    let mut words = line[request_end + 1..].split_whitespace();
    let (_status, flags, details) = (words.next()?, words.next()?, words.next()?);
    // After its ID: `"AUTHORITY" "UPSTREAM_HOST" …`.
    let behind = &line[line.find(&quoted)? + quoted.len()..];
    let upstream = behind.split('"').nth(3)?;
    Some(ServedBy {
        address: if upstream == "-" { String::new() } else { upstream.to_owned() },
        flags: flags.to_owned(),
        details: details.to_owned(),
        ..ServedBy::default()
    })
}

/// Parses a line of an access log with `accessLogEncoding: JSON`, in which missing values are null.
fn as_json(line: &str) -> Option<ServedBy> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    let text = |field: &str| line[field].as_str().filter(|text| *text != "-").unwrap_or_default().to_owned();
    Some(ServedBy {
        address: text("upstream_host"),
        flags: line["response_flags"].as_str().unwrap_or("-").to_owned(),
        details: text("response_code_details"),
        ..ServedBy::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = r#"
2026-11-24T08:00:00.000Z info something else
[2026-11-24T08:00:01.000Z] "GET /orders HTTP/1.1" 200 - via_upstream - "-" 0 14 3 2 "-" "-" "kindmesh-1" "orders:8080" "10.20.1.7:8080" outbound|8080||orders.shop.svc.cluster.local 10.10.0.9:5000 10.11.0.2:8080 10.10.0.9:5001 - default
[2026-11-24T08:00:02.000Z] "GET /orders HTTP/1.1" 503 UH no_healthy_upstream - "-" 0 19 0 - "-" "-" "kindmesh-2" "orders:8080" "-" outbound|8080||orders.shop.svc.cluster.local - 10.11.0.2:8080 10.10.0.9:5002 - default
[2026-11-24T08:00:02.000Z] "GET /a HTTP/1.1" 200
"#;

    #[test]
    fn access_log_line_shows_the_destination() {
        let served = logged(LOG, "kindmesh-1").unwrap();
        assert_eq!((served.address.as_str(), served.flags.as_str()), ("10.20.1.7:8080", "-"));
        assert_eq!(served.ip(), Some(Ipv4Addr::new(10, 20, 1, 7)));
        let nobody = logged(LOG, "kindmesh-2").unwrap();
        assert_eq!((nobody.address.as_str(), nobody.flags.as_str()), ("", "UH"));
        assert_eq!((nobody.details.as_str(), nobody.ip()), ("no_healthy_upstream", None));
        assert_eq!(logged(LOG, "kindmesh-3"), None);
        assert_eq!(logged(LOG, "kindmesh"), None);
        assert_eq!(logged("[x] \"kindmesh-9\"", "kindmesh-9"), None);
    }

    #[test]
    fn access_log_as_json_shows_the_destination() {
        let log = r#"
{"authority":"orders:8080","method":"GET","request_id":"kindmesh-1","response_code":200,"response_code_details":"via_upstream","response_flags":"-","upstream_host":"10.20.1.7:8080"}
{"request_id":"kindmesh-2","response_code":503,"response_code_details":"no_healthy_upstream","response_flags":"UH","upstream_host":null}
{"request_id":"kindmesh-3"
"#;
        let served = logged(log, "kindmesh-1").unwrap();
        assert_eq!((served.address.as_str(), served.flags.as_str()), ("10.20.1.7:8080", "-"));
        assert_eq!(served.details, "via_upstream");
        let nobody = logged(log, "kindmesh-2").unwrap();
        assert_eq!((nobody.address.as_str(), nobody.flags.as_str()), ("", "UH"));
        assert_eq!(logged(log, "kindmesh-3"), None);
    }
}
