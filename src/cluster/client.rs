//! Clients for the clusters' API servers. Every request has a timeout; only streams have none.

use std::path::Path;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream;
use http::{Request, Response, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use kube::Client;
use kube::client::{Body, ClientBuilder};
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::time::{Instant, timeout_at};
use tower::util::MapRequestLayer;
use tower::{BoxError, Layer, Service};

use crate::base::{blocking, counts};
use crate::host::kubeconfig::contexts::Users;

/// The timeout of a request, including reading the response. kind's API servers are on this host, and the slowest request,
/// merging Istio's CRDs, takes seconds.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(20);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a program of the user may take to print credentials. It may open a browser and wait for a login.
const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(120);

/// Returns a client for the only cluster of a kubeconfig file. Each request ends within 20 s. Streams may take longer: a
/// followed log, a watch, and an upgraded connection (exec, port-forward) once it is established.
///
/// # Errors
/// If the file cannot be read or is invalid.
pub async fn connect(kubeconfig: &Path) -> anyhow::Result<Client> {
    let what = || format!("using {}", kubeconfig.display());
    let file = Kubeconfig::read_from(kubeconfig).with_context(what)?;
    let mut config =
        kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.with_context(what)?;
    // A proxy from the process environment never leads to a node on this host.
    config.proxy_url = None;
    built(config).with_context(what)
}

/// A client for the API server of a context.
pub struct OfContext {
    /// The client. Its requests are bounded like those of [`connect`].
    pub client: Client,
    /// The URL of the API server.
    pub server: String,
    /// The certificate authorities that the context trusts for it, PEM; empty if those of this host.
    pub ca: String,
}

/// Returns a client for a context of the user's kubeconfigs, with a proxy and credentials as kubectl uses them. May run a program
/// of the user that prints credentials.
///
/// # Errors
/// If the context is incomplete, or its credentials cannot be read.
pub async fn of_context(users: &Users, context: &str) -> anyhow::Result<OfContext> {
    let what = || format!("using context {context}");
    let options = KubeConfigOptions { context: Some(context.to_owned()), ..KubeConfigOptions::default() };
    let merged = users.merged().clone();
    let config = kube::Config::from_custom_kubeconfig(merged, &options).await.with_context(what)?;
    let server = config.cluster_url.to_string();
    let certificates = config.root_cert.iter().flatten();
    let ca = certificates.map(|der| pem::encode(&pem::Pem::new("CERTIFICATE", der.as_slice()))).collect();
    // A program for credentials runs here, and may wait for its user.
    let built = tokio::time::timeout(CREDENTIALS_TIMEOUT, blocking::elsewhere(move || built(config))).await;
    let late = |_| anyhow::anyhow!("no credentials within {} s", CREDENTIALS_TIMEOUT.as_secs());
    let client = built.map_err(late).flatten().with_context(what)?;
    Ok(OfContext { client, server, ca })
}

fn built(mut config: kube::Config) -> anyhow::Result<Client> {
    // A read timeout would end idle streams.
    config.read_timeout = None;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    let counted = MapRequestLayer::new(|request: Request<Body>| {
        counts::kube_request();
        request
    });
    let builder = ClientBuilder::try_from(config)?;
    Ok(builder.with_layer(&counted).with_layer(&Bound(RESPONSE_TIMEOUT)).build())
}

/// The error of a request that timed out.
#[derive(Debug, thiserror::Error)]
#[error("no response within {} s", .0.as_secs())]
struct Late(Duration);

/// The part of a request that the timeout covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bounded {
    /// The whole request.
    Whole,
    /// The head of the response: the body is a stream.
    Head,
    /// Nothing: a followed log may send the head only with its first line.
    Nothing,
}

impl Bounded {
    fn of<T>(request: &Request<T>) -> Self {
        let has =
            |flag: &str| request.uri().query().is_some_and(|query| query.split('&').any(|pair| pair == flag));
        if has("follow=true") {
            Bounded::Nothing
        } else if has("watch=true") || request.headers().contains_key(header::UPGRADE) {
            Bounded::Head
        } else {
            Bounded::Whole
        }
    }
}

/// A layer that adds a timeout to every request.
struct Bound(Duration);

