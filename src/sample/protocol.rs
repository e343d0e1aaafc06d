//! The JSON that the sample services exchange.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Metadata, Protocol};

/// Headers by lower-case name; the values of a repeated header are joined with `, `.
pub type HeaderValues = BTreeMap<String, String>;

/// The message to the caller, and from the caller to the producer. Every field is optional. Unknown fields are
/// ignored, so that an older service accepts messages from a newer one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// The message's ID in responses and logs; if missing, the first service that receives the message adds one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Returned as `received`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    /// The producer's delay before it responds, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<u64>,
    /// The status of the producer's response, 200 to 599; 200 if missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_code: Option<u16>,
    /// The producer responds with `responseCode` only while `x-envoy-attempt-count` is at most this, then with
    /// 200.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fail_attempts: Option<u64>,
    /// Whether the caller opens a new connection for this call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fresh_connection: Option<bool>,
    /// The protocol that the caller uses; HTTP/1.1 if missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
}

/// The producer's response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProducerAnswer {
    /// The message's ID.
    pub id: String,
    /// The message's payload.
    pub received: String,
    /// The headers as the producer received them; gRPC's metadata; those of the handshake for WebSocket; none for TCP.
    pub headers: HeaderValues,
    /// Where the producer runs.
    pub metadata: Metadata,
    /// The version of HTTP that the producer received, `HTTP/1.1` or `HTTP/2`; none for TCP.
    pub http_version: Option<String>,
}

/// The caller's response: what both services saw of one call. The producer's fields are null if no producer
/// responded; then `reason` says why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallerAnswer {
    /// The message's ID.
    pub id: String,
    /// The payload as the producer received it.
    pub received: Option<String>,
    /// The headers as the caller received them.
    pub caller_headers: HeaderValues,
    /// The headers as the producer received them.
    pub producer_headers: Option<HeaderValues>,
    /// Where the caller runs.
    pub caller_metadata: Metadata,
    /// Where the producer runs.
    pub producer_metadata: Option<Metadata>,
    /// The status of the call to the producer, 500 if there was no response. For gRPC, the HTTP status that corresponds to its
    /// status; for TCP and WebSocket, 200 if there was a response.
    pub status_code: u16,
    /// The duration of the call, including name resolution and connecting, in milliseconds.
    pub round_trip_time_millis: u64,
    /// Why no producer responded; null if one did. For gRPC, also the status if it is not OK.
    pub reason: Option<String>,
    /// The protocol of the call to the producer.
    pub protocol: Protocol,
    /// The version of HTTP that the producer received.
    pub producer_http_version: Option<String>,
    /// The number of responses: more than one for a stream, none if no producer responded.
    pub responses: u32,
}

/// The response of `GET /producer/count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// The number of valid messages that this process received, including failed attempts.
    pub received: u64,
}

/// The response to an invalid request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What is wrong with the request.
    pub reason: String,
}

/// A request that a probe sends, always on a new connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// `http://HOST:PORT`.
    pub url: String,
    /// The path, such as `/producer/messages`.
    pub path: String,
    /// Additional headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Sent as JSON by POST; without it, the request is a GET.
    pub body: Option<Value>,
    /// The timeout of the whole request, in milliseconds.
    pub timeout_millis: u64,
}

/// A question to an API server that a probe asks, without credentials: whether it answers at this URL with a certificate of this CA.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiServer {
    /// `https://HOST:PORT`.
    pub url: String,
    /// The certificate authority, PEM.
    pub ca: String,
    /// The timeout, in milliseconds.
    pub timeout_millis: u64,
}

/// The result of a [`Probe`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Probed {
    /// The response's status; `None` without a response.
    pub status: Option<u16>,
    /// The response's body as text.
    pub body: String,
    /// Why there was no response.
    pub error: Option<String>,
    /// The duration, in milliseconds.
    pub millis: u64,
}

/// A series of calls that a probe sends, one after another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Calls {
    /// The host to call, on the port of the message's protocol.
    pub host: String,
    /// The number of calls.
    pub count: u32,
    /// The message of each. Without `freshConnection`, HTTP and gRPC use one connection for all calls.
    pub message: Message,
    /// The timeout of each call, in milliseconds.
    pub timeout_millis: u64,
}

/// The result of one of [`Calls`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Called {
    /// As [`CallerAnswer::status_code`].
    pub status_code: u16,
    /// The producer's response, the last one of a stream.
    pub answer: Option<ProducerAnswer>,
    /// As [`CallerAnswer::reason`].
    pub reason: Option<String>,
    /// As [`CallerAnswer::responses`].
    pub responses: u32,
}

/// A load that a probe sends: calls at a steady rate, each at its time, however long the others take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Load {
    /// The host to call.
    pub host: String,
    /// The port to call.
    pub port: u16,
    /// The path to get; if missing, an empty message is posted to the producer.
    pub path: Option<String>,
    /// Calls per second.
    pub qps: u32,
    /// The number of calls.
    pub count: u64,
    /// The timeout of each call, in milliseconds.
    pub timeout_millis: u64,
}

/// The progress of a [`Load`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadProgress {
    /// The number of calls sent so far.
    pub sent: usize,
    /// The time since the first call was due, in milliseconds.
    pub millis: f64,
    /// Whether every call has ended.
    pub over: bool,
    /// The calls that have ended since those that the client knows, in the order of their ends.
    pub ended: Vec<Sent>,
}

/// A call of a [`Load`] that has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sent {
    /// When it was due, in milliseconds after the first one.
    pub at_millis: f64,
    /// The time from then to the end of the response, in milliseconds.
    pub millis: f64,
    /// The status of the response; none without a complete response.
    pub status: Option<u16>,
    /// Why the status is not 200: the text of the response, or why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
