//! The sample services over real HTTP on 127.0.0.1, without a cluster, a mesh or a DNS server.

#![expect(clippy::unwrap_used, reason = "test helpers may panic")]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::http::{HeaderMap, Method, Request, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use kindmesh::internals::sample::{
    CallerAnswer, Count, Load, LoadProgress, Metadata, Options, Ports, ProducerAnswer, ProducerUrl, Protocol,
    Refusal, Role, Server,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A sample service that runs until [`Service::stop`] or the end of the test.
struct Service {
    address: SocketAddr,
    ports: Ports,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<anyhow::Result<()>>,
}

impl Service {
    async fn start(role: Role, options: Options) -> Self {
        let server = Server::bind(role, options).await.unwrap();
        let (address, ports) = (server.address(), server.ports());
        let (stop, stopped) = oneshot::channel();
        let ended = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        Self { address, ports, stop, ended }
    }

    async fn producer() -> Self {
        Self::start(Role::Producer, options("cluster2", unused_url())).await
    }

    async fn caller(producer: SocketAddr) -> Self {
        Self::start(Role::Caller, options("cluster1", url(producer))).await
    }

    /// Starts a caller of another service, in any protocol.
    async fn calling(producer: &Self) -> Self {
        let options = Options { producer_ports: producer.ports, ..options("cluster1", url(producer.address)) };
        Self::start(Role::Caller, options).await
    }

    async fn call(&self, message: Value) -> CallerAnswer {
        let (status, answer) = post(self.address, "/caller/messages", &[], &message).await;
        assert_eq!(status, StatusCode::OK);
        answer
    }

    async fn received(&self) -> u64 {
        let (status, count): (_, Count) = get(self.address, "/producer/count").await.json();
        assert_eq!(status, StatusCode::OK);
        count.received
    }
}

fn options(cluster: &str, producer: ProducerUrl) -> Options {
    Options {
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
        listen_ports: Ports { http2: 0, grpc: 0, tcp: 0 },
        producer,
        metadata: metadata(cluster),
        ..Options::default()
    }
}

fn metadata(cluster: &str) -> Metadata {
    Metadata {
        cluster_name: cluster.into(),
        cluster_location: format!("{cluster}-region"),
        host_name: format!("{cluster}-pod"),
        ip_address: "192.0.2.1".into(),
        zone: format!("{cluster}-zone"),
        region: format!("{cluster}-region"),
    }
}

fn url(address: SocketAddr) -> ProducerUrl {
    format!("http://{address}").parse().unwrap()
}

fn unused_url() -> ProducerUrl {
    "http://127.0.0.1:1".parse().unwrap()
}

struct Response {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Response {
    fn json<T: DeserializeOwned>(&self) -> (StatusCode, T) {
        let body = serde_json::from_slice(&self.body);
        (self.status, body.unwrap_or_else(|error| panic!("{error}: {:?}", self.body)))
    }
}

/// Sends one request on a new connection.
async fn send(to: SocketAddr, request: Request<Full<Bytes>>) -> Response {
    let stream = TcpStream::connect(to).await.unwrap();
    let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(driver);
    let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
    Response { status: parts.status, headers: parts.headers, body: body.collect().await.unwrap().to_bytes() }
}

fn request(method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let start = Request::builder().method(method).uri(path).header("host", "test");
    let builder = headers.iter().fold(start, |builder, (name, value)| builder.header(*name, *value));
    builder.body(Full::new(body.into())).unwrap()
}

async fn get(to: SocketAddr, path: &str) -> Response {
    send(to, request(Method::GET, path, &[], "")).await
}

async fn post<T: DeserializeOwned>(
    to: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    message: &Value,
) -> (StatusCode, T) {
    send(to, request(Method::POST, path, headers, message.to_string())).await.json()
}

/// Reads one request, head and body, from a raw connection. Returns false if the connection is closed.
async fn read_request(stream: &mut TcpStream) -> bool {
    let mut seen = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&seen).to_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:")).unwrap();
            if body.len() >= length.trim().parse().unwrap() {
                return true;
            }
        }
        if stream.read_buf(&mut seen).await.unwrap_or(0) == 0 {
            return false;
        }
    }
}

