//! A small application of two services that is independent of kindmesh: `checkout` calls `orders` by the name of its
//! Service. `manifests/` defines the cluster of each, and `tests.rs` shows how to test them on two clusters.
//!
//!     shop orders      GET /orders     what is on order
//!     shop checkout    GET /checkout   calls orders, at the URL in ORDERS_URL

use std::time::Duration;

use anyhow::Context;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

type Answer = (StatusCode, Json<Value>);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let role = std::env::args().nth(1).unwrap_or_default();
    let application = match role.as_str() {
        "orders" => Router::new().route("/orders", get(orders)),
        "checkout" => Router::new().route("/checkout", get(checkout)),
        other => anyhow::bail!("{other:?} is neither orders nor checkout"),
    };
    let application = application.route("/ready", get(async || "yes"));
    let listener = tokio::net::TcpListener::bind("0.0.0.0:8080").await?;
    axum::serve(listener, application).with_graceful_shutdown(terminated()).await?;
    Ok(())
}

async fn orders() -> Answer {
    (StatusCode::OK, Json(json!({"onOrder": 3})))
}

async fn checkout() -> Answer {
    let url = std::env::var("ORDERS_URL").unwrap_or_else(|_| "http://orders:8080".into());
    match tokio::time::timeout(Duration::from_secs(10), ask(&format!("{url}/orders"))).await {
        Ok(Ok((status, orders))) if status.is_success() => (StatusCode::OK, Json(json!({"orders": orders}))),
        Ok(Ok((status, said))) => (
            StatusCode::BAD_GATEWAY,
            Json(json!({"error": "orders refused", "status": status.as_u16(), "said": said})),
        ),
        Ok(Err(error)) => (StatusCode::BAD_GATEWAY, Json(json!({"error": format!("{error:#}")}))),
        Err(_) => (StatusCode::GATEWAY_TIMEOUT, Json(json!({"error": "orders gave no answer"}))),
    }
}

async fn ask(url: &str) -> anyhow::Result<(StatusCode, Value)> {
    let client: Client<_, Empty<axum::body::Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let response = client.get(url.parse()?).await.with_context(|| format!("calling {url}"))?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, serde_json::from_slice(&body).unwrap_or_else(|_| json!(String::from_utf8_lossy(&body)))))
}

/// Exits on SIGTERM: process 1 of a container ignores every signal without a handler.
async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    if let Ok(mut terminated) = signal(SignalKind::terminate()) {
        terminated.recv().await;
    }
}
