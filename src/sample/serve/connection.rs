//! HTTP/1.1: one request on a new or kept connection.

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
use tokio::time::Instant;

use super::target::{CallError, Target};

/// The maximum number of idle connections.
const MAX_IDLE: usize = 8;
/// How long an idle connection is kept: shorter than what proxies and servers allow (Envoy: an hour), so that a call
/// rarely uses one that is being closed.
pub(super) const IDLE_TIME: Duration = Duration::from_secs(15);
/// The maximum size of a response. A producer's contains the request's payload, at most 1 MiB, and its headers.
pub(super) const MAX_ANSWER_BYTES: usize = 2 * 1024 * 1024;

/// A status and a body, from the producer or from a proxy in between.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

impl Answer {
    /// Reads a response.
    pub(super) async fn read(target: &Target, response: Response<Incoming>) -> Result<Self, CallError> {
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        Ok(Self { status, body: body.map_err(|source| target.unreadable(source))?.to_bytes() })
    }
}

/// Connections to one producer. Every call resolves the name, and reuses a connection only while the name still resolves
/// to its address: a deleted Service must fail the next call, not the one after the idle time.
pub(super) struct Connections {
    target: Target,
    idle: Mutex<Vec<Connection>>,
}

struct Connection {
    sender: SendRequest<Full<Bytes>>,
    peer: SocketAddr,
    used: Instant,
}

impl Connections {
    pub(super) fn new(target: Target) -> Self {
        Self { target, idle: Mutex::default() }
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// Sends `request`, whose target is a path. With `fresh`, on a new connection that is closed afterwards.
    pub(super) async fn send(&self, mut request: Request<Full<Bytes>>, fresh: bool) -> Result<Answer, CallError> {
        let peers = self.target.look_up().await?;
        let host = HeaderValue::try_from(self.target.authority()).expect("a URL's authority is a valid header");
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
                    None => return Err(self.target.failed(error.into_error())),
                },
            }
        }
        let mut connection = self.connect(&peers).await?;
        let sent = connection.sender.send_request(request).await;
        let response = sent.map_err(|source| self.target.failed(source))?;
        self.finish(connection, response, fresh).await
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
        let (stream, peer) = self.target.connect(peers).await?;
        let (sender, driver) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|source| self.target.failed(source))?;
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
        let answer = Answer::read(&self.target, response).await?;
        if !fresh {
            connection.used = Instant::now();
            let mut idle = self.idle();
            if idle.len() < MAX_IDLE {
                idle.push(connection);
            }
        }
        Ok(answer)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
