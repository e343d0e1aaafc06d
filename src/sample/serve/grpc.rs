//! gRPC: the service `kindmesh.sample.Producer` of `docs/sample.proto`, and calls of it.
//!
//! The messages are written by hand, so that no build needs `protoc`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use futures::stream;
use prost::Message as _;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use super::http2::Http2;
use super::message::Refused;
use super::outcome::Outcome;
use super::producer::Producer;
use super::target::CallError;
use crate::sample::{self, Message, ProducerAnswer, STREAM_RESPONSES};

/// The path of the call with one response.
pub(super) const CALL: &str = "/kindmesh.sample.Producer/Call";
/// The path of the call with a stream of responses.
pub(super) const STREAM: &str = "/kindmesh.sample.Producer/Stream";

/// `CallRequest`: see [`Message`].
#[derive(Clone, PartialEq, prost::Message)]
struct CallRequest {
    #[prost(string, optional, tag = "1")]
    id: Option<String>,
    #[prost(string, optional, tag = "2")]
    payload: Option<String>,
    #[prost(uint64, optional, tag = "3")]
    delay_millis: Option<u64>,
    #[prost(uint32, optional, tag = "4")]
    response_code: Option<u32>,
    #[prost(uint64, optional, tag = "5")]
    fail_attempts: Option<u64>,
}

/// `CallReply`: see [`ProducerAnswer`].
#[derive(Clone, PartialEq, prost::Message)]
struct CallReply {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    received: String,
    #[prost(btree_map = "string, string", tag = "3")]
    headers: BTreeMap<String, String>,
    #[prost(message, optional, tag = "4")]
    metadata: Option<Metadata>,
    #[prost(string, optional, tag = "5")]
    http_version: Option<String>,
}

/// `Metadata`: see [`sample::Metadata`].
#[derive(Clone, PartialEq, prost::Message)]
struct Metadata {
    #[prost(string, tag = "1")]
    cluster_name: String,
    #[prost(string, tag = "2")]
    cluster_location: String,
    #[prost(string, tag = "3")]
    host_name: String,
    #[prost(string, tag = "4")]
    ip_address: String,
    #[prost(string, tag = "5")]
    zone: String,
    #[prost(string, tag = "6")]
    region: String,
}

impl From<&Message> for CallRequest {
    fn from(message: &Message) -> Self {
        Self {
            id: message.id.clone(),
            payload: message.payload.clone(),
            delay_millis: message.delay,
            response_code: message.response_code.map(u32::from),
            fail_attempts: message.fail_attempts,
        }
    }
}

impl From<CallRequest> for Message {
    fn from(request: CallRequest) -> Self {
        Self {
            id: request.id,
            payload: request.payload,
            delay: request.delay_millis,
            // A code out of range is out of the valid range, too.
            response_code: request.response_code.map(|code| u16::try_from(code).unwrap_or(u16::MAX)),
            fail_attempts: request.fail_attempts,
            ..Self::default()
        }
    }
}

impl From<ProducerAnswer> for CallReply {
    fn from(answer: ProducerAnswer) -> Self {
        let ProducerAnswer { id, received, headers, metadata, http_version } = answer;
        let sample::Metadata { cluster_name, cluster_location, host_name, ip_address, zone, region } = metadata;
        let metadata = Metadata { cluster_name, cluster_location, host_name, ip_address, zone, region };
        Self { id, received, headers, metadata: Some(metadata), http_version }
    }
}

impl From<CallReply> for ProducerAnswer {
    fn from(reply: CallReply) -> Self {
        let CallReply { id, received, headers, metadata, http_version } = reply;
        let Metadata { cluster_name, cluster_location, host_name, ip_address, zone, region } =
            metadata.unwrap_or_default();
        let metadata = sample::Metadata { cluster_name, cluster_location, host_name, ip_address, zone, region };
        Self { id, received, headers, metadata, http_version }
    }
}

