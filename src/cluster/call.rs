//! A call through the caller: what a person does with curl, over a port-forward, so that it works wherever the
//! API server is reached.

use std::collections::BTreeMap;

use anyhow::Context;
use kube::{Client, ResourceExt};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::names;
use crate::cluster::mesh::PodConnection;
use crate::cluster::workloads;

/// What the caller is asked to do.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// Names the call; shown by both sides.
    pub id: String,
    /// Any text.
    pub payload: String,
    /// How long the producer waits before it answers, in milliseconds.
    pub delay: u64,
    /// The status that the producer answers with.
    pub response_code: u16,
    /// How many attempts of the call the producer fails; the next one it answers with 200. All without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fail_attempts: Option<u64>,
    /// Whether the caller opens a new connection.
    pub fresh_connection: bool,
}

impl Default for Request {
    /// A call that the producer answers at once with 200, on a new connection, named by the time.
    fn default() -> Self {
        Self {
            id: format!("{:x}", jiff::Timestamp::now().as_millisecond()),
            payload: "hello".into(),
            delay: 0,
            response_code: 200,
            fail_attempts: None,
            fresh_connection: true,
        }
    }
}

/// What the caller answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// The call's name.
    pub id: String,
    /// The producer's status, 500 when none was had.
    pub status_code: u16,
    /// From the caller's sending to its receiving.
    pub round_trip_time_millis: u64,
    /// Why the call failed, if it did.
    pub reason: Option<String>,
    /// The headers that the caller received.
    pub caller_headers: BTreeMap<String, String>,
    /// The headers that the producer received.
    pub producer_headers: Option<BTreeMap<String, String>>,
    /// Where the caller is.
    pub caller_metadata: Value,
    /// Where the producer is.
    pub producer_metadata: Option<Value>,
}

impl Answer {
    /// The cluster that answered, if one did.
    pub fn served_by(&self) -> Option<&str> {
        self.producer_metadata.as_ref()?.get("clusterName")?.as_str()
    }

    /// The caller's identity as the producer was told: the URI of the last element of
    /// `x-forwarded-client-cert`, which proxies append to.
    pub fn identity(&self) -> Option<&str> {
        let header = self.producer_headers.as_ref()?.get("x-forwarded-client-cert")?;
        header.rsplit(',').next()?.split(';').find_map(|part| part.trim().strip_prefix("URI="))
    }
}

/// A connection to a caller, used for one call after the other.
#[derive(Debug)]
pub struct Caller(PodConnection);

impl Caller {
    /// Connects to a ready caller pod of a cluster.
    ///
    /// # Errors
    /// When there is none or it cannot be reached.
    pub async fn connect(client: &Client, namespace: &str) -> anyhow::Result<Self> {
        Self::connect_to(client, namespace, names::CALLER_NAME).await
    }

    /// The same with the pods of another Deployment that call as the caller does.
    ///
    /// # Errors
    /// As [`Caller::connect`].
    pub async fn connect_to(client: &Client, namespace: &str, app: &str) -> anyhow::Result<Self> {
        let pod = workloads::ready_pod(client, namespace, app).await?.name_any();
        Ok(Self(PodConnection::open(client, namespace, &pod, names::PORT).await?))
    }

    /// Makes one call.
    ///
    /// # Errors
    /// When the caller itself gives no answer; a call that fails behind it is an answer.
    pub async fn call(&mut self, request: &Request) -> anyhow::Result<Answer> {
        self.0.post("/caller/messages", &[], request).await.context("calling the caller")
    }
}

/// Says whose caller could not be reached, where the error does not say better what is wrong.
pub fn unreached(error: anyhow::Error, from: &str) -> anyhow::Error {
    let known = crate::base::error::find(&error).is_some_and(|error| error.hint.is_some());
    if known { error } else { error.context(format!("the caller in {from} cannot be reached")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_last_element_tells_the_identity() {
        let header = "By=a;URI=spiffe://x/ns/a/sa/first,By=b;Hash=1;Subject=\"\";URI=spiffe://x/ns/b/sa/last";
        let answer: Answer = serde_json::from_value(json!({
            "id": "1", "statusCode": 200, "roundTripTimeMillis": 1, "callerHeaders": {}, "callerMetadata": {},
            "producerHeaders": {"x-forwarded-client-cert": header},
            "producerMetadata": {"clusterName": "cluster2"}}))
        .unwrap();
        assert_eq!(answer.identity(), Some("spiffe://x/ns/b/sa/last"));
        assert_eq!(answer.served_by(), Some("cluster2"));
    }
}
