//! The caller: passes a message to the producer, and returns what both sides saw. It also serves the caller page.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, USER_AGENT, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use bytes::Bytes;
use http_body_util::Full;
use tokio::time::Instant;

use super::Options;
use super::connection::{Answer, CallError, Connections};
use super::message::{Refused, header_values};
use super::request_log::MessageId;
use crate::sample::{CallerAnswer, Message, Metadata, ProducerAnswer, Refusal};

const PAGE: &str = include_str!("page.html");

/// The page contains its script and style, and connects only to this server.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
     img-src data:; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'";

/// The headers that tracing systems use to correlate the two requests.
const FORWARDED: [HeaderName; 4] = [
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("baggage"),
];

/// The maximum length of a reason, in characters: a response that is not from the producer may be a whole page.
const MAX_REASON: usize = 1000;

struct Caller {
    metadata: Metadata,
    producer: Connections,
    timeout: Duration,
}

pub(super) fn router(options: Options) -> Router {
    let caller = Caller {
        metadata: options.metadata,
        producer: Connections::new(options.producer),
        timeout: options.call_timeout,
    };
    Router::new().route("/", get(page)).route("/caller/messages", post(call)).with_state(Arc::new(caller))
}

async fn page() -> impl IntoResponse {
    let headers = [
        (CONTENT_SECURITY_POLICY, PAGE_POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        // The same forwarded port may serve another version of the page a minute later.
        (CACHE_CONTROL, "no-store"),
    ];
    (headers, Html(PAGE))
}

async fn call(
    State(caller): State<Arc<Caller>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refused> {
    let (id, message) = Message::read(body)?;
    let started = Instant::now();
    let outcome = caller.ask_producer(&headers, &message).await;
    let round_trip = started.elapsed();
    let answer = CallerAnswer {
        id: id.clone(),
        received: outcome.answer.as_ref().map(|answer| answer.received.clone()),
        caller_headers: header_values(&headers),
        producer_headers: outcome.answer.as_ref().map(|answer| answer.headers.clone()),
        caller_metadata: caller.metadata.clone(),
        producer_metadata: outcome.answer.map(|answer| answer.metadata),
        status_code: outcome.status.as_u16(),
        round_trip_time_millis: u64::try_from(round_trip.as_millis()).unwrap_or(u64::MAX),
        reason: outcome.reason,
    };
    Ok((Extension(MessageId(id)), Json(answer)).into_response())
}

/// The result of a call: a producer's response, or the reason why there is none.
#[derive(Debug, PartialEq)]
struct Outcome {
    status: StatusCode,
    answer: Option<ProducerAnswer>,
    reason: Option<String>,
}

impl Caller {
    async fn ask_producer(&self, headers: &HeaderMap, message: &Message) -> Outcome {
        match tokio::time::timeout(self.timeout, self.send(headers, message)).await {
            Ok(Ok(answer)) => Outcome::of_answer(&answer),
            Ok(Err(error)) => Outcome::failed(error.to_string()),
            Err(_) => {
                let seconds = self.timeout.as_secs_f64();
                Outcome::failed(format!("no response from {} within {seconds} s", self.producer.url()))
            }
        }
    }

    async fn send(&self, headers: &HeaderMap, message: &Message) -> Result<Answer, CallError> {
        let body = serde_json::to_vec(message).expect("strings and numbers can always be serialized");
        let mut request = Request::post("/producer/messages")
            .body(Full::new(body.into()))
            .expect("a constant path is a valid target");
        *request.headers_mut() = forwarded(headers);
        self.producer.send(request, message.fresh_connection.unwrap_or(false)).await
    }
}

fn forwarded(headers: &HeaderMap) -> HeaderMap {
    let mut request = HeaderMap::new();
    request.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    request.insert(USER_AGENT, HeaderValue::from_static("kindmesh-sample-caller"));
    for name in FORWARDED {
        for value in headers.get_all(&name) {
            request.append(&name, value.clone());
        }
    }
    request
}

impl Outcome {
    fn failed(reason: String) -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, answer: None, reason: Some(reason) }
    }

    fn of_answer(answer: &Answer) -> Self {
        let Answer { status, body } = answer;
        match serde_json::from_slice(body) {
            Ok(answer) => Self { status: *status, answer: Some(answer), reason: None },
            Err(_) => Self { status: *status, answer: None, reason: Some(reason(*status, body)) },
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
    use super::*;

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
        };
        let outcome = outcome(503, serde_json::to_vec(&answer).unwrap());
        assert_eq!(
            outcome,
            Outcome { status: StatusCode::SERVICE_UNAVAILABLE, answer: Some(answer), reason: None }
        );
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
