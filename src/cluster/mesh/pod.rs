//! HTTP to a pod over a port-forward: works wherever the API server is reachable.

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::Api;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;

use crate::base::error::Error;

/// Opens a stream to a port of a pod. It ends when the returned tasks are dropped.
///
/// # Errors
/// If the pod cannot be reached.
pub async fn forward(
    client: &Client,
    namespace: &str,
    pod: &str,
    port: u16,
) -> anyhow::Result<(impl AsyncRead + AsyncWrite + Unpin + Send + 'static, JoinSet<()>)> {
    let what = || format!("connecting to pod {pod}");
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let mut forward = api.portforward(pod, &[port]).await.with_context(what)?;
    let stream = forward.take_stream(port).with_context(what)?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let _ = forward.join().await;
    });
    Ok((stream, tasks))
}

/// A connection to a pod, for one request at a time.
pub struct PodConnection {
    sender: SendRequest<Full<Bytes>>,
    pod: String,
    // The port-forward ends when this is dropped.
    _tasks: JoinSet<()>,
}

impl std::fmt::Debug for PodConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PodConnection({})", self.pod)
    }
}

impl PodConnection {
    /// Connects to a port of a pod.
    ///
    /// # Errors
    /// If it cannot be reached.
    pub async fn open(client: &Client, namespace: &str, pod: &str, port: u16) -> anyhow::Result<Self> {
        let (stream, mut tasks) = forward(client, namespace, pod, port).await?;
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.with_context(|| format!("connecting to pod {pod}"))?;
        tasks.spawn(async move {
            let _ = connection.await;
        });
        Ok(Self { sender, pod: pod.to_owned(), _tasks: tasks })
    }

    /// Posts JSON and reads JSON.
    ///
    /// # Errors
    /// If there is no response, its status is not a success, or its body is not the expected JSON.
    pub async fn post<T: DeserializeOwned>(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        let mut request = hyper::Request::post(path).header(CONTENT_TYPE, "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request, serde_json::to_vec(body)?).await
    }

    /// Posts JSON, and expects a success without a body.
    ///
    /// # Errors
    /// If there is no response, or its status is not a success.
    #[cfg(feature = "cli")]
    pub async fn start(&mut self, path: &str, body: &impl Serialize) -> anyhow::Result<()> {
        let request = hyper::Request::post(path).header(CONTENT_TYPE, "application/json");
        self.receive(request, serde_json::to_vec(body)?).await.map(drop)
    }

    /// Gets JSON.
    ///
    /// # Errors
    /// See [`PodConnection::post`].
    pub async fn get<T: DeserializeOwned>(&mut self, path: &str) -> anyhow::Result<T> {
        self.send(hyper::Request::get(path), Vec::new()).await
    }

    async fn send<T: DeserializeOwned>(
        &mut self,
        request: http::request::Builder,
        body: Vec<u8>,
    ) -> anyhow::Result<T> {
        let body = self.receive(request, body).await?;
        serde_json::from_slice(&body).with_context(|| format!("reading the response of pod {}", self.pod))
    }

    async fn receive(&mut self, request: http::request::Builder, body: Vec<u8>) -> anyhow::Result<Bytes> {
        let what = || format!("sending a request to pod {}", self.pod);
        let request = request.header(HOST, "localhost").body(Full::new(Bytes::from(body)))?;
        self.sender.ready().await.with_context(what)?;
        let response = self.sender.send_request(request).await.with_context(what)?;
        let status = response.status();
        let body = response.into_body().collect().await.with_context(what)?.to_bytes();
        if !status.is_success() {
            return Err(Error::environment(format!("pod {} responded with {status}", self.pod))
                .evidence(String::from_utf8_lossy(&body))
                .into());
        }
        Ok(body)
    }
}
