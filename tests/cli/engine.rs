//! A fake engine on a socket of the test: it answers a few requests, and its image pulls never finish.

use std::path::Path;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// Serves until it is dropped.
pub struct Engine {
    pub host: String,
    _runtime: Runtime,
}

impl Engine {
    /// Starts an engine with the network of environment `shop`, and nothing else.
    pub fn serve(folder: &Path) -> Self {
        let socket = folder.join("docker.sock");
        let runtime = Runtime::new().unwrap();
        let listener = {
            let _inside = runtime.enter();
            tokio::net::UnixListener::bind(&socket).unwrap()
        };
        runtime.spawn(async move { axum::serve(listener, axum::Router::new().fallback(answer)).await });
        Self { host: format!("unix://{}", socket.display()), _runtime: runtime }
    }
}

async fn answer(request: Request) -> Response {
    let path = request.uri().path();
    // The path after the version of the API.
    let behind = path.strip_prefix("/v1.").and_then(|rest| rest.find('/').map(|at| &rest[at..]));
    match behind.unwrap_or(path) {
        "/version" | "/info" => axum::Json(facts()).into_response(),
        "/networks" => axum::Json(networks()).into_response(),
        "/containers/json" | "/images/json" => axum::Json(json!([])).into_response(),
        "/images/create" => {
            let line =
                r#"{"status":"Downloading","progressDetail":{"current":34000000,"total":128000000},"id":"a"}"#;
            let line =
                futures::stream::iter([Ok::<_, std::convert::Infallible>(Bytes::from(format!("{line}\r\n")))]);
            Body::from_stream(line.chain(futures::stream::pending())).into_response()
        }
        _ => (StatusCode::NOT_FOUND, axum::Json(json!({"message": format!("no {path}")}))).into_response(),
    }
}

fn facts() -> Value {
    let architecture = if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" };
    json!({"ApiVersion": "1.51", "Version": "28.5.2", "Os": "linux", "Arch": architecture, "ID": "stand-in",
        "OperatingSystem": "stand-in", "MemTotal": 16_000_000_000_u64, "NCPU": 4, "CgroupVersion": "2"})
}

fn networks() -> Value {
    json!([{"Name": "kindmesh-shop", "Id": "1", "Labels": {"kindmesh.environment": "shop"},
        "IPAM": {"Config": [{"Subnet": "172.30.0.0/16"}]}}])
}
