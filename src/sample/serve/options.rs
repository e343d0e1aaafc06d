//! The options of a sample service.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::base::names::PORT;
use crate::sample::{Metadata, Ports, ProducerUrl};

/// The options of a sample service; the manifests rely on `Options::default()`.
#[derive(Debug, Clone)]
pub struct Options {
    /// The address to listen on, for HTTP. Port 0 selects a free port, which [`Server::address`](super::Server::address)
    /// returns.
    pub listen: SocketAddr,
    /// The producer's other ports to listen on, on the same address. Port 0 selects a free port, too. The caller does not use
    /// them.
    pub listen_ports: Ports,
    /// The producer's URL, for the caller. The producer does not use it.
    pub producer: ProducerUrl,
    /// The producer's other ports, for the caller.
    pub producer_ports: Ports,
    /// Where this process runs, for its responses.
    pub metadata: Metadata,
    /// How long the caller waits for a whole call. Longer than typical timeouts of a mesh, so that the mesh's own
    /// response is visible.
    pub call_timeout: Duration,
    /// How long requests in flight may take to finish after a stop signal.
    pub drain_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)),
            listen_ports: Ports::default(),
            producer: ProducerUrl::new("sample-producer", PORT),
            producer_ports: Ports::default(),
            metadata: Metadata::default(),
            call_timeout: Duration::from_secs(30),
            // One second less than the ten seconds within which the process must exit.
            drain_timeout: Duration::from_secs(9),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caller_finds_the_producer_by_its_service_name() {
        assert_eq!(Options::default().producer.to_string(), "http://sample-producer:8080");
    }
}