async fn write_answer(stream: &mut TcpStream, status: &str, body: &str) {
    let answer =
        format!("HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(answer.as_bytes()).await.unwrap();
}

#[tokio::test]
async fn producer_responds_as_requested() {
    let producer = Service::producer().await;
    let message = json!({"id": "7", "payload": "grüße \"<b>\"", "responseCode": 418});
    let headers = [("X-Twice", "a"), ("x-twice", "b"), ("content-type", "application/json")];
    let (status, answer): (_, ProducerAnswer) =
        post(producer.address, "/producer/messages", &headers, &message).await;
    assert_eq!(status, StatusCode::IM_A_TEAPOT);
    assert_eq!((answer.id.as_str(), answer.received.as_str()), ("7", "grüße \"<b>\""));
    assert_eq!(answer.headers["x-twice"], "a, b");
    assert_eq!(answer.headers["host"], "test");
    assert_eq!(answer.metadata, metadata("cluster2"));

    let (status, answer): (_, ProducerAnswer) =
        post(producer.address, "/producer/messages", &[], &json!({})).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(answer.received, "");
    assert!(!answer.id.is_empty());
}

#[tokio::test]
async fn producer_delays_its_response() {
    let producer = Service::producer().await;
    let started = tokio::time::Instant::now();
    let (_, _): (_, ProducerAnswer) =
        post(producer.address, "/producer/messages", &[], &json!({"delay": 30})).await;
    assert!(started.elapsed() >= Duration::from_millis(30));
}

#[tokio::test]
async fn first_attempts_fail_by_the_attempt_header() {
    let producer = Service::producer().await;
    let message = json!({"responseCode": 503, "failAttempts": 2});
    let attempts: [(&[(&str, &str)], u16); 4] = [
        (&[], 503),
        (&[("x-envoy-attempt-count", "1")], 503),
        (&[("x-envoy-attempt-count", "2")], 503),
        (&[("x-envoy-attempt-count", "3")], 200),
    ];
    for (headers, expected) in attempts {
        let (status, _): (_, ProducerAnswer) =
            post(producer.address, "/producer/messages", headers, &message).await;
        assert_eq!(status.as_u16(), expected, "{headers:?}");
    }
}

#[tokio::test]
async fn producer_counts_received_messages() {
    let producer = Service::producer().await;
    assert_eq!(producer.received().await, 0);
    for message in [json!({}), json!({"responseCode": 500}), json!({"responseCode": 42})] {
        send(producer.address, request(Method::POST, "/producer/messages", &[], message.to_string())).await;
    }
    assert_eq!(producer.received().await, 2, "the third message is invalid");
    assert_eq!(get(producer.address, "/producer/count").await.body, r#"{"received":2}"#);
}

#[tokio::test]
async fn invalid_request_is_rejected_with_a_reason() {
    let producer = Service::producer().await;
    let caller = Service::caller(producer.address).await;
    let too_long = json!({"payload": "x".repeat(1024 * 1024)}).to_string();
    for (to, path) in [(producer.address, "/producer/messages"), (caller.address, "/caller/messages")] {
        for (body, status, why) in [
            ("{\"id\":", 400, "invalid message"),
            ("{\"responseCode\":199}", 400, "must be 200 to 599"),
            ("{\"responseCode\":600}", 400, "must be 200 to 599"),
            (too_long.as_str(), 413, "length limit"),
        ] {
            let response = send(to, request(Method::POST, path, &[], body.to_owned())).await;
            let (seen, refusal): (_, Refusal) = response.json();
            assert_eq!(seen.as_u16(), status);
            assert!(refusal.reason.contains(why), "{}", refusal.reason);
        }
        let (status, refusal): (_, Refusal) = get(to, "/nothing").await.json();
        assert_eq!((status.as_u16(), refusal.reason.as_str()), (404, "no route for GET /nothing"));
        assert_eq!(get(to, path).await.status, StatusCode::METHOD_NOT_ALLOWED);
    }
}

#[tokio::test]
async fn call_returns_what_both_sides_saw() {
    let producer = Service::producer().await;
    let caller = Service::caller(producer.address).await;
    let message = json!({"id": "c-1", "payload": "hello", "delay": 20});
    let headers = [("x-only-caller", "1"), ("content-type", "application/json")];
    let body =
        send(caller.address, request(Method::POST, "/caller/messages", &headers, message.to_string())).await;

    let (_, fields): (_, serde_json::Map<String, Value>) = body.json();
    let names: Vec<_> = fields.keys().map(String::as_str).collect();
    let expected = "callerHeaders callerMetadata id producerHeaders producerHttpVersion producerMetadata protocol \
                    reason received responses roundTripTimeMillis statusCode";
    assert_eq!(names, expected.split_whitespace().collect::<Vec<_>>());

    let (status, answer): (_, CallerAnswer) = body.json();
    assert_eq!(status, StatusCode::OK);
    assert_eq!((answer.id.as_str(), answer.received.as_deref()), ("c-1", Some("hello")));
    assert_eq!((answer.status_code, answer.reason), (200, None));
    assert!(answer.round_trip_time_millis >= 20);
    assert_eq!(answer.caller_metadata, metadata("cluster1"));
    assert_eq!(answer.producer_metadata, Some(metadata("cluster2")));
    assert_eq!(answer.caller_headers["x-only-caller"], "1");
    let producer_headers = answer.producer_headers.unwrap();
    assert!(!producer_headers.contains_key("x-only-caller"));
    assert_eq!(producer_headers["content-type"], "application/json");
    assert_eq!(producer_headers["host"], producer.address.to_string());
}

#[tokio::test]
async fn call_forwards_trace_headers() {
    let producer = Service::producer().await;
    let caller = Service::caller(producer.address).await;
    let headers = [
        ("x-request-id", "r-1"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("tracestate", "a=1"),
        ("tracestate", "b=2"),
        ("baggage", "seat=12"),
        ("x-envoy-attempt-count", "5"),
    ];
    let (_, answer): (_, CallerAnswer) = post(caller.address, "/caller/messages", &headers, &json!({})).await;
    let seen = answer.producer_headers.unwrap();
    assert_eq!(seen["x-request-id"], "r-1");
    assert_eq!(seen["traceparent"], headers[1].1);
    assert_eq!(seen["tracestate"], "a=1, b=2");
    assert_eq!(seen["baggage"], "seat=12");
    assert!(!seen.contains_key("x-envoy-attempt-count"), "attempts are counted separately on each hop");
}

#[tokio::test]
async fn producer_failure_is_in_the_response() {
    let producer = Service::producer().await;
    let caller = Service::caller(producer.address).await;
    let answer = caller.call(json!({"payload": "x", "responseCode": 503})).await;
    assert_eq!((answer.status_code, answer.received.as_deref()), (503, Some("x")));
    assert_eq!(answer.producer_metadata, Some(metadata("cluster2")));
    assert_eq!(answer.reason, None);

    let answer = caller.call(json!({"responseCode": 204})).await;
    assert_eq!((answer.status_code, answer.producer_metadata), (204, None));
    assert_eq!(answer.reason.unwrap(), "204 No Content, without a body");
}

#[tokio::test]
async fn proxy_response_is_the_reason() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let caller = Service::caller(listener.local_addr().unwrap()).await;
    let proxy = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(read_request(&mut stream).await);
        write_answer(&mut stream, "504 Gateway Timeout", "upstream request timeout").await;
    };
    let (answer, ()) = tokio::join!(caller.call(json!({"payload": "x"})), proxy);
    assert_eq!((answer.status_code, answer.reason.as_deref()), (504, Some("upstream request timeout")));
    assert_eq!((answer.received, answer.producer_headers, answer.producer_metadata), (None, None, None));
}

#[tokio::test]
async fn unreachable_producer_gives_500_and_the_reason() {
    // The port of a dropped listener refuses connections.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let refused = listener.local_addr().unwrap();
    drop(listener);
    let answer = Service::caller(refused).await.call(json!({"id": "1"})).await;
    assert_eq!((answer.id.as_str(), answer.status_code), ("1", 500));
    let reason = answer.reason.unwrap();
    assert!(reason.contains("cannot connect") && reason.to_lowercase().contains("refused"), "{reason}");
    assert_eq!((answer.received, answer.producer_headers, answer.producer_metadata), (None, None, None));

    // A label of 64 characters is not a valid DNS name, so the resolver queries no server.
    let host = "x".repeat(64);
    let producer = format!("http://{host}:8080").parse().unwrap();
    let caller = Service::start(Role::Caller, options("cluster1", producer)).await;
    let answer = caller.call(json!({})).await;
    assert_eq!(answer.status_code, 500);
    let reason = answer.reason.unwrap();
    assert!(reason.starts_with(&format!("the host name {host} does not resolve: ")), "{reason}");
}

#[tokio::test]
async fn hanging_producer_gives_500_after_the_timeout() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let producer = url(listener.local_addr().unwrap());
    let options = Options { call_timeout: Duration::from_millis(50), ..options("cluster1", producer.clone()) };
    let caller = Service::start(Role::Caller, options).await;
    let answer = caller.call(json!({})).await;
    assert_eq!(answer.status_code, 500);
    assert_eq!(answer.reason.unwrap(), format!("no response from {producer} within 0.05 s"));
    assert!(answer.round_trip_time_millis >= 50);
}

