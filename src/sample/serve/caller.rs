//! The caller: passes a message to the producer, and returns what both sides saw. It also serves the caller page.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, USER_AGENT, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use bytes::Bytes;
use tokio::time::Instant;

use super::Options;
use super::clients::Clients;
use super::message::{Refused, header_values};
use super::outcome::Outcome;
use super::request_log::MessageId;
use crate::sample::{CallerAnswer, Message, Metadata};

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

struct Caller {
    metadata: Metadata,
    producer: Clients,
    timeout: Duration,
}

pub(super) fn router(options: Options) -> Router {
    let caller = Caller {
        metadata: options.metadata,
        producer: Clients::new(&options.producer, options.producer_ports),
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
        producer_http_version: outcome.answer.as_ref().and_then(|answer| answer.http_version.clone()),
        caller_metadata: caller.metadata.clone(),
        producer_metadata: outcome.answer.map(|answer| answer.metadata),
        status_code: outcome.status.as_u16(),
        round_trip_time_millis: u64::try_from(round_trip.as_millis()).unwrap_or(u64::MAX),
        reason: outcome.reason,
        protocol: message.protocol.unwrap_or_default(),
        responses: outcome.responses,
    };
    Ok((Extension(MessageId(id)), Json(answer)).into_response())
}

impl Caller {
    async fn ask_producer(&self, headers: &HeaderMap, message: &Message) -> Outcome {
        match tokio::time::timeout(self.timeout, self.producer.send(forwarded(headers), message)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => Outcome::failed(error.to_string()),
            Err(_) => {
                let seconds = self.timeout.as_secs_f64();
                let target = self.producer.target(message.protocol.unwrap_or_default());
                Outcome::failed(format!("no response from {target} within {seconds} s"))
            }
        }
    }
}

fn forwarded(headers: &HeaderMap) -> HeaderMap {
    let mut request = HeaderMap::new();
    request.insert(USER_AGENT, HeaderValue::from_static("kindmesh-sample-caller"));
    for name in FORWARDED {
        for value in headers.get_all(&name) {
            request.append(&name, value.clone());
        }
    }
    request
}
