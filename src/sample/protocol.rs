//! The JSON of the sample services, as it goes over the wire.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

use axum::Json;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

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

impl Message {
    /// Reads and validates a request's body, and gives the message an id if it has none.
    pub(super) fn read(body: Result<Bytes, BytesRejection>) -> Result<(String, Self), Refused> {
        let body =
            body.map_err(|rejection| Refused { status: rejection.status(), reason: rejection.body_text() })?;
        let mut message: Self = serde_json::from_slice(&body)
            .map_err(|error| Refused::bad_request(format!("not a message: {error}")))?;
        if let Some(code) = message.response_code
            && !(200..=599).contains(&code)
        {
            return Err(Refused::bad_request(format!("responseCode is {code}, and must be 200 to 599")));
        }
        let id = message.id.get_or_insert_with(new_id).clone();
        Ok((id, message))
    }
}

/// 16 hexadecimal digits, unlikely enough to come twice.
fn new_id() -> String {
    // Its keys are random and differ with every call, which is all that an id for reading logs needs.
    format!("{:016x}", RandomState::new().hash_one(()))
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

/// A request that is refused, on its way to becoming a [`Refusal`].
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    pub(super) reason: String,
}

impl Refused {
    fn bad_request(reason: String) -> Self {
        Self { status: StatusCode::BAD_REQUEST, reason }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.status, Json(Refusal { reason: self.reason })).into_response()
    }
}

/// Headers as the answers show them. A value that is not UTF-8 is shown as far as it is.
pub(super) fn header_values(headers: &HeaderMap) -> HeaderValues {
    let mut values = HeaderValues::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        values
            .entry(name.as_str().to_owned())
            .and_modify(|so_far| {
                so_far.push_str(", ");
                so_far.push_str(&value);
            })
            .or_insert_with(|| value.clone().into_owned());
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &'static str) -> Result<(String, Message), String> {
        Message::read(Ok(Bytes::from_static(text.as_bytes()))).map_err(|refused| {
            assert_eq!(refused.status, StatusCode::BAD_REQUEST);
            refused.reason
        })
    }

    #[test]
    fn a_message_may_be_empty_and_gets_an_id() {
        let (id, message) = read("{}").unwrap();
        assert_eq!(id.len(), 16);
        assert_eq!(message, Message { id: Some(id.clone()), ..Message::default() });
        assert_ne!(id, read("{}").unwrap().0);
    }

    #[test]
    fn a_message_keeps_what_it_says_and_ignores_what_it_does_not_know() {
        let (id, message) =
            read(r#"{"id":"7","payload":"ä","delay":5,"responseCode":599,"failAttempts":2,"freshConnection":true,"new":0}"#)
                .unwrap();
        assert_eq!(id, "7");
        assert_eq!(
            serde_json::to_string(&message).unwrap(),
            r#"{"id":"7","payload":"ä","delay":5,"responseCode":599,"failAttempts":2,"freshConnection":true}"#
        );
    }

    #[test]
    fn what_is_no_message_is_refused_with_the_reason() {
        for (text, why) in [
            ("", "EOF"),
            ("{", "EOF"),
            ("[1]", "not a message"),
            (r#"{"payload":1}"#, "expected a string"),
            (r#"{"delay":-1}"#, "-1"),
            (r#"{"responseCode":199}"#, "199"),
            (r#"{"responseCode":600}"#, "200 to 599"),
            (r#"{"responseCode":70000}"#, "70000"),
        ] {
            let reason = read(text).unwrap_err();
            assert!(reason.contains(why), "{text}: {reason}");
        }
    }

    #[test]
    fn repeated_headers_are_joined() {
        let mut headers = HeaderMap::new();
        headers.append("X-A", "1".parse().unwrap());
        headers.append("x-a", "2".parse().unwrap());
        headers.append("x-b", "3".parse().unwrap());
        let expected = [("x-a", "1, 2"), ("x-b", "3")];
        assert_eq!(
            header_values(&headers),
            expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
        );
    }
}