#[tokio::test]
async fn connection_is_kept_unless_fresh_is_requested() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let caller = Service::caller(listener.local_addr().unwrap()).await;
    // Answers each request with the number of its connection.
    tokio::spawn(async move {
        for number in 1.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                while read_request(&mut stream).await {
                    write_answer(&mut stream, "418 I'm a teapot", &number.to_string()).await;
                }
            });
        }
    });
    let mut connections = Vec::new();
    for fresh in [false, false, true, true, false] {
        connections.push(caller.call(json!({"freshConnection": fresh})).await.reason.unwrap());
    }
    assert_eq!(connections, ["1", "1", "2", "3", "1"]);
}

#[tokio::test]
async fn closed_kept_connection_is_not_used() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let caller = Service::caller(listener.local_addr().unwrap()).await;
    let producer = async {
        for number in ["1", "2"] {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(read_request(&mut stream).await);
            let answer = format!("HTTP/1.1 500 x\r\nconnection: close\r\ncontent-length: 1\r\n\r\n{number}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    };
    let calls = async {
        for number in ["1", "2"] {
            assert_eq!(caller.call(json!({})).await.reason.unwrap(), number);
        }
    };
    tokio::join!(producer, calls);
}

#[tokio::test]
async fn both_are_live_and_ready() {
    let producer = Service::producer().await;
    let caller = Service::caller(producer.address).await;
    for address in [producer.address, caller.address] {
        assert_eq!(get(address, "/healthz/live").await.status, StatusCode::OK);
        assert_eq!(get(address, "/healthz/ready").await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn shutdown_finishes_requests_in_flight_and_accepts_no_more() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let Service { address, stop, ended, .. } = Service::caller(listener.local_addr().unwrap()).await;
    let in_flight = tokio::spawn(async move {
        let (_, answer): (_, CallerAnswer) = post(address, "/caller/messages", &[], &json!({})).await;
        answer.reason.unwrap()
    });
    let (mut stream, _) = listener.accept().await.unwrap();
    assert!(read_request(&mut stream).await);

    stop.send(()).unwrap();
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!ended.is_finished(), "a request is still in flight");

    write_answer(&mut stream, "500 x", "late response").await;
    assert_eq!(in_flight.await.unwrap(), "late response");
    ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn shutdown_has_a_timeout() {
    let options = Options { drain_timeout: Duration::from_millis(20), ..options("cluster2", unused_url()) };
    let producer = Service::start(Role::Producer, options).await;
    let address = producer.address;
    let message = json!({"delay": 3_600_000}).to_string();
    let mut client = TcpStream::connect(address).await.unwrap();
    let head = format!("POST /producer/messages HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", message.len());
    client.write_all((head + &message).as_bytes()).await.unwrap();
    while producer.received().await == 0 {
        tokio::task::yield_now().await;
    }
    producer.stop.send(()).unwrap();
    producer.ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn page_has_no_external_resources() {
    let caller = Service::caller("127.0.0.1:1".parse().unwrap()).await;
    let response = get(caller.address, "/").await;
    assert_eq!(response.status, StatusCode::OK);
    assert_eq!(response.headers["content-type"], "text/html; charset=utf-8");
    let policy = response.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    assert!(!policy.contains("http") && !policy.contains('*'), "{policy}");

    let page = std::str::from_utf8(&response.body).unwrap();
    for outside in ["http:", "https:", "//cdn", "src=", "@import", "url(", "innerHTML", "insertAdjacentHTML"] {
        assert!(!page.contains(outside), "the page contains `{outside}`");
    }
    for field in ["payload", "delay", "code", "attempts", "count"] {
        assert!(
            page.contains(&format!("<label for=\"{field}\">")) && page.contains(&format!("<input id=\"{field}\""))
        );
    }
    assert!(page.contains("aria-live=\"polite\""));
}

/// What each protocol shows of a call, besides what all of them show.
#[tokio::test]
async fn every_protocol_shows_both_sides() {
    let producer = Service::producer().await;
    let caller = Service::calling(&producer).await;
    for (protocol, version, responses, header) in [
        (Protocol::Http, Some("HTTP/1.1"), 1, Some(("host", producer.address.to_string()))),
        (Protocol::Http2, Some("HTTP/2"), 1, Some(("content-type", "application/json".into()))),
        (Protocol::Grpc, Some("HTTP/2"), 1, Some(("content-type", "application/grpc".into()))),
        (Protocol::GrpcStream, Some("HTTP/2"), 3, Some(("te", "trailers".into()))),
        (Protocol::Tcp, None, 1, None),
        (Protocol::Websocket, Some("HTTP/1.1"), 1, Some(("upgrade", "websocket".into()))),
    ] {
        let message = json!({"id": "c-1", "payload": "grüße", "delay": 20, "protocol": protocol});
        let headers = [("x-request-id", "r-1")];
        let (_, answer): (_, CallerAnswer) = post(caller.address, "/caller/messages", &headers, &message).await;
        assert_eq!((answer.status_code, answer.reason.as_deref()), (200, None), "{protocol}");
        assert_eq!((answer.id.as_str(), answer.received.as_deref()), ("c-1", Some("grüße")), "{protocol}");
        assert_eq!(answer.producer_metadata, Some(metadata("cluster2")), "{protocol}");
        assert_eq!((answer.protocol, answer.responses), (protocol, responses));
        assert_eq!(answer.producer_http_version.as_deref(), version, "{protocol}");
        assert!(answer.round_trip_time_millis >= 20, "{protocol}");
        let seen = answer.producer_headers.unwrap();
        match header {
            Some((name, value)) => {
                assert_eq!((&seen[name], seen["x-request-id"].as_str()), (&value, "r-1"), "{protocol}");
            }
            None => assert!(seen.is_empty(), "{seen:?}"),
        }
    }
    assert_eq!(producer.received().await, 6, "a stream is one message");
}

#[tokio::test]
async fn grpc_status_corresponds_to_the_requested_one() {
    let producer = Service::producer().await;
    let caller = Service::calling(&producer).await;
    for (protocol, code, seen, status, responses) in [
        ("grpc", 503, 503, "Unavailable", 1),
        ("grpc", 418, 500, "Unknown", 1),
        ("grpc-stream", 403, 403, "PermissionDenied", 3),
    ] {
        let answer = caller.call(json!({"protocol": protocol, "responseCode": code})).await;
        assert_eq!((answer.status_code, answer.responses), (seen, responses));
        assert_eq!(answer.producer_metadata, Some(metadata("cluster2")));
        let reason = answer.reason.unwrap();
        assert!(reason.starts_with(&format!("gRPC status {status}: ")), "{reason}");
    }
    let answer = caller.call(json!({"protocol": "http2", "responseCode": 503})).await;
    assert_eq!((answer.status_code, answer.reason), (503, None));
}

#[tokio::test]
async fn http2_and_grpc_keep_their_connection() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let producer = Service::producer().await;
    let (behind, connections) = (producer.address, std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0)));
    let counted = connections.clone();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            tokio::spawn(async move {
                let mut server = TcpStream::connect(behind).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    let ports = Ports { http2: port, grpc: port, tcp: 0 };
    let options = Options { producer_ports: ports, ..options("cluster1", unused_url()) };
    let caller = Service::start(Role::Caller, options).await;
    for (protocol, fresh, expected) in [
        ("http2", false, 1),
        ("http2", false, 1),
        ("http2", true, 2),
        ("grpc", false, 3),
        ("grpc-stream", false, 3),
        ("grpc", true, 4),
    ] {
        let answer = caller.call(json!({"protocol": protocol, "freshConnection": fresh})).await;
        assert_eq!(answer.status_code, 200, "{answer:?}");
        assert_eq!(connections.load(std::sync::atomic::Ordering::Relaxed), expected, "{protocol}");
    }
}

#[tokio::test]
async fn tcp_server_speaks_first_and_answers_each_line() {
    let producer = Service::producer().await;
    let mut stream = BufReader::new(TcpStream::connect((Ipv4Addr::LOCALHOST, producer.ports.tcp)).await.unwrap());
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    let greeting: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(greeting["metadata"]["clusterName"], "cluster2");
    for (sent, field, expected) in
        [("{\"id\":\"1\"}", "id", "1"), ("{", "reason", "invalid message"), ("{\"id\":\"2\"}", "id", "2")]
    {
        stream.get_mut().write_all(format!("{sent}\n").as_bytes()).await.unwrap();
        line.clear();
        stream.read_line(&mut line).await.unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap();
        assert!(answer[field].as_str().unwrap().starts_with(expected), "{line}");
    }
}

/// A proxy that does not speak a protocol responds in its own way, or closes the connection.
#[tokio::test]
async fn response_of_a_proxy_is_the_reason_in_every_protocol() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut start = [0; 3];
                // TCP: the client waits for the server.
                let read = tokio::time::timeout(Duration::from_millis(200), stream.read_exact(&mut start));
                if read.await.is_ok() && &start == b"GET" {
                    write_answer(&mut stream, "503 Service Unavailable", "no healthy upstream").await;
                }
            });
        }
    });
    let ports = Ports { http2: address.port(), grpc: address.port(), tcp: address.port() };
    let options = Options { producer_ports: ports, ..options("cluster1", url(address)) };
    let caller = Service::start(Role::Caller, options).await;
    for (protocol, status, why) in [
        ("websocket", 503, "no healthy upstream"),
        ("tcp", 500, "closed by the server or a proxy before the server spoke"),
        ("http2", 500, "the connection to http://"),
        ("grpc", 500, "gRPC status "),
    ] {
        let answer = caller.call(json!({"protocol": protocol})).await;
        assert_eq!((answer.status_code, answer.responses, answer.producer_metadata), (status, 0, None));
        let reason = answer.reason.unwrap();
        assert!(reason.contains(why), "{protocol}: {reason}");
    }
}

