//! What the producer serves over HTTP: messages, gRPC, and the handshake of WebSocket.

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use super::producer::{self, Producer};
use super::{grpc, websocket};

pub(super) fn of_producer(producer: Arc<Producer>) -> Router {
    Router::new()
        .route("/producer/messages", post(producer::answer))
        .route("/producer/count", get(producer::count))
        .route(websocket::PATH, get(websocket::accept))
        .route(grpc::CALL, post(grpc::call))
        .route(grpc::STREAM, post(grpc::stream))
        .with_state(producer)
}
