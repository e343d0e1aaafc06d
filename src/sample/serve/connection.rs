//! How the caller reaches the producer: one HTTP/1.1 request on a new or kept connection.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::header::HOST;
use axum::http::{HeaderValue, Request, Response, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::sample::ProducerUrl;

/// The maximum number of idle connections.
const MAX_IDLE: usize = 8;
/// How long an idle connection is kept: shorter than what proxies and servers allow (Envoy: an hour), so that a call
/// rarely uses one that is being closed.
const IDLE_TIME: Duration = Duration::from_secs(15);
/// The maximum size of a response. A producer's contains the request's payload, at most 1 MiB, and its headers.
const MAX_ANSWER_BYTES: usize = 2 * 1024 * 1024;

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error("the host name {host} does not resolve: {source}")]
    Lookup { host: String, source: std::io::Error },
    #[error("cannot connect to {address} ({url}): {source}")]
    Connect { url: ProducerUrl, address: SocketAddr, source: std::io::Error },
    #[error("the connection to {url} failed: {}", chain(source))]
    Http { url: ProducerUrl, source: hyper::Error },
    #[error("cannot read the response of {url}: {}", chain(source.as_ref()))]
    Body { url: ProducerUrl, source: Box<dyn std::error::Error + Send + Sync> },
}

/// A status and a body, from the producer or from a proxy in between.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

/// Connections to one producer. Every call resolves the name, and reuses a connection only while the name still resolves
/// to its address: a deleted Service must fail the next call, not the one after the idle time.
pub(super) struct Connections {
    url: ProducerUrl,
    idle: Mutex<Vec<Connection>>,
}

struct Connection {
    sender: SendRequest<Full<Bytes>>,
    peer: SocketAddr,
    used: Instant,
}

impl Connections {
    pub(super) fn new(url: ProducerUrl) -> Self {
        Self { url, idle: Mutex::default() }
    }

    pub(super) fn url(&self) -> &ProducerUrl {
        &self.url
    }

    /// Sends `request`, whose target is a path. With `fresh`, on a new connection that is closed afterwards.
    pub(super) async fn send(&self, mut request: Request<Full<Bytes>>, fresh: bool) -> Result<Answer, CallError> {
        let peers = self.look_up().await?;
        let host = HeaderValue::try_from(self.url.authority()).expect("a URL's authority is a valid header");
        request.headers_mut().insert(HOST, host);
        while !fresh && let Some(mut connection) = self.take_idle(&peers) {
            if connection.sender.ready().await.is_err() {
                continue;
            }
            match connection.sender.try_send_request(request).await {
                Ok(response) => return self.finish(connection, response, fresh).await,
                Err(mut error) => match error.take_message() {
                    // Nothing was sent, so the request can safely be sent again.
                    Some(unsent) => request = unsent,
                    None => return Err(self.http_error(error.into_error())),
                },
            }
        }
        let mut connection = self.connect(&peers).await?;
        let response = connection.sender.send_request(request).await.map_err(|source| self.http_error(source))?;
        self.finish(connection, response, fresh).await
    }

    async fn look_up(&self) -> Result<Vec<SocketAddr>, CallError> {
        let fail = |source| CallError::Lookup { host: self.url.host().to_owned(), source };
        let peers = tokio::net::lookup_host((self.url.host(), self.url.port())).await.map_err(fail)?;
        let peers: Vec<_> = peers.collect();
        if peers.is_empty() {
            return Err(fail(std::io::Error::other("it has no address")));
        }
        Ok(peers)
    }

    fn take_idle(&self, peers: &[SocketAddr]) -> Option<Connection> {
        let mut idle = self.idle();
        idle.retain(|connection| {
            !connection.sender.is_closed()
                && connection.used.elapsed() < IDLE_TIME
                && peers.contains(&connection.peer)
        });
        idle.pop()
    }

    async fn connect(&self, peers: &[SocketAddr]) -> Result<Connection, CallError> {
        let mut connected = Err(std::io::Error::other("the name has no address"));
        let mut peer = peers[0];
        for candidate in peers {
            peer = *candidate;
            connected = TcpStream::connect(peer).await;
            if connected.is_ok() {
                break;
            }
        }
        let fail = |source| CallError::Connect { url: self.url.clone(), address: peer, source };
        let stream = connected.map_err(fail)?;
        // A small request must not wait for the acknowledgment of the previous one.
        stream.set_nodelay(true).map_err(fail)?;
        let (sender, driver) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|source| self.http_error(source))?;
        // Ends with the connection, which ends when its sender is dropped; the sender also receives an error.
        tokio::spawn(driver);
        Ok(Connection { sender, peer, used: Instant::now() })
    }

    async fn finish(
        &self,
        mut connection: Connection,
        response: Response<Incoming>,
        fresh: bool,
    ) -> Result<Answer, CallError> {
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES)
            .collect()
            .await
            .map_err(|source| CallError::Body { url: self.url.clone(), source })?
            .to_bytes();
        if !fresh {
            connection.used = Instant::now();
            let mut idle = self.idle();
            if idle.len() < MAX_IDLE {
                idle.push(connection);
            }
        }
        Ok(Answer { status, body })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn http_error(&self, source: hyper::Error) -> CallError {
        CallError::Http { url: self.url.clone(), source }
    }
}

/// Returns an error with its causes in one line; hyper's own text omits them.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
