//! The dashboard and its API, over HTTP: only for this host, and for holders of the token.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::acting::LabRequest;
use super::session::Window;
use super::shown::{Failure, Steady, success};
use crate::base::error::{self, Error, Kind};
use crate::cluster::policies::Policy;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
const SHOW: &str = include_str!("show.js");

/// The dashboard loads everything from this server, and connects only to it.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The maximum number of calls for one click.
const MAX_CALLS: u32 = 100;
/// The maximum rate of steady calls, per second.
const MAX_RATE: u32 = 50;
/// The maximum delay of the producer, in milliseconds.
const MAX_DELAY: u64 = 60_000;

/// The state for checking and handling requests.
#[derive(Clone)]
pub(super) struct Guard {
    pub window: Window,
    pub token: String,
    pub address: SocketAddr,
}

pub(super) fn router(guard: Guard) -> Router {
    let api = Router::new()
        .route("/state", get(state))
        .route("/calls", get(calls))
        .route("/call", post(call))
        .route("/steady", post(steady))
        .route("/policy", post(policy))
        .route("/link", post(link))
        .route("/verify", post(verify))
        .route("/lab", post(lab))
        .route_layer(from_fn_with_state(guard.clone(), with_the_token));
    Router::new()
        .route("/", get(|| file("text/html; charset=utf-8", PAGE)))
        .route("/page.css", get(|| file("text/css; charset=utf-8", STYLE)))
        .route("/page.js", get(|| file("text/javascript; charset=utf-8", SCRIPT)))
        .route("/show.js", get(|| file("text/javascript; charset=utf-8", SHOW)))
        .nest("/api", api)
        .layer(from_fn_with_state(guard.clone(), from_this_machine))
        .with_state(guard)
}

async fn file(kind: &'static str, text: &'static str) -> impl IntoResponse {
    let headers = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, PAGE_POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
    ];
    (headers, text)
}

/// Rejects requests with another host name: DNS rebinding makes a foreign name resolve to this host.
async fn from_this_machine(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let port = guard.address.port();
    match host == format!("127.0.0.1:{port}") || host == format!("localhost:{port}") {
        true => next.run(request).await,
        false => refused(StatusCode::FORBIDDEN, "the dashboard is served on 127.0.0.1 only"),
    }
}

async fn with_the_token(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let given = token(request.headers(), request.uri());
    // Compares digests, so that the duration does not reveal how much of a guess is right.
    match given.is_some_and(|given| Sha256::digest(given) == Sha256::digest(&guard.token)) {
        true => next.run(request).await,
        false => refused(StatusCode::UNAUTHORIZED, "the token is missing or wrong: use the printed URL"),
    }
}

fn token<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Option<&'a str> {
    let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    header.and_then(|value| value.strip_prefix("Bearer ")).or_else(|| parameter(uri, "token"))
}

fn parameter<'a>(uri: &'a Uri, name: &str) -> Option<&'a str> {
    uri.query()?.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

fn refused(status: StatusCode, why: &str) -> Response {
    let failure = Failure { error: why.to_owned(), evidence: Vec::new(), hint: None };
    answer(status, json!(failure))
}

fn answer(status: StatusCode, document: Value) -> Response {
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
    (status, headers, document.to_string()).into_response()
}

/// Returns a response, or the error as on the command line.
fn respond(result: anyhow::Result<Value>) -> Response {
    match result {
        Ok(document) => answer(StatusCode::OK, document),
        Err(failed) => {
            let usage = error::find(&failed).is_some_and(|error| error.kind == Kind::Usage);
            let status = if usage { StatusCode::BAD_REQUEST } else { StatusCode::BAD_GATEWAY };
            answer(status, json!(Failure::from(&failed)))
        }
    }
}

fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|error| Error::usage(format!("invalid request: {error}")))
}

async fn state(State(guard): State<Guard>) -> Response {
    let state = guard.window.ask(|session| Box::pin(async move { serde_json::to_value(session.state()) })).await;
    respond(state.and_then(|state| Ok(state?)))
}