impl<S> Layer<S> for Bound {
    type Service = BoundService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        BoundService { inner, within: self.0 }
    }
}

struct BoundService<S> {
    inner: S,
    within: Duration,
}

impl<S, T, B> Service<Request<T>> for BoundService<S>
where
    S: Service<Request<T>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
    B: hyper::body::Body<Data = Bytes, Error = BoxError> + Send + Unpin + 'static,
{
    type Response = Response<UnsyncBoxBody<Bytes, BoxError>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut TaskContext<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<T>) -> Self::Future {
        let (bounded, within) = (Bounded::of(&request), self.within);
        let answer = self.inner.call(request);
        Box::pin(async move {
            if bounded == Bounded::Nothing {
                return Ok(answer.await?.map(BodyExt::boxed_unsync));
            }
            let deadline = Instant::now() + within;
            let answer = timeout_at(deadline, answer).await.map_err(|_| Late(within))??;
            Ok(match bounded {
                Bounded::Whole => answer.map(|body| in_time(body, deadline, within)),
                Bounded::Head | Bounded::Nothing => answer.map(BodyExt::boxed_unsync),
            })
        })
    }
}

/// Returns a body that must be complete by a deadline.
fn in_time<B>(body: B, deadline: Instant, within: Duration) -> UnsyncBoxBody<Bytes, BoxError>
where
    B: hyper::body::Body<Data = Bytes, Error = BoxError> + Send + Unpin + 'static,
{
    let frames = stream::unfold(Some(body), move |body| async move {
        let mut body = body?;
        match timeout_at(deadline, body.frame()).await {
            Ok(frame) => Some((frame?, Some(body))),
            Err(_) => Some((Err(Late(within).into()), None)),
        }
    });
    StreamBody::new(frames).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::body::Frame;

    const TIMEOUT: Duration = Duration::from_millis(50);

    /// Sends a request to a server that sends the head at once, and the body after twice the timeout.
    async fn asked(request: Request<()>) -> Result<String, BoxError> {
        let slow = tower::service_fn(|_: Request<()>| async {
            let body = stream::once(Box::pin(async {
                tokio::time::sleep(TIMEOUT * 2).await;
                Ok::<_, BoxError>(Frame::data(Bytes::from("text")))
            }));
            Ok::<_, BoxError>(Response::new(StreamBody::new(body)))
        });
        let body = Bound(TIMEOUT).layer(slow).call(request).await?.into_body().collect().await?;
        Ok(String::from_utf8(body.to_bytes().to_vec())?)
    }

    fn get(uri: &str) -> Request<()> {
        Request::get(uri).body(()).unwrap()
    }

    #[tokio::test]
    async fn requests_have_a_timeout_and_streams_do_not() {
        let late = asked(get("/api/v1/pods?limit=1")).await.unwrap_err();
        assert!(late.is::<Late>(), "{late}");
        for stream in ["/api/v1/pods?limit=1&watch=true", "/api/v1/namespaces/a/pods/b/log?follow=true"] {
            assert_eq!(asked(get(stream)).await.unwrap(), "text", "{stream}");
        }
        let mut exec = get("/api/v1/namespaces/a/pods/b/exec");
        exec.headers_mut().insert(header::UPGRADE, header::HeaderValue::from_static("websocket"));
        assert_eq!(asked(exec).await.unwrap(), "text");
    }

    #[tokio::test]
    async fn requests_time_out_but_followed_logs_do_not() {
        let asked = async |request| {
            let never = tower::service_fn(|_: Request<()>| async {
                tokio::time::sleep(TIMEOUT * 2).await;
                Ok::<_, BoxError>(Response::new(http_body_util::Full::default().map_err(|never| match never {})))
            });
            Bound(TIMEOUT).layer(never).call(request).await.is_ok()
        };
        let mut exec = get("/api/v1/namespaces/a/pods/b/exec");
        exec.headers_mut().insert(header::UPGRADE, header::HeaderValue::from_static("websocket"));
        assert!(!asked(get("/version")).await && !asked(exec).await);
        assert!(asked(get("/api/v1/namespaces/a/pods/b/log?follow=true&tailLines=1")).await);
    }
}
