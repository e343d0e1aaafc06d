//! The probe: a caller and a producer in one, which also sends arbitrary requests on demand and returns the address
//! of its client. Checks run it in their own namespaces, never next to a user's objects.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use http_body_util::Full;
use serde_json::Value;
use tokio::time::Instant;

use super::clients::Clients;
use super::connection::{Answer, Connections};
use super::outcome::Outcome;
use super::producer::Producer;
use super::target::Target;
use super::{Options, caller, load, routes};
use crate::base::error::brief;
use crate::base::names::PORT;
use crate::sample::{ApiServer, Called, Calls, Ports, Probe, Probed, ProducerUrl, ProducerUrlError};

/// The maximum number of distinct hosts; each check uses one.
const MAX_HOSTS: usize = 64;

#[derive(Clone, Default)]
struct Counts(Arc<Mutex<BTreeMap<String, u64>>>);

pub(super) fn router(options: Options, producer: Arc<Producer>) -> Router {
    let counts = Counts::default();
    let producer = routes::of_producer(producer).layer(from_fn_with_state(counts.clone(), count_by_host));
    caller::router(options)
        .merge(producer)
        .route("/probe/request", post(request))
        .route("/probe/calls", post(calls))
        .route("/probe/api-server", post(api_server))
        .route("/probe/peer", get(peer))
        .route("/probe/counts", get(counted).with_state(counts))
        .merge(load::router())
}

/// Returns the client's address.
async fn peer(ConnectInfo(address): ConnectInfo<SocketAddr>) -> Json<Value> {
    Json(serde_json::json!({"address": address.ip()}))
}

/// Returns the number of requests received as a producer, by host: Services that share pods are counted separately.
async fn counted(State(counts): State<Counts>) -> Json<BTreeMap<String, u64>> {
    Json(counts.0.lock().unwrap_or_else(PoisonError::into_inner).clone())
}

async fn count_by_host(State(counts): State<Counts>, request: Request, next: Next) -> Response {
    if let Some(host) = request.headers().get(HOST).and_then(|host| host.to_str().ok()) {
        let mut counts = counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() < MAX_HOSTS || counts.contains_key(host) {
            *counts.entry(host.to_owned()).or_default() += 1;
        }
    }
    next.run(request).await
}

async fn request(Json(probe): Json<Probe>) -> Json<Probed> {
    let started = Instant::now();
    let within = Duration::from_millis(probe.timeout_millis);
    let result = match tokio::time::timeout(within, send(&probe)).await {
        Ok(result) => result,
        Err(_) => Err(format!("no response within {} ms", probe.timeout_millis)),
    };
    let millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Json(match result {
        Ok(answer) => Probed {
            status: Some(answer.status.as_u16()),
            body: String::from_utf8_lossy(&answer.body).into_owned(),
            error: None,
            millis,
        },
        Err(error) => Probed { status: None, body: String::new(), error: Some(error), millis },
    })
}

/// Asks an API server for its version. Any answer counts: it may require credentials.
async fn api_server(Json(asked): Json<ApiServer>) -> Json<Probed> {
    let started = Instant::now();
    let within = Duration::from_millis(asked.timeout_millis);
    let result = match tokio::time::timeout(within, answer_of(&asked)).await {
        Ok(result) => result.map_err(brief),
        Err(_) => Err(format!("no response within {} ms", asked.timeout_millis)),
    };
    let millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Json(match result {
        Ok(status) => Probed { status: Some(status), body: String::new(), error: None, millis },
        Err(error) => Probed { status: None, body: String::new(), error: Some(error), millis },
    })
}

async fn answer_of(asked: &ApiServer) -> anyhow::Result<u16> {
    let mut config = kube::Config::new(asked.url.parse()?);
    let roots = x509_parser::pem::Pem::iter_from_buffer(asked.ca.as_bytes());
    config.root_cert = Some(roots.map(|pem| Ok(pem?.contents)).collect::<anyhow::Result<_>>()?);
    let request = axum::http::Request::get("/version").body(kube::client::Body::empty())?;
    Ok(kube::Client::try_from(config)?.send(request).await?.status().as_u16())
}

async fn send(probe: &Probe) -> Result<Answer, String> {
    let url: ProducerUrl = probe.url.parse().map_err(|error: ProducerUrlError| error.to_string())?;
    let (method, body) = match &probe.body {
        Some(body) => (Method::POST, body.to_string()),
        None => (Method::GET, String::new()),
    };
    let mut request = axum::http::Request::builder()
        .method(method)
        .uri(&probe.path)
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(body.into()))
        .map_err(|error| error.to_string())?;
    for (name, value) in &probe.headers {
        let name: HeaderName = name.parse().map_err(|_| format!("invalid header name {name}"))?;
        let value: HeaderValue = value.parse().map_err(|_| format!("invalid header value {value}"))?;
        request.headers_mut().insert(name, value);
    }
    let target = Target::new("http", url.host(), url.port());
    Connections::new(target).send(request, true).await.map_err(|error| error.to_string())
}

/// Sends calls one after another.
async fn calls(Json(calls): Json<Calls>) -> Json<Vec<Called>> {
    let clients = Clients::new(&ProducerUrl::new(calls.host, PORT), Ports::default());
    let within = Duration::from_millis(calls.timeout_millis);
    let mut results = Vec::new();
    for _ in 0..calls.count {
        let called = tokio::time::timeout(within, clients.send(HeaderMap::new(), &calls.message)).await;
        let outcome = match called {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => Outcome::failed(error.to_string()),
            Err(_) => Outcome::failed(format!("no response within {} ms", calls.timeout_millis)),
        };
        let Outcome { status, answer, reason, responses } = outcome;
        results.push(Called { status_code: status.as_u16(), answer, reason, responses });
    }
    Json(results)
}