impl Producer {
    /// Returns the reply, and the status if it is not OK; its details are then the reply.
    async fn reply(&self, head: &HeaderMap, request: CallRequest) -> Result<(CallReply, Option<Status>), Status> {
        let refused = |refused: Refused| Status::invalid_argument(refused.reason);
        let message = Message::from(request).checked().map_err(refused)?;
        let (status, answer) = self.answer(&message, head, Some("HTTP/2")).await;
        let reply = CallReply::from(answer);
        let code = code(status);
        let failed = (code != Code::Ok)
            .then(|| Status::with_details(code, format!("as requested: {status}"), reply.encode_to_vec().into()));
        Ok((reply, failed))
    }
}

/// Serves [`CALL`].
pub(super) async fn call(State(producer): State<Arc<Producer>>, request: Request) -> Response {
    let head = request.headers().clone();
    let service = tower::service_fn(move |request: tonic::Request<CallRequest>| {
        let (producer, head) = (producer.clone(), head.clone());
        async move {
            let (reply, failed) = producer.reply(&head, request.into_inner()).await?;
            failed.map_or_else(|| Ok(tonic::Response::new(reply)), Err)
        }
    });
    let response = tonic::server::Grpc::new(ProstCodec::default()).unary(service, request).await;
    response.map(axum::body::Body::new)
}

/// Serves [`STREAM`].
pub(super) async fn stream(State(producer): State<Arc<Producer>>, request: Request) -> Response {
    let head = request.headers().clone();
    let service = tower::service_fn(move |request: tonic::Request<CallRequest>| {
        let (producer, head) = (producer.clone(), head.clone());
        async move {
            let (reply, failed) = producer.reply(&head, request.into_inner()).await?;
            let replies = (0..STREAM_RESPONSES).map(move |_| Ok(reply.clone()));
            Ok::<_, Status>(tonic::Response::new(stream::iter(replies.chain(failed.map(Err)))))
        }
    });
    let response = tonic::server::Grpc::new(ProstCodec::default()).server_streaming(service, request).await;
    response.map(axum::body::Body::new)
}

/// Calls a producer.
pub(super) async fn ask(
    connection: &Http2,
    headers: HeaderMap,
    message: &Message,
    streamed: bool,
) -> Result<Outcome, CallError> {
    let fresh = message.fresh_connection.unwrap_or(false);
    let sender = connection.sender(fresh).await?;
    let service = tower::service_fn(move |request| sender.clone().send_request(request));
    let mut client = tonic::client::Grpc::with_origin(service, connection.origin());
    client.ready().await.map_err(|source| connection.target().failed(source))?;
    let mut request = tonic::Request::new(CallRequest::from(message));
    *request.metadata_mut() = MetadataMap::from_headers(headers);
    let codec = ProstCodec::<CallRequest, CallReply>::default();
    let mut replies = Vec::new();
    let ended = async {
        if streamed {
            let path = PathAndQuery::from_static(STREAM);
            let mut received = client.server_streaming(request, path, codec).await?.into_inner();
            while let Some(reply) = received.message().await? {
                replies.push(reply);
            }
        } else {
            let path = PathAndQuery::from_static(CALL);
            replies.push(client.unary(request, path, codec).await?.into_inner());
        }
        Ok(())
    };
    Ok(outcome(ended.await, replies))
}

fn outcome(ended: Result<(), Status>, mut replies: Vec<CallReply>) -> Outcome {
    let Err(status) = ended else {
        let responses = u32::try_from(replies.len()).unwrap_or(u32::MAX);
        let answer = replies.pop().map(ProducerAnswer::from);
        return Outcome { status: StatusCode::OK, answer, reason: None, responses };
    };
    // The details of a proxy's status are not a reply of the producer.
    let own = Some(status.details()).filter(|details| !details.is_empty());
    if let (Some(reply), true) = (own.and_then(|details| CallReply::decode(details).ok()), replies.is_empty()) {
        replies.push(reply);
    }
    Outcome {
        status: http_status(status.code()),
        responses: u32::try_from(replies.len()).unwrap_or(u32::MAX),
        answer: replies.pop().map(ProducerAnswer::from),
        reason: Some(format!("gRPC status {:?}: {}", status.code(), status.message())),
    }
}

