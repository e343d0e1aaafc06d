//! Calls of the producer, in any protocol.

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, Request};
use bytes::Bytes;
use http_body_util::Full;

use super::connection::Connections;
use super::http2::Http2;
use super::outcome::Outcome;
use super::target::{CallError, Target};
use super::{grpc, tcp, websocket};
use crate::sample::{Message, Ports, ProducerUrl, Protocol};

/// The connections to one producer, of each protocol.
pub(super) struct Clients {
    http: Connections,
    http2: Http2,
    grpc: Http2,
    websocket: Target,
    tcp: Target,
}

impl Clients {
    pub(super) fn new(producer: &ProducerUrl, ports: Ports) -> Self {
        let target = |scheme, port| Target::new(scheme, producer.host(), port);
        Self {
            http: Connections::new(target("http", producer.port())),
            http2: Http2::new(target("http", ports.http2)),
            grpc: Http2::new(target("grpc", ports.grpc)),
            websocket: target("ws", producer.port()),
            tcp: target("tcp", ports.tcp),
        }
    }

    /// Returns where calls of a protocol go.
    pub(super) fn target(&self, protocol: Protocol) -> &Target {
        match protocol {
            Protocol::Http => self.http.target(),
            Protocol::Http2 => self.http2.target(),
            Protocol::Grpc | Protocol::GrpcStream => self.grpc.target(),
            Protocol::Websocket => &self.websocket,
            Protocol::Tcp => &self.tcp,
        }
    }

    /// Sends a message. HTTP and gRPC keep their connections unless the message asks for a new one; TCP and WebSocket always
    /// open one.
    pub(super) async fn send(&self, headers: HeaderMap, message: &Message) -> Result<Outcome, CallError> {
        let protocol = message.protocol.unwrap_or_default();
        let fresh = message.fresh_connection.unwrap_or(false);
        match protocol {
            Protocol::Http => Ok(Outcome::of_answer(&self.http.send(request(headers, message), fresh).await?)),
            Protocol::Http2 => Ok(Outcome::of_answer(&self.http2.send(request(headers, message), fresh).await?)),
            Protocol::Grpc => grpc::ask(&self.grpc, headers, message, false).await,
            Protocol::GrpcStream => grpc::ask(&self.grpc, headers, message, true).await,
            Protocol::Websocket => websocket::ask(&self.websocket, headers, message).await,
            Protocol::Tcp => tcp::ask(&self.tcp, message).await,
        }
    }
}

fn request(headers: HeaderMap, message: &Message) -> Request<Full<Bytes>> {
    let body = serde_json::to_vec(message).expect("strings and numbers can always be serialized");
    let mut request = Request::post("/producer/messages")
        .body(Full::new(body.into()))
        .expect("a constant path is a valid target");
    *request.headers_mut() = headers;
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    request
}
