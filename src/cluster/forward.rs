//! Forwards a local port to the caller until interrupted. Unlike `kubectl port-forward`, it survives the replacement of
//! the pod.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::{Client, ResourceExt};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};

use crate::base::error::Error;
use crate::base::event::Events;
use crate::base::names;
use crate::cluster::workloads;

/// The port that is tried first: that of the sample services and of the examples for `kubectl port-forward`.
const USUAL_PORT: u16 = names::PORT;

/// The timeout for finding a pod and connecting to it.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a pod may keep responding to a client that has stopped sending: slightly longer than the caller's longest
/// response. A closed connection cannot be distinguished from a half-closed one, so it is also kept that long.
const HALF_CLOSE_TIMEOUT: Duration = Duration::from_secs(35);

/// A stream to a pod. Dropping it closes both directions.
pub struct Remote {
    /// The data stream.
    pub stream: DuplexStream,
    /// The error if the API server reports later that the pod cannot be reached.
    pub refusal: BoxFuture<'static, Option<String>>,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Remote { .. }")
    }
}

/// Opens a stream to a ready caller pod of a cluster.
///
/// # Errors
/// If there is none or it cannot be reached.
pub async fn to_caller(client: &Client, namespace: &str) -> anyhow::Result<Remote> {
    let open = async {
        let pod = workloads::caller_pod(client, namespace).await?.name_any();
        let what = || format!("connecting to pod {pod}");
        let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let mut forward = api.portforward(&pod, &[names::PORT]).await.with_context(what)?;
        let stream = forward.take_stream(names::PORT).with_context(what)?;
        let refusal = forward.take_error(names::PORT).with_context(what)?.boxed();
        Ok(Remote { stream, refusal })
    };
    let seconds = OPEN_TIMEOUT.as_secs();
    let late = |_| Error::environment(format!("the API server did not respond within {seconds} s"));
    tokio::time::timeout(OPEN_TIMEOUT, open).await.map_err(late)?
}

/// A listener on the host's loopback address.
#[derive(Debug)]
pub struct Forward {
    listener: TcpListener,
    address: SocketAddr,
}

impl Forward {
    /// Listens on a port, where 0 is any free port. Without a port, listens on 8080 if that is free, else on any free port.
    ///
    /// # Errors
    /// A usage error if it cannot listen on the port.
    pub async fn bind(port: Option<u16>) -> anyhow::Result<Self> {
        let listener = match port {
            Some(port) => listen(port).await.map_err(|error| {
                Error::usage(format!("cannot listen on port {port}: {error}"))
                    .hint("specify another --port, or omit it to use a free port")
            })?,
            None => match listen(USUAL_PORT).await {
                Ok(listener) => listener,
                Err(_) => listen(0).await.context("listening on a free port")?,
            },
        };
        let address = listener.local_addr().context("listening on a free port")?;
        Ok(Self { listener, address })
    }

    /// Returns its URL. It contains an address, since a name could resolve to another program's port on `::1`.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Forwards every connection over a separate stream. A failed connection is reported as a note and does not end the
    /// forward: that runs until it is dropped.
    ///
    /// # Errors
    /// If it can no longer accept connections.
    pub async fn run(self, events: &Events, open: impl AsyncFn() -> anyhow::Result<Remote>) -> anyhow::Result<()> {
        let mut connections = FuturesUnordered::new();
        // A browser retries many times: report the same reason once.
        let mut said = None;
        loop {
            let ended = tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((local, _)) => {
                        connections.push(carry(local, &open));
                        continue;
                    }
                    // Usually out of file descriptors: the end of a connection frees some.
                    Err(error) => match connections.next().await {
                        Some(ended) => ended,
                        None => return Err(error).context(format!("accepting connections on {}", self.address)),
                    },
                },
                Some(ended) = connections.next() => ended,
            };
            let failure = ended.err().map(|error| format!("a connection to the caller failed: {error:#}"));
            if let Some(failure) = failure.as_ref().filter(|failure| said.as_ref() != Some(*failure)) {
                events.note(failure.clone());
            }
            said = failure;
        }
    }
}

async fn listen(port: u16) -> std::io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await
}

