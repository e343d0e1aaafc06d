//! Parses a request's body into a message, or rejects it with the reason; turns headers into text.

use std::hash::{BuildHasher, RandomState};

use axum::Json;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use crate::sample::protocol::{HeaderValues, Message, Refusal};

impl Message {
    /// Reads and validates a request's body, and adds an ID if the message has none.
    pub(super) fn read(body: Result<Bytes, BytesRejection>) -> Result<(String, Self), Refused> {
        let body =
            body.map_err(|rejection| Refused { status: rejection.status(), reason: rejection.body_text() })?;
        let message: Self = serde_json::from_slice(&body)
            .map_err(|error| Refused::bad_request(format!("invalid message: {error}")))?;
        let message = message.checked()?;
        Ok((message.id.clone().unwrap_or_default(), message))
    }

    /// Validates a message, and adds an ID if it has none.
    pub(super) fn checked(mut self) -> Result<Self, Refused> {
        if let Some(code) = self.response_code
            && !(200..=599).contains(&code)
        {
            return Err(Refused::bad_request(format!("responseCode is {code}, but must be 200 to 599")));
        }
        self.id.get_or_insert_with(new_id);
        Ok(self)
    }
}

/// Returns 16 hexadecimal digits, unlikely to repeat.
fn new_id() -> String {
    // The keys of a `RandomState` are random and differ with every call, which is enough for an ID in logs.
    format!("{:016x}", RandomState::new().hash_one(()))
}

/// A rejected request, which becomes a [`Refusal`].
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

/// Returns headers as in the responses. Invalid UTF-8 in a value is replaced.
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
    fn empty_message_is_valid_and_gets_an_id() {
        let (id, message) = read("{}").unwrap();
        assert_eq!(id.len(), 16);
        assert_eq!(message, Message { id: Some(id.clone()), ..Message::default() });
        assert_ne!(id, read("{}").unwrap().0);
    }

    #[test]
    fn message_keeps_known_fields_and_ignores_unknown_ones() {
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
    fn invalid_message_is_rejected_with_a_reason() {
        for (text, why) in [
            ("", "EOF"),
            ("{", "EOF"),
            ("[1]", "invalid message"),
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
