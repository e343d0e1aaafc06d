//! What a sample service is started with.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::sample::{Metadata, ProducerUrl};

/// The port both sample services listen on, and the one of the producer's Service.
const PORT: u16 = 8080;

/// What a sample service is started with; `Options::default()` is what the manifests rely on.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen. Port 0 picks a free one, told by [`Server::address`](super::Server::address).
    pub listen: SocketAddr,
    /// Where the caller finds the producer. The producer itself does not look at it.
    pub producer: ProducerUrl,
    /// Where this process runs, for its answers.
    pub metadata: Metadata,
    /// How long the caller waits for a whole call. Longer than any timeout that a mesh in between is likely
    /// to be given, so that the mesh's own answer is the one seen.
    pub call_timeout: Duration,
    /// How long requests in flight may take to finish after the signal to stop.
    pub drain_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)),
            producer: ProducerUrl::new("sample-producer", PORT),
            metadata: Metadata::default(),
            call_timeout: Duration::from_secs(30),
            // One second short of the ten within which the process is to be gone.
            drain_timeout: Duration::from_secs(9),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_producer_is_found_by_the_name_of_its_service() {
        assert_eq!(Options::default().producer.to_string(), "http://sample-producer:8080");
    }
}