async fn calls(State(guard): State<Guard>, uri: Uri) -> Response {
    let after = parameter(&uri, "after").and_then(|after| after.parse().ok()).unwrap_or_default();
    let calls = guard
        .window
        .ask(move |session| Box::pin(async move { serde_json::to_value(session.log.borrow().after(after)) }));
    respond(calls.await.and_then(|calls| Ok(json!({"schemaVersion": 1, "calls": calls?}))))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CallRequest {
    #[serde(default)]
    delay: u64,
    #[serde(default = "success")]
    status: u16,
    #[serde(default)]
    payload: String,
    #[serde(default = "one")]
    count: u32,
}

fn one() -> u32 {
    1
}

fn bounded(delay: u64, status: u16) -> Result<(), Error> {
    if delay > MAX_DELAY {
        return Err(Error::usage(format!("delay must be at most {MAX_DELAY} ms")));
    }
    match (200..=599).contains(&status) {
        true => Ok(()),
        false => Err(Error::usage("status must be 200 to 599")),
    }
}

async fn call(State(guard): State<Guard>, body: Bytes) -> Response {
    let asked = read::<CallRequest>(&body).and_then(|asked| {
        bounded(asked.delay, asked.status)?;
        match (1..=MAX_CALLS).contains(&asked.count) {
            true => Ok(asked),
            false => Err(Error::usage(format!("count must be 1 to {MAX_CALLS}"))),
        }
    });
    let asked = match asked {
        Ok(asked) => asked,
        Err(error) => return respond(Err(error.into())),
    };
    let calls = guard.window.ask(move |session| {
        Box::pin(async move {
            let mut calls = Vec::new();
            for _ in 0..asked.count {
                calls.push(session.call(asked.delay, asked.status, asked.payload.clone()).await);
            }
            calls
        })
    });
    respond(calls.await.map(|calls| json!({"schemaVersion": 1, "calls": calls})))
}

async fn steady(State(guard): State<Guard>, body: Bytes) -> Response {
    // A rate of 0 stops them.
    let asked = read::<Steady>(&body).and_then(|asked| {
        bounded(asked.delay, asked.status)?;
        match asked.rate <= MAX_RATE {
            true => Ok(Some(asked).filter(|asked| asked.rate > 0)),
            false => Err(Error::usage(format!("rate must be 0 to {MAX_RATE} per second"))),
        }
    });
    match asked {
        Ok(asked) => {
            let set = guard.window.ask(move |session| {
                Box::pin(async move {
                    *session.steady.borrow_mut() = asked;
                    session.steady_changed.notify_one();
                })
            });
            respond(set.await.map(|()| json!({"schemaVersion": 1})))
        }
        Err(error) => respond(Err(error.into())),
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PolicyRequest {
    policy: String,
    on: bool,
}

async fn policy(State(guard): State<Guard>, body: Bytes) -> Response {
    let asked = read::<PolicyRequest>(&body).and_then(|asked| {
        let policy: Result<Policy, _> = clap::ValueEnum::from_str(&asked.policy, false);
        Ok((policy.map_err(|_| Error::usage(format!("no policy \"{}\"", asked.policy)))?, asked.on))
    });
    match asked {
        Ok((policy, on)) => {
            let done =
                guard.window.ask(move |session| Box::pin(async move { session.switch_policy(policy, on).await }));
            respond(done.await.and_then(|done| done).map(|()| json!({"schemaVersion": 1})))
        }
        Err(error) => respond(Err(error.into())),
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LinkRequest {
    cut: bool,
}

async fn link(State(guard): State<Guard>, body: Bytes) -> Response {
    match read::<LinkRequest>(&body) {
        Ok(LinkRequest { cut }) => {
            let done = guard.window.ask(move |session| Box::pin(async move { session.switch_link(cut).await }));
            respond(done.await.and_then(|done| done).map(|()| json!({"schemaVersion": 1})))
        }
        Err(error) => respond(Err(error.into())),
    }
}

async fn verify(State(guard): State<Guard>) -> Response {
    let done = guard.window.ask(|session| Box::pin(async move { session.begin_verification() })).await;
    respond(done.and_then(|done| Ok(done?)).map(|()| json!({"schemaVersion": 1})))
}

async fn lab(State(guard): State<Guard>, body: Bytes) -> Response {
    match read::<LabRequest>(&body) {
        Ok(asked) => {
            let done = guard.window.ask(move |session| Box::pin(async move { session.begin_lab(asked).await }));
            respond(done.await.and_then(|done| done).map(|()| json!({"schemaVersion": 1})))
        }
        Err(error) => respond(Err(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_accepted_in_header_or_url() {
        let mut headers = HeaderMap::new();
        let uri = |text: &'static str| Uri::from_static(text);
        assert_eq!(token(&headers, &uri("/api/state?after=1&token=abc")), Some("abc"));
        assert_eq!(token(&headers, &uri("/api/state?tokens=abc")), None);
        headers.insert(AUTHORIZATION, "Bearer xyz".parse().unwrap());
        assert_eq!(token(&headers, &uri("/api/state?token=abc")), Some("xyz"));
    }

    #[test]
    fn page_has_no_external_resources() {
        for text in [PAGE, STYLE, SCRIPT, SHOW] {
            let links = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!links.contains("http://") && !links.contains("https://"), "{links}");
        }
    }
}
