//! An engine's recorded responses, served on the test's own socket, and modified for the expected finding.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::runtime::Runtime;

/// An engine with the recorded responses of a real one: Docker 28.5.2 of the test lab, under another name.
pub struct Recorded {
    pub socket: PathBuf,
    asked: Asked,
    _runtime: Runtime,
}

/// Its responses, by path without the API's version.
type Answers = BTreeMap<String, (StatusCode, Value)>;
/// The requests that it received.
type Asked = Arc<Mutex<Vec<String>>>;

impl Recorded {
    /// Serves it on a socket in a directory. The changes are merged into its responses.
    pub fn serve(folder: &Path, changes: &[(&str, Value)]) -> Self {
        let mut answers = Answers::new();
        for (path, text) in [
            ("/info", include_str!("recorded/info.json")),
            ("/version", include_str!("recorded/version.json")),
            ("/networks", include_str!("recorded/networks.json")),
            ("/containers/json", "[]"),
            ("/images/json", "[]"),
        ] {
            answers.insert(path.into(), (StatusCode::OK, serde_json::from_str(text).unwrap()));
        }
        for (path, change) in changes {
            merge(&mut answers.get_mut(*path).unwrap().1, change);
        }
        let socket = folder.join("docker.sock");
        let asked = Asked::default();
        let runtime = Runtime::new().unwrap();
        let listener = {
            let _inside = runtime.enter();
            UnixListener::bind(&socket).unwrap()
        };
        let router = Router::new().fallback(answer).with_state((Arc::new(answers), asked.clone()));
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self { socket, asked, _runtime: runtime }
    }

    pub fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Returns the requests that it received: method and path.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn merge(into: &mut Value, change: &Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (key, value) in change {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, change) => *into = change.clone(),
    }
}

async fn answer(State((answers, asked)): State<(Arc<Answers>, Asked)>, request: Request) -> Response {
    let path = request.uri().path();
    let path = match path.strip_prefix("/v1.").and_then(|rest| rest.split_once('/')) {
        Some((_, rest)) => format!("/{rest}"),
        None => path.to_owned(),
    };
    asked.lock().unwrap().push(format!("{} {path}", request.method()));
    if let Some((status, value)) = answers.get(&path) {
        let mut value = value.clone();
        // Its clock is exact, unless a change sets how far ahead it is.
        if path == "/info" {
            let ahead = value["AheadSeconds"].as_i64().unwrap_or_default();
            let now = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(ahead);
            value["SystemTime"] = json!(now.to_string());
        }
        return (*status, axum::Json(value)).into_response();
    }
    // Every image exists.
    match path.starts_with("/images/") && path.ends_with("/json") {
        true => axum::Json(json!({"Id": "sha256:0"})).into_response(),
        false => (StatusCode::NOT_FOUND, axum::Json(json!({"message": format!("no {path}")}))).into_response(),
    }
}