/// Copies in both directions until the pod closes the stream.
async fn carry(local: TcpStream, open: &impl AsyncFn() -> anyhow::Result<Remote>) -> anyhow::Result<()> {
    // Nothing was sent yet, so a retry is safe. A busy API server may refuse one stream and accept the next.
    let remote = match open().await {
        Ok(remote) => remote,
        Err(_) => open().await?,
    };
    let Remote { stream, refusal } = remote;
    let (mut from_local, mut to_local) = local.into_split();
    let (mut from_pod, mut to_pod) = tokio::io::split(stream);
    let mut answering = std::pin::pin!(async {
        let _ = tokio::io::copy(&mut from_pod, &mut to_local).await;
        let _ = to_local.shutdown().await;
    });
    let asked = tokio::select! {
        () = &mut answering => false,
        copied = tokio::io::copy(&mut from_local, &mut to_pod) => copied.is_ok(),
    };
    // The end of the client's data is not passed on: a port-forward over a WebSocket closes both directions and would lose
    // the response. Closed connections are normal: only a refusal is reported.
    if asked {
        let _ = tokio::time::timeout(HALF_CLOSE_TIMEOUT, answering).await;
    }
    match refusal.now_or_never().flatten() {
        Some(refusal) => Err(Error::environment(refusal.trim().to_owned()).into()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::io::{AsyncReadExt, duplex};
    use tokio::sync::mpsc;

    use super::*;
    use crate::base::event::Event;

    /// Runs a test against a forward whose pods are the streams of a channel. Opening a stream fails if none is left.
    async fn forwarding(
        events: Events,
        pods: mpsc::UnboundedReceiver<Remote>,
        test: impl AsyncFnOnce(SocketAddr),
    ) {
        let forward = Forward::bind(Some(0)).await.unwrap();
        let address = forward.address;
        assert!(address.ip().is_loopback());
        assert_eq!(forward.url(), format!("http://{address}/"));
        let pods = Mutex::new(pods);
        let open = async || {
            let pod = pods.lock().unwrap().try_recv();
            pod.map_err(|_| Error::environment("no caller is ready").into())
        };
        tokio::select! {
            ended = forward.run(&events, open) => panic!("{ended:?}"),
            () = test(address) => {}
        }
    }

    fn pod(refusal: Option<&str>) -> (Remote, DuplexStream) {
        let (stream, pod) = duplex(64);
        let refusal = refusal.map(str::to_owned);
        (Remote { stream, refusal: async { refusal }.boxed() }, pod)
    }

    #[tokio::test]
    async fn response_reaches_a_half_closed_client() {
        let (pods, receiver) = mpsc::unbounded_channel();
        let (remote, mut pod) = pod(None);
        pods.send(remote).unwrap();
        forwarding(Events::silent(), receiver, async |address| {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(b"question").await.unwrap();
            client.shutdown().await.unwrap();
            let mut question = [0; 8];
            pod.read_exact(&mut question).await.unwrap();
            // Longer than the buffer of the stream.
            let answer = "answer ".repeat(100);
            let mut seen = String::new();
            let (written, read) = tokio::join!(
                async {
                    pod.write_all(answer.as_bytes()).await.unwrap();
                    drop(pod);
                },
                client.read_to_string(&mut seen)
            );
            assert_eq!((written, read.unwrap()), ((), answer.len()));
            assert_eq!((&question, seen), (b"question", answer));
        })
        .await;
    }

    #[tokio::test]
    async fn failed_connection_is_reported_and_the_next_one_works() {
        let (pods, receiver) = mpsc::unbounded_channel();
        let (events, mut seen) = Events::channel();
        forwarding(events, receiver, async |address| {
            let note = |why: &str| Event::Note { message: format!("a connection to the caller failed: {why}") };
            let ends = async || {
                let mut client = TcpStream::connect(address).await.unwrap();
                assert_eq!(client.read(&mut [0]).await.unwrap_or(0), 0);
            };
            // The same failure is reported once.
            ends().await;
            ends().await;
            let (remote, gone) = pod(Some("connection refused\n"));
            pods.send(remote).unwrap();
            drop(gone);
            ends().await;
            assert_eq!(seen.recv().await, Some(note("no caller is ready")));
            assert_eq!(seen.recv().await, Some(note("connection refused")));
            let (remote, mut pod) = pod(None);
            pods.send(remote).unwrap();
            let mut client = TcpStream::connect(address).await.unwrap();
            pod.write_all(b"x").await.unwrap();
            assert_eq!(client.read_u8().await.unwrap(), b'x');
            assert!(seen.recv().now_or_never().is_none());
        })
        .await;
    }

    #[tokio::test]
    async fn port_in_use_is_an_error_only_if_requested() {
        let taken = listen(0).await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = Forward::bind(Some(port)).await.unwrap_err();
        assert_eq!(crate::base::error::exit_code(&error), 2, "{error:#}");
        // Whether or not the first forward got port 8080.
        let first = Forward::bind(None).await.unwrap();
        let second = Forward::bind(None).await.unwrap();
        assert_ne!(first.url(), second.url());
    }
}
