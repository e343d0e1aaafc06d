//! The producer: responds to a message as the message specifies.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use bytes::Bytes;

use super::message::{Refused, header_values};
use super::request_log::MessageId;
use crate::sample::{Count, Message, Metadata, ProducerAnswer};

/// The number of the attempt, starting at 1; Envoy sets it on forwarded requests.
const ATTEMPT_HEADER: &str = "x-envoy-attempt-count";

struct Producer {
    metadata: Metadata,
    received: AtomicU64,
}

pub(super) fn router(metadata: Metadata) -> Router {
    Router::new()
        .route("/producer/messages", post(answer))
        .route("/producer/count", get(count))
        .with_state(Arc::new(Producer { metadata, received: AtomicU64::new(0) }))
}

async fn answer(
    State(producer): State<Arc<Producer>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refused> {
    let (id, message) = Message::read(body)?;
    // Before the delay: a message counts as received even if the mesh times out.
    producer.received.fetch_add(1, Ordering::Relaxed);
    if let Some(delay) = message.delay {
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
    let status = status(&message, attempt(&headers));
    let answer = ProducerAnswer {
        id: id.clone(),
        received: message.payload.unwrap_or_default(),
        headers: header_values(&headers),
        metadata: producer.metadata.clone(),
    };
    Ok((status, Extension(MessageId(id)), Json(answer)).into_response())
}

async fn count(State(producer): State<Arc<Producer>>) -> Json<Count> {
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