#[tokio::test]
async fn shutdown_finishes_connections_and_closes_idle_ones() {
    let Service { address, ports, stop, ended } = Service::producer().await;
    let mut idle = BufReader::new(TcpStream::connect((Ipv4Addr::LOCALHOST, ports.tcp)).await.unwrap());
    let mut line = String::new();
    idle.read_line(&mut line).await.unwrap();
    let options = Options { producer_ports: ports, ..options("cluster1", url(address)) };
    let caller = Service::start(Role::Caller, options).await;
    let calls = ["tcp", "websocket", "grpc"].map(|protocol| {
        let to = caller.address;
        tokio::spawn(async move {
            let message = json!({"protocol": protocol, "delay": 300});
            let (_, answer): (_, CallerAnswer) = post(to, "/caller/messages", &[], &message).await;
            assert_eq!(answer.status_code, 200, "{answer:?}");
        })
    });
    while get(address, "/producer/count").await.json::<Count>().1.received < 3 {
        tokio::task::yield_now().await;
    }
    stop.send(()).unwrap();
    line.clear();
    assert_eq!(idle.read_line(&mut line).await.unwrap(), 0, "an idle connection is closed");
    for call in calls {
        call.await.unwrap();
    }
    ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn address_in_use_is_named_in_the_error() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let listen = listener.local_addr().unwrap();
    let error = Server::bind(Role::Producer, Options { listen, ..Options::default() }).await.unwrap_err();
    assert_eq!(error.to_string(), format!("listening on {listen}"));
}

