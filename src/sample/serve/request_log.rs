//! One line of log for every request, for one whose client went away as well.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Put among a response's extensions by a handler, so that the request's line names the message.
#[derive(Debug, Clone)]
pub(super) struct MessageId(pub(super) String);

/// Answers a request and logs it.
pub(super) async fn log(request: Request, next: Next) -> Response {
    let line = Line::of(&request);
    let abandoned = line.clone();
    let (answered, answer) = oneshot::channel::<()>();
    // This function is dropped in its middle when the client goes away, as a proxy does when its timeout is
    // over. The sender is dropped with it, which is how the task gets to know.
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

/// What the line says of the request itself.
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
        let text = if status.is_some() { "answered" } else { "the client went away before the answer" };
        // Probes come every few seconds, and would bury what a person looks for.
        if path.starts_with("/healthz/") {
            tracing::debug!(method, path, status, ms, "x-request-id" = request_id, id, "{text}");
        } else {
            tracing::info!(method, path, status, ms, "x-request-id" = request_id, id, "{text}");
        }
    }
}
