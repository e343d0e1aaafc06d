//! The JSON of the sample services, as it goes over the wire.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Metadata;

/// Headers by lower-case name; a repeated header's values are joined with `, `.
pub type HeaderValues = BTreeMap<String, String>;

/// What is sent to the caller, and by the caller to the producer. Every field may be missing; fields that
/// are not known are ignored, so that an older service understands a newer caller.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// Names the message in answers and logs; made up by the first service that sees it when missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Comes back as `received`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    /// How long the producer waits before it answers, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<u64>,
    /// The status that the producer answers with, 200 to 599; 200 when missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_code: Option<u16>,
    /// The producer answers `responseCode` only while `x-envoy-attempt-count` is at most this, then 200.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fail_attempts: Option<u64>,
    /// Whether the caller opens a new connection for this call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fresh_connection: Option<bool>,
}

/// The producer's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProducerAnswer {
    /// The message's id.
    pub id: String,
    /// The message's payload.
    pub received: String,
    /// The headers as they reached the producer.
    pub headers: HeaderValues,
    /// Where the producer runs.
    pub metadata: Metadata,
}

/// The caller's answer: what both sides saw of one call. The producer's fields are null when no producer
/// answered, and then `reason` tells why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallerAnswer {
    /// The message's id.
    pub id: String,
    /// The payload as the producer received it.
    pub received: Option<String>,
    /// The headers as they reached the caller.
    pub caller_headers: HeaderValues,
    /// The headers as they reached the producer.
    pub producer_headers: Option<HeaderValues>,
    /// Where the caller runs.
    pub caller_metadata: Metadata,
    /// Where the producer runs.
    pub producer_metadata: Option<Metadata>,
    /// The status of the call to the producer, 500 when there was no answer at all.
    pub status_code: u16,
    /// How long the call took, name lookup and connecting included, in milliseconds.
    pub round_trip_time_millis: u64,
    /// Why there is no answer of a producer; null when there is one.
    pub reason: Option<String>,
}

/// The answer of `GET /producer/count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Valid messages received by this process, failed attempts included.
    pub received: u64,
}

/// The answer to a request that is wrong in itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What is wrong with it.
    pub reason: String,
}

/// What a probe is asked to send: one request, always on a connection of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// `http://HOST:PORT`.
    pub url: String,
    /// The path, such as `/producer/messages`.
    pub path: String,
    /// Further headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Sent as JSON by POST; without it, the request is a GET.
    pub body: Option<Value>,
    /// How long the whole may take, in milliseconds.
    pub timeout_millis: u64,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Probed {
    /// The answer's status; none when there was no answer.
    pub status: Option<u16>,
    /// The answer's body as text.
    pub body: String,
    /// Why there was no answer.
    pub error: Option<String>,
    /// How long it took, in milliseconds.
    pub millis: u64,
}
