//! The protocols that the caller speaks to the producer, and the producer's ports for them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base::names;

/// The protocol of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// An HTTP/1.1 request
    #[default]
    Http,
    /// An HTTP/2 request
    Http2,
    /// A gRPC call with one response
    Grpc,
    /// A gRPC call with a stream of three responses
    GrpcStream,
    /// A TCP connection whose server speaks first
    Tcp,
    /// A WebSocket connection
    Websocket,
}

impl Protocol {
    /// Returns it as on the command line and in JSON: `grpc-stream`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Http2 => "http2",
            Self::Grpc => "grpc",
            Self::GrpcStream => "grpc-stream",
            Self::Tcp => "tcp",
            Self::Websocket => "websocket",
        }
    }

    /// Whether the producer's response has a status that a call can ask for.
    pub fn has_status(self) -> bool {
        !matches!(self, Self::Tcp | Self::Websocket)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// The number of responses in a stream of the producer.
pub const STREAM_RESPONSES: u32 = 3;

/// The producer's ports besides the one for HTTP/1.1 and WebSocket, which is part of its URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// For HTTP/2.
    pub http2: u16,
    /// For gRPC.
    pub grpc: u16,
    /// For TCP.
    pub tcp: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self { http2: names::HTTP2_PORT, grpc: names::GRPC_PORT, tcp: names::TCP_PORT }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_in_json_and_in_text() {
        use Protocol::*;
        for protocol in [Http, Http2, Grpc, GrpcStream, Tcp, Websocket] {
            assert_eq!(serde_json::to_value(protocol).unwrap(), protocol.as_str());
        }
    }
}
