//! An API server in memory: it lists, gets and deletes, with finalizers, pods of Deployments and contents of namespaces.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use crate::cluster::kinds;

/// Its objects, by collection, namespace and name.
type Key = (String, String, String);

#[derive(Default)]
struct State {
    objects: BTreeMap<Key, Value>,
    /// The names of objects that are gone, in order.
    gone: Vec<String>,
    /// How many deletions were requested.
    requested: usize,
    /// After how many of them all are refused.
    refuse_after: Option<usize>,
    /// Whether finalizers stay forever.
    keeps_finalizers: bool,
}

#[derive(Clone, Default)]
pub(super) struct Server(Arc<Mutex<State>>);

impl Server {
    pub(super) fn with(objects: impl IntoIterator<Item = Value>) -> Self {
        let server = Self::default();
        let client = server.client();
        for (number, mut object) in objects.into_iter().enumerate() {
            object["metadata"]["uid"] = json!(number.to_string());
            let text =
                |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
            let collection =
                kinds::api(&client, &text("/apiVersion"), &text("/kind"), None).resource_url().to_owned();
            let key = (collection, text("/metadata/namespace"), text("/metadata/name"));
            server.state().objects.insert(key, object);
        }
        server
    }

    pub(super) fn client(&self) -> Client {
        let server = self.clone();
        let answer = move |request: Request<Body>| {
            let (status, body) = server.answer(request.method(), request.uri());
            let body = Body::from(body.to_string().into_bytes());
            let response = Response::builder().status(status).body(body);
            async move { response.map_err(tower::BoxError::from) }
        };
        Client::new(tower::service_fn(answer), "default")
    }

    /// Returns the objects that exist: `configmaps default/a`.
    pub(super) fn names(&self) -> BTreeSet<String> {
        self.state().objects.keys().map(name).collect()
    }

    pub(super) fn gone(&self) -> Vec<String> {
        self.state().gone.clone()
    }

    pub(super) fn requested(&self) -> usize {
        self.state().requested
    }

    pub(super) fn refuse_after(&self, number: Option<usize>) {
        self.state().refuse_after = number;
    }

    pub(super) fn keep_finalizers(&self) {
        self.state().keeps_finalizers = true;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, method: &Method, uri: &http::Uri) -> (u16, Value) {
        let (collection, namespace, name) = split(uri.path());
        let mut state = self.state();
        let key = (collection, namespace.clone(), name.clone());
        match (method, name.is_empty()) {
            (&Method::GET, true) => (200, state.list(&key.0, &namespace, uri.query().unwrap_or_default())),
            (&Method::GET, false) => match state.objects.get(&key) {
                Some(object) => (200, object.clone()),
                None => failure(404, "not found"),
            },
            (&Method::DELETE, false) => state.delete(&key),
            _ => failure(405, "the removal only lists, gets and deletes"),
        }
    }
}

impl State {
    fn list(&mut self, collection: &str, namespace: &str, query: &str) -> Value {
        self.finalize();
        let decoded = query.replace("%2F", "/").replace("%3D", "=").replace("%2C", ",").replace('+', " ");
        let parameter = |name: &str| {
            decoded
                .split('&')
                .find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
                .unwrap_or_default()
                .to_owned()
        };
        let (labels, fields) = (parameter("labelSelector"), parameter("fieldSelector"));
        let fits = |object: &Value, path: &str, selector: &str| {
            selector.split(',').filter_map(|part| part.split_once('=')).all(|(key, value)| {
                let at = if path.is_empty() {
                    object.pointer(&format!("/{}", key.replace('.', "/")))
                } else {
                    object.pointer(path).and_then(|labels| labels.get(key))
                };
                at.and_then(Value::as_str) == Some(value)
            })
        };
        let items: Vec<&Value> = self
            .objects
            .iter()
            .filter(|((of, within, _), object)| {
                of == collection
                    && (namespace.is_empty() || namespace == within)
                    && fits(object, "/metadata/labels", &labels)
                    && fits(object, "", &fields)
            })
            .map(|(_, object)| object)
            .collect();
        json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items})
    }

    fn delete(&mut self, key: &Key) -> (u16, Value) {
        if self.refuse_after.is_some_and(|number| self.requested >= number) {
            return failure(403, "you may not");
        }
        self.requested += 1;
        let Some(object) = self.objects.get_mut(key) else { return failure(404, "not found") };
        if object.pointer("/metadata/finalizers").is_some() {
            object["metadata"]["deletionTimestamp"] = json!("2026-11-28T10:00:00Z");
        } else {
            self.drop(key);
        }
        (200, json!({"apiVersion": "v1", "kind": "Status", "status": "Success"}))
    }

    /// Ends the finalizers of objects that are being deleted.
    fn finalize(&mut self) {
        if self.keeps_finalizers {
            return;
        }
        let terminating =
            self.objects.iter().filter(|(_, object)| object.pointer("/metadata/deletionTimestamp").is_some());
        for key in terminating.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.drop(&key);
        }
    }

    /// Drops an object and what goes with it.
    fn drop(&mut self, key: &Key) {
        self.objects.remove(key);
        self.gone.push(name(key));
        let goes = |other: &Key| match key.0.as_str() {
            "/api/v1/namespaces" => other.1 == key.2,
            "/apis/apps/v1/deployments" => {
                other.0 == "/api/v1/pods" && other.1 == key.1 && other.2.starts_with(&key.2)
            }
            _ => false,
        };
        self.objects.retain(|other, _| !goes(other));
    }
}

fn name((collection, namespace, name): &Key) -> String {
    let plural = collection.rsplit('/').next().unwrap_or_default();
    if namespace.is_empty() { format!("{plural} {name}") } else { format!("{plural} {namespace}/{name}") }
}

/// Splits a path into collection, namespace and name; empty where there is none.
fn split(path: &str) -> Key {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let base = if parts[0] == "api" { 2 } else { 3 };
    let root = parts[..base].join("/");
    let of = |plural: &str, namespace: &str, name: Option<&&str>| {
        (format!("/{root}/{plural}"), namespace.to_owned(), name.copied().unwrap_or_default().to_owned())
    };
    match &parts[base..] {
        ["namespaces", namespace, plural, name @ ..] => of(plural, namespace, name.first()),
        [plural, name @ ..] => of(plural, "", name.first()),
        [] => of("", "", None),
    }
}

fn failure(code: u16, message: &str) -> (u16, Value) {
    let reason = if code == 404 { "NotFound" } else { "Forbidden" };
    let status = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "message": message,
        "reason": reason, "metadata": {}});
    (code, status)
}
