//! Where a call goes: a host and a port, which every call resolves again.

use std::fmt;
use std::net::SocketAddr;

use tokio::net::TcpStream;

use crate::sample::ProducerUrl;

/// A port of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    scheme: &'static str,
    url: ProducerUrl,
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error("the host name {host} does not resolve: {source}")]
    Lookup { host: String, source: std::io::Error },
    #[error("cannot connect to {address} ({target}): {source}")]
    Connect { target: Target, address: SocketAddr, source: std::io::Error },
    #[error("the connection to {target} failed: {}", chain(source.as_ref()))]
    Failed { target: Target, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("cannot read the response of {target}: {}", chain(source.as_ref()))]
    Body { target: Target, source: Box<dyn std::error::Error + Send + Sync> },
}

impl Target {
    pub(super) fn new(scheme: &'static str, host: &str, port: u16) -> Self {
        Self { scheme, url: ProducerUrl::new(host, port) }
    }

    /// Returns `HOST:PORT`.
    pub(super) fn authority(&self) -> String {
        self.url.authority()
    }

    /// Resolves the name.
    pub(super) async fn look_up(&self) -> Result<Vec<SocketAddr>, CallError> {
        let fail = |source| CallError::Lookup { host: self.url.host().to_owned(), source };
        let peers = tokio::net::lookup_host((self.url.host(), self.url.port())).await.map_err(fail)?;
        let peers: Vec<_> = peers.collect();
        if peers.is_empty() {
            return Err(fail(std::io::Error::other("it has no address")));
        }
        Ok(peers)
    }

    /// Connects to the first of these addresses that accepts the connection.
    pub(super) async fn connect(&self, peers: &[SocketAddr]) -> Result<(TcpStream, SocketAddr), CallError> {
        let mut connected = Err(std::io::Error::other("the name has no address"));
        let mut peer = peers[0];
        for candidate in peers {
            peer = *candidate;
            connected = TcpStream::connect(peer).await;
            if connected.is_ok() {
                break;
            }
        }
        let fail = |source| CallError::Connect { target: self.clone(), address: peer, source };
        let stream = connected.map_err(fail)?;
        // A small request must not wait for the acknowledgment of the previous one.
        stream.set_nodelay(true).map_err(fail)?;
        Ok((stream, peer))
    }

    /// Resolves the name and connects.
    pub(super) async fn open(&self) -> Result<TcpStream, CallError> {
        let peers = self.look_up().await?;
        Ok(self.connect(&peers).await?.0)
    }

    /// Returns the error of a connection that failed.
    pub(super) fn failed(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> CallError {
        CallError::Failed { target: self.clone(), source: source.into() }
    }

    /// Returns the error of a response that cannot be read.
    pub(super) fn unreadable(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> CallError {
        CallError::Body { target: self.clone(), source: source.into() }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}://{}", self.scheme, self.authority())
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