/// The gRPC status for each HTTP status, and back: as in google/rpc/code.proto.
const CODES: [(Code, u16); 17] = [
    (Code::Ok, 200),
    (Code::InvalidArgument, 400),
    (Code::Unauthenticated, 401),
    (Code::PermissionDenied, 403),
    (Code::NotFound, 404),
    (Code::Aborted, 409),
    (Code::ResourceExhausted, 429),
    (Code::Cancelled, 499),
    (Code::Internal, 500),
    (Code::Unimplemented, 501),
    (Code::Unavailable, 503),
    (Code::DeadlineExceeded, 504),
    // These have the HTTP status of one above.
    (Code::FailedPrecondition, 400),
    (Code::OutOfRange, 400),
    (Code::AlreadyExists, 409),
    (Code::Unknown, 500),
    (Code::DataLoss, 500),
];

fn code(status: StatusCode) -> Code {
    let found = CODES.iter().find(|(_, http)| *http == status.as_u16());
    match found {
        Some((code, _)) => *code,
        None if status.is_success() => Code::Ok,
        None => Code::Unknown,
    }
}

fn http_status(code: Code) -> StatusCode {
    let found = CODES.iter().find(|(known, _)| *known == code).map(|(_, http)| *http);
    found.and_then(|http| StatusCode::from_u16(http).ok()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_correspond() {
        for http in [200, 400, 401, 403, 404, 409, 429, 499, 500, 501, 503, 504] {
            assert_eq!(http_status(code(StatusCode::from_u16(http).unwrap())).as_u16(), http);
        }
        assert_eq!(code(StatusCode::IM_A_TEAPOT), Code::Unknown);
        assert_eq!(code(StatusCode::CREATED), Code::Ok);
        assert_eq!(http_status(Code::Unknown).as_u16(), 500);
    }

    #[test]
    fn fields_have_the_numbers_of_the_proto_file() {
        let proto = include_str!("../../../docs/sample.proto");
        let number = |message: &str, field: &str| -> u32 {
            let body = proto
                .split_once(&format!("message {message} {{"))
                .unwrap()
                .1
                .split_once(
                    "
}",
                )
                .unwrap()
                .0;
            let line = body.lines().find(|line| line.contains(&format!(" {field} = "))).unwrap();
            line.trim().trim_end_matches(';').rsplit(' ').next().unwrap().parse().unwrap()
        };
        let text = || "x".to_owned();
        let request = CallRequest::default;
        let reply = CallReply::default;
        let metadata = Metadata::default;
        let encoded = [
            ("CallRequest", "id", CallRequest { id: Some(text()), ..request() }.encode_to_vec()),
            ("CallRequest", "payload", CallRequest { payload: Some(text()), ..request() }.encode_to_vec()),
            ("CallRequest", "delay_millis", CallRequest { delay_millis: Some(1), ..request() }.encode_to_vec()),
            ("CallRequest", "response_code", CallRequest { response_code: Some(1), ..request() }.encode_to_vec()),
            ("CallRequest", "fail_attempts", CallRequest { fail_attempts: Some(1), ..request() }.encode_to_vec()),
            ("CallReply", "id", CallReply { id: text(), ..reply() }.encode_to_vec()),
            ("CallReply", "received", CallReply { received: text(), ..reply() }.encode_to_vec()),
            ("CallReply", "headers", CallReply { headers: [(text(), text())].into(), ..reply() }.encode_to_vec()),
            ("CallReply", "metadata", CallReply { metadata: Some(metadata()), ..reply() }.encode_to_vec()),
            ("CallReply", "http_version", CallReply { http_version: Some(text()), ..reply() }.encode_to_vec()),
            ("Metadata", "cluster_name", Metadata { cluster_name: text(), ..metadata() }.encode_to_vec()),
            ("Metadata", "cluster_location", Metadata { cluster_location: text(), ..metadata() }.encode_to_vec()),
            ("Metadata", "host_name", Metadata { host_name: text(), ..metadata() }.encode_to_vec()),
            ("Metadata", "ip_address", Metadata { ip_address: text(), ..metadata() }.encode_to_vec()),
            ("Metadata", "zone", Metadata { zone: text(), ..metadata() }.encode_to_vec()),
            ("Metadata", "region", Metadata { region: text(), ..metadata() }.encode_to_vec()),
        ];
        for (message, field, bytes) in encoded {
            // The first byte of an encoded field is its number and its type.
            assert_eq!(u32::from(bytes[0] >> 3), number(message, field), "{message}.{field}");
        }
    }
}
