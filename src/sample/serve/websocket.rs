//! WebSocket: a message of JSON for each message received.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Error, Message as Frame};

use super::message::Refused;
use super::outcome::Outcome;
use super::producer::Producer;
use super::target::{CallError, Target};
use crate::sample::{Message, ProducerAnswer, Refusal};

/// The path of the handshake.
pub(super) const PATH: &str = "/producer/websocket";

/// Serves [`PATH`].
pub(super) async fn accept(State(producer): State<Arc<Producer>>, mut request: Request) -> Response {
    let response = match create_response_with_body(&request, Body::empty) {
        Ok(response) => response,
        Err(error) => {
            let reason = format!("not a WebSocket handshake: {error}");
            return Refused { status: StatusCode::BAD_REQUEST, reason }.into_response();
        }
    };
    let headers = request.headers().clone();
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let ended = async {
            let stream = TokioIo::new(upgraded.await?);
            let socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
            converse(&producer, &headers, socket).await?;
            anyhow::Ok(())
        };
        let error = ended.await.err().map(|error| error.to_string());
        tracing::info!(error, "WebSocket connection closed");
    });
    response
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    producer: &Producer,
    headers: &HeaderMap,
    mut socket: WebSocketStream<S>,
) -> Result<(), Error> {
    let mut stopping = producer.stopping.connection();
    loop {
        let frame = tokio::select! {
            frame = socket.next() => frame,
            () = stopping.begun() => None,
        };
        let text = match frame {
            Some(Ok(Frame::Text(text))) => text,
            // The library responds to these itself.
            Some(Ok(_)) => continue,
            Some(Err(error)) => return Err(error),
            None => return socket.close(None).await,
        };
        let answer = match Message::read(Ok(Bytes::from(text))) {
            Ok((_, message)) => {
                let (_, answer) = producer.answer(&message, headers, Some("HTTP/1.1")).await;
                serde_json::to_string(&answer)
            }
            Err(refused) => serde_json::to_string(&Refusal { reason: refused.reason }),
        };
        let answer = answer.expect("strings and numbers can always be serialized");
        socket.send(Frame::text(answer)).await?;
    }
}

/// Calls a producer, on a new connection.
pub(super) async fn ask(target: &Target, headers: HeaderMap, message: &Message) -> Result<Outcome, CallError> {
    let mut request = format!("{target}{PATH}").into_client_request().map_err(|source| target.failed(source))?;
    request.headers_mut().extend(headers);
    let mut socket = match tokio_tungstenite::client_async(request, target.open().await?).await {
        Ok((socket, _)) => socket,
        Err(Error::Http(response)) => {
            let body = response.body().as_deref().unwrap_or_default();
            return Ok(Outcome::of_text(response.status(), body));
        }
        Err(source) => return Err(target.failed(source)),
    };
    let text = serde_json::to_string(message).expect("strings and numbers can always be serialized");
    socket.send(Frame::text(text)).await.map_err(|source| target.failed(source))?;
    let answer = loop {
        match socket.next().await {
            Some(Ok(Frame::Text(text))) => break text,
            Some(Ok(Frame::Close(_))) | None => {
                return Err(target.failed("closed by the server or a proxy before the server responded"));
            }
            Some(Ok(_)) => {}
            Some(Err(source)) => return Err(target.failed(source)),
        }
    };
    // The response is there; whether the connection is closed properly does not matter.
    let _ = socket.close(None).await;
    Ok(match serde_json::from_str::<ProducerAnswer>(&answer) {
        Ok(answer) => Outcome::answered(StatusCode::OK, answer),
        Err(_) => Outcome::of_text(StatusCode::INTERNAL_SERVER_ERROR, answer.as_bytes()),
    })
}
