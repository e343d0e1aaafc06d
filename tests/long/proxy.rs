//! A TLS proxy before the API server of a cluster, with a name and a certificate authority of its own. It can change what the API server
//! answers, as a cluster does that cannot be made here.

#![expect(clippy::unwrap_used, reason = "clippy does not recognize the helpers of tests")]

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A text in the answers, and what replaces it. Both have the same length, so that the lengths in the answers stay right.
type Change = Arc<Mutex<Option<(String, String)>>>;

/// The running proxy. It ends when it is dropped.
pub struct Proxy {
    pub url: String,
    /// Its certificate authority, PEM.
    pub ca: String,
    change: Change,
    _runtime: Runtime,
}

impl Proxy {
    /// Starts it at an address of this host, before the API server at `host` and `port`, whose certificate authority is `ca`, PEM.
    pub fn start(address: IpAddr, host: &str, port: u16, ca: &[u8]) -> Self {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind((address, 0))).unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let (server, own_ca) = server(address);
        let (acceptor, connector) = (TlsAcceptor::from(Arc::new(server)), connector(ca));
        let change = Change::default();
        let (changes, to) = (change.clone(), (host.to_owned(), port));
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (acceptor, connector, to) = (acceptor.clone(), connector.clone(), to.clone());
                let change = changes.lock().unwrap().clone();
                tokio::spawn(async move {
                    let (from, into) = tokio::io::split(acceptor.accept(client).await?);
                    let server = TcpStream::connect((to.0.as_str(), to.1)).await?;
                    let name = ServerName::try_from(to.0).unwrap();
                    let (answers, requests) = tokio::io::split(connector.connect(name, server).await?);
                    tokio::try_join!(copy(from, requests, None), copy(answers, into, change)).map(drop)
                });
            }
        });
        Self { url, ca: own_ca, change, _runtime: runtime }
    }

    /// Replaces a text in the answers to new connections.
    pub fn replace(&self, text: &str, by: &str) {
        assert_eq!(text.len(), by.len());
        *self.change.lock().unwrap() = Some((text.into(), by.into()));
    }
}

/// Returns the configuration with a certificate for an address, and its certificate authority, PEM.
fn server(address: IpAddr) -> (ServerConfig, String) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let signed = CertificateParams::new([address.to_string()]).unwrap().signed_by(&key, &authority).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    let config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(vec![signed.der().clone()], key).unwrap();
    (config, authority.pem())
}

fn connector(ca: &[u8]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca) {
        roots.add(certificate.unwrap()).unwrap();
    }
    TlsConnector::from(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
}

/// Copies a stream to its end, and replaces a text in it.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    change: Option<(String, String)>,
) -> std::io::Result<()> {
    let mut pending = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut buffer).await?;
        pending.extend_from_slice(&buffer[..read]);
        // The beginning of the text may end this part; the rest of it follows.
        let mut held = 0;
        if let Some((text, by)) = &change {
            let (text, by) = (text.as_bytes(), by.as_bytes());
            while let Some(at) = pending.windows(text.len()).position(|window| window == text) {
                pending[at..at + text.len()].copy_from_slice(by);
            }
            held = (1..text.len()).rev().find(|length| pending.ends_with(&text[..*length])).unwrap_or_default();
        }
        let held = if read == 0 { 0 } else { held };
        to.write_all(&pending[..pending.len() - held]).await?;
        to.flush().await?;
        pending.drain(..pending.len() - held);
        if read == 0 {
            return to.shutdown().await;
        }
    }
}
