//! Reads files over HTTPS.

use std::{io::Read, sync::Arc, time::Duration};

use ureq::{
    Agent,
    tls::{RootCerts, TlsConfig},
};

/// Reads files from the network; tests respond from memory.
pub(super) trait Fetch: Send + Sync {
    /// Opens the file for reading. Blocks.
    fn open(&self, url: &str) -> Result<Body, FetchError>;
}

/// A file that is being read.
pub(super) struct Body {
    /// Its size in bytes, if the server reported it.
    pub(super) length: Option<u64>,
    pub(super) reader: Box<dyn Read + Send>,
}

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// The server responded, but not with the file.
    #[error("the server responded with status {0}")]
    Status(u16),
    /// There was no response.
    #[error("{0}")]
    NoAnswer(String),
}

/// HTTPS, verified against the certificates that this system trusts, through the proxy in the environment
/// (`HTTPS_PROXY`, `NO_PROXY`).
pub(super) struct Https;

impl Fetch for Https {
    fn open(&self, url: &str) -> Result<Body, FetchError> {
        let response = agent().get(url).call().map_err(|error| match error {
            ureq::Error::StatusCode(status) => FetchError::Status(status),
            error => FetchError::NoAnswer(error.to_string()),
        })?;
        let body = response.into_body();
        Ok(Body { length: body.content_length(), reader: Box::new(body.into_reader()) })
    }
}

fn agent() -> Agent {
    // Explicit, so that it works with any default provider of the process, or without one.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::PlatformVerifier)
        .unversioned_rustls_crypto_provider(provider)
        .build();
    Agent::config_builder()
        .tls_config(tls)
        .https_only(true)
        .user_agent(concat!("kindmesh/", env!("CARGO_PKG_VERSION")))
        // The checksum is that of the published file.
        .accept_encoding("identity")
        .timeout_resolve(Some(Duration::from_secs(15)))
        .timeout_connect(Some(Duration::from_secs(15)))
        .timeout_recv_response(Some(Duration::from_secs(30)))
        .timeout_per_read(Some(Duration::from_secs(30)))
        .timeout_global(Some(Duration::from_secs(20 * 60)))
        .build()
        .new_agent()
}
