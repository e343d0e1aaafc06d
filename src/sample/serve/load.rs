//! A steady load: every call is sent at its time, however long the ones before it take, and its duration counts from that time.
//! So a producer that does not respond cannot slow down the load, which would hide how many calls it loses.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use http_body_util::Full;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::connection::{Answer, Connections};
use super::message::Refused;
use super::outcome::Outcome;
use super::target::Target;
use crate::sample::{Load, LoadProgress, Sent};

/// The largest rate, and number of calls: a probe keeps all of them in memory.
const MAX_QPS: u32 = 1000;
const MAX_COUNT: u64 = 200_000;
/// The maximum length of a reason, in characters.
const MAX_REASON: usize = 200;

/// The load of this probe: at most one runs at a time.
#[derive(Clone, Default)]
struct Current(Arc<Mutex<Option<Running>>>);

struct Running {
    started: Instant,
    progress: LoadProgress,
}

pub(super) fn router() -> Router {
    Router::new()
        .route("/probe/load", post(start))
        .route("/probe/load/{known}", get(progress))
        .with_state(Current::default())
}

impl Current {
    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, change: impl FnOnce(&mut LoadProgress)) {
        if let Some(running) = self.running().as_mut() {
            change(&mut running.progress);
        }
    }
}

/// Starts a load.
async fn start(State(current): State<Current>, Json(load): Json<Load>) -> Result<StatusCode, Refused> {
    if !(1..=MAX_QPS).contains(&load.qps) || !(1..=MAX_COUNT).contains(&load.count) {
        let reason = format!("qps must be 1 to {MAX_QPS}, and count 1 to {MAX_COUNT}");
        return Err(Refused { status: StatusCode::BAD_REQUEST, reason });
    }
    let started = Instant::now();
    {
        let mut running = current.running();
        if running.as_ref().is_some_and(|running| !running.progress.over) {
            return Err(Refused { status: StatusCode::CONFLICT, reason: "a load is already running".into() });
        }
        *running = Some(Running { started, progress: LoadProgress::default() });
    }
    tokio::spawn(send_all(current, load, started));
    Ok(StatusCode::NO_CONTENT)
}

/// Returns what has happened since the first `known` calls that ended.
async fn progress(
    State(current): State<Current>,
    Path(known): Path<usize>,
) -> Result<Json<LoadProgress>, Refused> {
    let running = current.running();
    let Some(Running { started, progress }) = running.as_ref() else {
        return Err(Refused { status: StatusCode::NOT_FOUND, reason: "no load was started".into() });
    };
    let ended = progress.ended.get(known..).unwrap_or_default().to_vec();
    let millis = started.elapsed().as_secs_f64() * 1000.0;
    Ok(Json(LoadProgress { sent: progress.sent, millis, over: progress.over, ended }))
}

async fn send_all(current: Current, load: Load, started: Instant) {
    let connections = Arc::new(Connections::new(Target::new("http", &load.host, load.port)));
    let within = Duration::from_millis(load.timeout_millis);
    let path: Option<Arc<str>> = load.path.as_deref().map(Arc::from);
    let mut calls = JoinSet::new();
    for number in 0..load.count {
        let offset = Duration::from_nanos(number * 1_000_000_000 / u64::from(load.qps));
        let due = started + offset;
        sleep_until(due).await;
        current.update(|progress| progress.sent += 1);
        let (current, connections, path) = (current.clone(), connections.clone(), path.clone());
        calls.spawn(async move {
            let result = match timeout_at(due + within, send(&connections, path.as_deref())).await {
                Ok(result) => result,
                Err(_) => Err(format!("no response within {} ms", within.as_millis())),
            };
            let millis = due.elapsed().as_secs_f64() * 1000.0;
            let (status, reason) = match result {
                Ok((200, _)) => (Some(200), None),
                Ok((status, reason)) => (Some(status), reason),
                Err(reason) => (None, Some(reason)),
            };
            let reason = reason.map(|reason| reason.chars().take(MAX_REASON).collect());
            let sent = Sent { at_millis: offset.as_secs_f64() * 1000.0, millis, status, reason };
            current.update(|progress| progress.ended.push(sent));
        });
        // Otherwise the results of all of them would be kept until the end.
        while calls.try_join_next().is_some() {}
    }
    while calls.join_next().await.is_some() {}
    current.update(|progress| progress.over = true);
}

/// Sends one call, and returns its status, with a reason if that is not 200.
async fn send(connections: &Connections, path: Option<&str>) -> Result<(u16, Option<String>), String> {
    let request = match path {
        Some(path) => axum::http::Request::get(path).body(Full::default()),
        None => axum::http::Request::post("/producer/messages")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from_static(b"{}"))),
    };
    let request = request.map_err(|error| error.to_string())?;
    let answer: Answer = connections.send(request, false).await.map_err(|error| error.to_string())?;
    let status = answer.status.as_u16();
    Ok((status, if status == 200 { None } else { Outcome::of_answer(&answer).reason }))
}
