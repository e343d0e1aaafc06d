//! The result of a call in any protocol.

use axum::http::StatusCode;

use super::connection::Answer;
use crate::sample::{ProducerAnswer, Refusal};

/// The maximum length of a reason, in characters: a response that is not from the producer may be a whole page.
const MAX_REASON: usize = 1000;

/// The result of a call: a producer's response, or the reason why there is none.
#[derive(Debug, PartialEq)]
pub(super) struct Outcome {
    pub(super) status: StatusCode,
    pub(super) answer: Option<ProducerAnswer>,
    pub(super) reason: Option<String>,
    pub(super) responses: u32,
}

impl Outcome {
    pub(super) fn failed(reason: String) -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, answer: None, reason: Some(reason), responses: 0 }
    }

    pub(super) fn answered(status: StatusCode, answer: ProducerAnswer) -> Self {
        Self { status, answer: Some(answer), reason: None, responses: 1 }
    }

    /// Returns the result of a response that is not from the producer.
    pub(super) fn of_text(status: StatusCode, text: &[u8]) -> Self {
        Self { status, answer: None, reason: Some(reason(status, text)), responses: 0 }
    }

    pub(super) fn of_answer(answer: &Answer) -> Self {
        let Answer { status, body } = answer;
        match serde_json::from_slice(body) {
            Ok(answer) => Self::answered(*status, answer),
            Err(_) => Self::of_text(*status, body),
        }
    }
}

/// Returns the reason in a response that is not from the producer: usually one line of text from a proxy.
fn reason(status: StatusCode, body: &[u8]) -> String {
    let text = match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) => refusal.reason,
        Err(_) => String::from_utf8_lossy(body).trim().to_owned(),
    };
    if text.is_empty() {
        return format!("{status}, without a body");
    }
    match text.char_indices().nth(MAX_REASON) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::sample::Metadata;

    fn outcome(status: u16, body: impl Into<Bytes>) -> Outcome {
        Outcome::of_answer(&Answer { status: StatusCode::from_u16(status).unwrap(), body: body.into() })
    }

    #[test]
    fn any_status_of_a_producer_is_a_response() {
        let answer = ProducerAnswer {
            id: "1".into(),
            received: "x".into(),
            headers: [("host".to_owned(), "p".to_owned())].into(),
            metadata: Metadata::default(),
            http_version: Some("HTTP/1.1".into()),
        };
        let outcome = outcome(503, serde_json::to_vec(&answer).unwrap());
        assert_eq!(outcome, Outcome::answered(StatusCode::SERVICE_UNAVAILABLE, answer));
    }

    #[test]
    fn any_other_response_is_the_reason() {
        for (status, body, reason) in [
            (504, "upstream request timeout", "upstream request timeout"),
            (403, "RBAC: access denied\n", "RBAC: access denied"),
            (400, r#"{"reason":"not a message"}"#, "not a message"),
            (404, "", "404 Not Found, without a body"),
            (204, "", "204 No Content, without a body"),
            (200, "<html>", "<html>"),
        ] {
            let outcome = outcome(status, body);
            assert_eq!((outcome.status.as_u16(), outcome.reason.as_deref()), (status, Some(reason)));
            assert_eq!(outcome.answer, None);
        }
        let long = outcome(500, "ä".repeat(MAX_REASON + 1)).reason.unwrap();
        assert_eq!(long, format!("{}…", "ä".repeat(MAX_REASON)));
    }
}
