//! HTTP/2 without TLS, for HTTP/2 requests and gRPC: all calls share one connection.

use std::net::SocketAddr;

use axum::http::uri::{Authority, PathAndQuery, Scheme};
use axum::http::{Request, Uri};
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tonic::body::Body;

use super::connection::{Answer, IDLE_TIME};
use super::target::{CallError, Target};

/// A connection to one producer, which is kept as [`super::connection::Connections`] keeps its own.
pub(super) struct Http2 {
    target: Target,
    kept: Mutex<Option<Kept>>,
}

struct Kept {
    sender: SendRequest<Body>,
    peer: SocketAddr,
    used: Instant,
}

impl Http2 {
    pub(super) fn new(target: Target) -> Self {
        Self { target, kept: Mutex::default() }
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// Sends `request`, whose target is a path. With `fresh`, on a new connection that is closed afterwards.
    pub(super) async fn send(&self, request: Request<Full<Bytes>>, fresh: bool) -> Result<Answer, CallError> {
        let mut sender = self.sender(fresh).await?;
        let (mut head, body) = request.into_parts();
        let path = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let mut uri = self.origin().into_parts();
        uri.path_and_query = Some(path);
        head.uri = Uri::from_parts(uri).expect("a scheme, an authority and a path are a URI");
        let response = sender.send_request(Request::from_parts(head, Body::new(body))).await;
        Answer::read(&self.target, response.map_err(|source| self.target.failed(source))?).await
    }

    /// Returns a sender of requests, of the kept connection or of a new one.
    pub(super) async fn sender(&self, fresh: bool) -> Result<SendRequest<Body>, CallError> {
        let peers = self.target.look_up().await?;
        if fresh {
            return Ok(self.connect(&peers).await?.sender);
        }
        let mut kept = self.kept.lock().await;
        if let Some(kept) = kept.as_mut()
            && peers.contains(&kept.peer)
            && kept.used.elapsed() < IDLE_TIME
            && kept.sender.ready().await.is_ok()
        {
            kept.used = Instant::now();
            return Ok(kept.sender.clone());
        }
        Ok(kept.insert(self.connect(&peers).await?).sender.clone())
    }

    /// Returns the scheme and the authority of requests.
    pub(super) fn origin(&self) -> Uri {
        let authority = Authority::try_from(self.target.authority()).expect("the target has a valid authority");
        let uri = Uri::builder().scheme(Scheme::HTTP).authority(authority).path_and_query("/");
        uri.build().expect("a scheme, an authority and a path are a URI")
    }

    async fn connect(&self, peers: &[SocketAddr]) -> Result<Kept, CallError> {
        let (stream, peer) = self.target.connect(peers).await?;
        let (sender, driver) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(|source| self.target.failed(source))?;
        // Ends when every sender has been dropped.
        tokio::spawn(driver);
        Ok(Kept { sender, peer, used: Instant::now() })
    }
}
