//! A call through the caller: the same as curl, but over a port-forward, so that it works wherever the API server is
//! reachable.

use std::collections::BTreeMap;

use anyhow::Context;
use kube::{Client, ResourceExt};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::names;
use crate::cluster::mesh::PodConnection;
use crate::cluster::workloads;
use crate::sample::Protocol;

/// A request to the caller.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// The id of the call, which both services report.
    pub id: String,
    /// Any text.
    pub payload: String,
    /// The delay before the producer responds, in milliseconds.
    pub delay: u64,
    /// The status that the producer responds with.
    pub response_code: u16,
    /// The number of attempts that the producer fails before it responds with 200. If unset, every attempt gets
    /// `response_code`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fail_attempts: Option<u64>,
    /// Whether the caller opens a new connection. For TCP and WebSocket, it always does.
    pub fresh_connection: bool,
    /// The protocol that the caller uses.
    pub protocol: Protocol,
}

impl Default for Request {
    /// An HTTP/1.1 call on a new connection that the producer answers at once with 200. Its id is the current time.
    fn default() -> Self {
        Self {
            id: format!("{:x}", jiff::Timestamp::now().as_millisecond()),
            payload: "hello".into(),
            delay: 0,
            response_code: 200,
            fail_attempts: None,
            fresh_connection: true,
            protocol: Protocol::Http,
        }
    }
}

/// The caller's response.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// The id of the call.
    pub id: String,
    /// The producer's status; 500 if there was no response. For gRPC, the HTTP status that corresponds to its status; for TCP
    /// and WebSocket, 200 if there was a response.
    pub status_code: u16,
    /// The round-trip time measured by the caller.
    pub round_trip_time_millis: u64,
    /// The reason if the call failed.
    pub reason: Option<String>,
    /// The headers that the caller received.
    pub caller_headers: BTreeMap<String, String>,
    /// The headers that the producer received.
    pub producer_headers: Option<BTreeMap<String, String>>,
    /// The caller's location.
    pub caller_metadata: Value,
    /// The producer's location.
    pub producer_metadata: Option<Value>,
    /// The protocol of the call.
    pub protocol: Protocol,
    /// The version of HTTP that the producer received, `HTTP/1.1` or `HTTP/2`; none for TCP.
    pub producer_http_version: Option<String>,
    /// The number of the producer's responses: more than one for a stream.
    pub responses: u32,
}

impl Answer {
    /// Returns the cluster that answered, if any.
    pub fn served_by(&self) -> Option<&str> {
        self.producer_metadata.as_ref()?.get("clusterName")?.as_str()
    }

    /// Returns the caller's identity as the producer received it: the URI in the last element of
    /// `x-forwarded-client-cert`, which proxies append to.
    pub fn identity(&self) -> Option<&str> {
        last_identity(self.producer_headers.as_ref()?.get("x-forwarded-client-cert")?)
    }
}

/// Returns the URI in the last element of a header `x-forwarded-client-cert`.
pub fn last_identity(header: &str) -> Option<&str> {
    header.rsplit(',').next()?.split(';').find_map(|part| part.trim().strip_prefix("URI="))
}

/// A connection to a caller, for one call at a time.
#[derive(Debug)]
pub struct Caller(PodConnection);

impl Caller {
    /// Connects to a ready caller pod of a cluster.
    ///
    /// # Errors
    /// If there is none or it cannot be reached.
    pub async fn connect(client: &Client, namespace: &str) -> anyhow::Result<Self> {
        Self::connect_to(client, namespace, names::CALLER_NAME).await
    }

    /// Connects to a pod of another Deployment with the caller's API.
    ///
    /// # Errors
    /// See [`Caller::connect`].
    pub async fn connect_to(client: &Client, namespace: &str, app: &str) -> anyhow::Result<Self> {
        let pod = workloads::ready_pod(client, namespace, app).await?.name_any();
        Ok(Self(PodConnection::open(client, namespace, &pod, names::PORT).await?))
    }

    /// Sends one call.
    ///
    /// # Errors
    /// If the caller itself does not respond. A call that fails behind the caller is a response.
    pub async fn call(&mut self, request: &Request) -> anyhow::Result<Answer> {
        self.0.post("/caller/messages", &[], request).await.context("calling the caller")
    }
}

/// Adds the cluster of the unreachable caller to an error, unless the error already has a hint.
pub fn unreached(error: anyhow::Error, from: &str) -> anyhow::Error {
    let known = crate::base::error::find(&error).is_some_and(|error| error.hint.is_some());
    if known { error } else { error.context(format!("cannot reach the caller in {from}")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn last_xfcc_element_has_the_identity() {
        let header = "By=a;URI=spiffe://x/ns/a/sa/first,By=b;Hash=1;Subject=\"\";URI=spiffe://x/ns/b/sa/last";
        let answer: Answer = serde_json::from_value(json!({
            "id": "1", "statusCode": 200, "roundTripTimeMillis": 1, "callerHeaders": {}, "callerMetadata": {},
            "producerHeaders": {"x-forwarded-client-cert": header},
            "producerMetadata": {"clusterName": "cluster2"}, "protocol": "http", "responses": 1}))
        .unwrap();
        assert_eq!(answer.identity(), Some("spiffe://x/ns/b/sa/last"));
        assert_eq!(answer.served_by(), Some("cluster2"));
    }
}
