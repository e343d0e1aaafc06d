//! One log line for every request, including those whose client closed the connection.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// A response extension of a handler: the message ID for the request's log line.
#[derive(Debug, Clone)]
pub(super) struct MessageId(pub(super) String);

/// Handles a request and logs it.
pub(super) async fn log(request: Request, next: Next) -> Response {
    let line = Line::of(&request);
    let abandoned = line.clone();
    let (answered, answer) = oneshot::channel::<()>();
    // This future is dropped when the client closes the connection, as a proxy does at its timeout. The sender is
    // dropped with it, which the task notices.
    tokio::spawn(async move {
        if answer.await.is_err() {
            abandoned.write(None, None);
        }
    });
    let response = next.run(request).await;
    let _ = answered.send(());
    let id = response.extensions().get().map(|MessageId(id)| id.as_str());
    line.write(Some(response.status().as_u16()), id);
    response
}

/// The request's part of the log line.
#[derive(Clone)]
struct Line {
    method: String,
    path: String,
    request_id: Option<String>,
    started: Instant,
}

impl Line {
    fn of(request: &Request) -> Self {
        let request_id = request.headers().get("x-request-id");
        Self {
            method: request.method().to_string(),
            path: request.uri().path().to_owned(),
            request_id: request_id.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
            started: Instant::now(),
        }
    }

    fn write(&self, status: Option<u16>, id: Option<&str>) {
        let Self { method, path, request_id, started } = self;
        let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let request_id = request_id.as_deref();
        let text = if status.is_some() {
            "response sent"
        } else {
            "the client closed the connection before the \
            response"
        };
        // Health probes arrive every few seconds, and would drown out everything else.
        if path.starts_with("/healthz/") {
            tracing::debug!(method, path, status, ms, "x-request-id" = request_id, id, "{text}");
        } else {
            tracing::info!(method, path, status, ms, "x-request-id" = request_id, id, "{text}");
        }
    }
}
