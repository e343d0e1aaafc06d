//! Calls of the producer, in any protocol.

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode};
use bytes::Bytes;
use http_body_util::Full;

use super::connection::{Answer, Connections};
use super::http2::Http2;
use super::target::{CallError, Target};
use super::{grpc, tcp, websocket};
use crate::sample::{Message, Ports, ProducerAnswer, ProducerUrl, Protocol, Refusal};

/// The maximum length of a reason, in characters: a response that is not from the producer may be a whole page.
const MAX_REASON: usize = 1000;

/// The connections to one producer, of each protocol.
pub(super) struct Clients {
    http: Connections,
    http2: Http2,
    grpc: Http2,
    websocket: Target,
    tcp: Target,
}

/// The result of a call: a producer's response, or the reason why there is none.
#[derive(Debug, PartialEq)]
pub(super) struct Outcome {
    pub(super) status: StatusCode,
    pub(super) answer: Option<ProducerAnswer>,
    pub(super) reason: Option<String>,
    pub(super) responses: u32,
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

    fn of_answer(answer: &Answer) -> Self {
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
