//! The producer: responds to a message as the message specifies, in any protocol.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, Version};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;

use super::message::{Refused, header_values};
use super::request_log::MessageId;
use super::stopping::Stopping;
use crate::sample::{Count, Message, Metadata, ProducerAnswer};

/// The number of the attempt, starting at 1; Envoy sets it on forwarded requests.
const ATTEMPT_HEADER: &str = "x-envoy-attempt-count";

#[derive(Debug)]
pub(super) struct Producer {
    pub(super) metadata: Metadata,
    pub(super) stopping: Stopping,
    received: AtomicU64,
}

impl Producer {
    pub(super) fn new(metadata: Metadata, stopping: Stopping) -> Arc<Self> {
        Arc::new(Self { metadata, stopping, received: AtomicU64::new(0) })
    }

    /// Returns the response to a valid message, after the delay that it asks for.
    pub(super) async fn answer(
        &self,
        message: &Message,
        headers: &HeaderMap,
        http_version: Option<&str>,
    ) -> (StatusCode, ProducerAnswer) {
        // Before the delay: a message counts as received even if the mesh times out.
        self.received.fetch_add(1, Ordering::Relaxed);
        if let Some(delay) = message.delay {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        let answer = ProducerAnswer {
            id: message.id.clone().unwrap_or_default(),
            received: message.payload.clone().unwrap_or_default(),
            headers: header_values(headers),
            metadata: self.metadata.clone(),
            http_version: http_version.map(str::to_owned),
        };
        (status(message, attempt(headers)), answer)
    }
}

/// Serves a message over HTTP.
pub(super) async fn answer(
    State(producer): State<Arc<Producer>>,
    version: Version,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refused> {
    let (id, message) = Message::read(body)?;
    let version = if version == Version::HTTP_2 { "HTTP/2" } else { "HTTP/1.1" };
    let (status, answer) = producer.answer(&message, &headers, Some(version)).await;
    Ok((status, Extension(MessageId(id)), Json(answer)).into_response())
}

/// Serves the number of messages.
pub(super) async fn count(State(producer): State<Arc<Producer>>) -> Json<Count> {
    Json(Count { received: producer.received.load(Ordering::Relaxed) })
}

fn attempt(headers: &HeaderMap) -> u64 {
    let value = headers.get(ATTEMPT_HEADER).and_then(|value| value.to_str().ok());
    value.and_then(|value| value.parse().ok()).unwrap_or(1)
}

fn status(message: &Message, attempt: u64) -> StatusCode {
    match message.fail_attempts {
        Some(failing) if attempt > failing => StatusCode::OK,
        // `Message::read` accepts only valid codes.
        _ => message.response_code.and_then(|code| StatusCode::from_u16(code).ok()).unwrap_or(StatusCode::OK),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_attempts_fail_and_the_next_succeeds() {
        let message = Message { response_code: Some(503), fail_attempts: Some(2), ..Message::default() };
        assert_eq!([1, 2, 3].map(|attempt| status(&message, attempt).as_u16()), [503, 503, 200]);
        let always = Message { response_code: Some(503), ..Message::default() };
        assert_eq!(status(&always, 9).as_u16(), 503);
        assert_eq!(status(&Message::default(), 1).as_u16(), 200);
    }

    #[test]
    fn invalid_attempt_header_counts_as_first_attempt() {
        let mut headers = HeaderMap::new();
        assert_eq!(attempt(&headers), 1);
        headers.insert(ATTEMPT_HEADER, "x".parse().unwrap());
        assert_eq!(attempt(&headers), 1);
        headers.insert(ATTEMPT_HEADER, "3".parse().unwrap());
        assert_eq!(attempt(&headers), 3);
    }
}
