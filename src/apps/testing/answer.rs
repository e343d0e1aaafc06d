//! What came of a call, and who answered: the caller's proxy writes into its access log where it sent a request.

use std::net::Ipv4Addr;

/// What came of a call.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The answer's status. One that a proxy made up, such as 503 for want of an endpoint, is one, too.
    pub status: u16,
    /// The answer's body as text.
    pub body: String,
    /// How long it took, in milliseconds.
    pub millis: u64,
    /// The request's id, as every proxy on the way has it in its access log.
    pub request_id: String,
    /// Who answered.
    pub served_by: ServedBy,
}

impl Answer {
    /// The body, read as JSON.
    ///
    /// # Errors
    /// When it is none, or not what was expected.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> anyhow::Result<T> {
        use anyhow::Context;
        serde_json::from_str(&self.body).with_context(|| format!("reading the answer {:?}", self.body))
    }
}

/// Who answered a call, as the caller's proxy tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServedBy {
    /// The cluster; empty when the request was sent nowhere.
    pub cluster: String,
    /// The pod; empty when it is in none of the test's own namespaces.
    pub pod: String,
    /// `ADDRESS:PORT` of the pod; empty when the request was sent nowhere.
    pub address: String,
    /// Envoy's response flags: `-` for none, `UH` for no healthy endpoint, `UF` for a connection that failed, `NR` for no
    /// route; empty when the proxy wrote nothing of the request.
    pub flags: String,
    /// Envoy's details, such as `via_upstream`.
    pub details: String,
}

impl ServedBy {
    /// The address without its port.
    pub(super) fn ip(&self) -> Option<Ipv4Addr> {
        self.address.rsplit_once(':')?.0.parse().ok()
    }
}

/// Reads what a proxy's access log, in Istio's own format, says of a request; cluster and pod are not in it.
pub(super) fn logged(log: &str, request_id: &str) -> Option<ServedBy> {
    let quoted = format!("\"{request_id}\"");
    let line = log.lines().rev().find(|line| line.contains(&quoted))?;
    // Behind the request: `STATUS FLAGS DETAILS …`.
    let request_end = line.match_indices('"').nth(1)?.0;
    let mut words = line[request_end + 1..].split_whitespace();
    let (_status, flags, details) = (words.next()?, words.next()?, words.next()?);
    // Behind its id: `"AUTHORITY" "UPSTREAM_HOST" …`.
    let behind = &line[line.find(&quoted)? + quoted.len()..];
    let upstream = behind.split('"').nth(3)?;
    Some(ServedBy {
        address: if upstream == "-" { String::new() } else { upstream.to_owned() },
        flags: flags.to_owned(),
        details: details.to_owned(),
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
    fn the_line_of_a_request_tells_where_it_went() {
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
}