#[tokio::test]
async fn load_does_not_wait_for_slow_responses() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let probe = Service::start(Role::Probe, options("cluster1", unused_url())).await;
    let count = 5;
    let load = Load {
        host: address.ip().to_string(),
        port: address.port(),
        path: None,
        qps: 100,
        count,
        timeout_millis: 30_000,
    };
    let body = serde_json::to_string(&load).unwrap();
    let start = async || {
        let json = [("content-type", "application/json")];
        send(probe.address, request(Method::POST, "/probe/load", &json, body.clone())).await.status
    };
    assert_eq!(start().await, StatusCode::NO_CONTENT);
    // Nothing is answered before all are there: each was sent although the ones before it had no response.
    let mut streams = Vec::new();
    for _ in 0..count {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(read_request(&mut stream).await);
        streams.push(stream);
    }
    let progress = async |known: usize| -> LoadProgress {
        get(probe.address, &format!("/probe/load/{known}")).await.json().1
    };
    let waiting = progress(0).await;
    assert_eq!((waiting.sent, waiting.over, waiting.ended.len()), (5, false, 0));
    // One load at a time.
    assert_eq!(start().await, StatusCode::CONFLICT);
    for (index, stream) in streams.iter_mut().enumerate() {
        write_answer(stream, if index == 0 { "503 Service Unavailable" } else { "200 OK" }, "no healthy upstream")
            .await;
    }
    drop(streams);
    let over = loop {
        let now = progress(0).await;
        if now.over {
            break now;
        }
        tokio::task::yield_now().await;
    };
    let mut dues: Vec<_> = over.ended.iter().map(|call| call.at_millis).collect();
    dues.sort_by(f64::total_cmp);
    assert_eq!(dues, [0.0, 10.0, 20.0, 30.0, 40.0]);
    // The first call was waiting while the others were sent, and its duration says so.
    let lost: Vec<_> = over.ended.iter().filter(|call| call.status != Some(200)).collect();
    assert_eq!(lost.len(), 1);
    assert_eq!((lost[0].status, lost[0].reason.as_deref()), (Some(503), Some("no healthy upstream")));
    let first = over.ended.iter().find(|call| call.at_millis == 0.0).unwrap();
    assert!(first.millis >= 40.0, "{first:?}");
    assert_eq!(progress(3).await.ended.len(), 2);
}
