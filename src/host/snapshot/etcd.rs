//! Changes to the database of a restored cluster, as requests for the JSON API of etcd. They are made before the API
//! server can connect, so no pod ever sees what they replace.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// What belongs to the past of the original: leases, events, the addresses of its API server.
const PAST: [&str; 3] = ["/registry/leases/", "/registry/events/", "/registry/masterleases/"];

/// Returns the request that removes the past of a cluster and replaces these objects, all at once. Objects have API version,
/// kind, namespace and name.
pub fn transaction(objects: &[Value]) -> Value {
    let removed = PAST.iter().map(|prefix| {
        let mut end = prefix.as_bytes().to_vec();
        // The range ends before the first key that does not begin with the prefix.
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        json!({"requestDeleteRange": {"key": encoded(prefix.as_bytes()), "range_end": encoded(&end)}})
    });
    let replaced = objects.iter().map(|object| {
        let text = object.to_string();
        json!({"requestPut": {"key": encoded(key(object).as_bytes()), "value": encoded(text.as_bytes())}})
    });
    json!({"success": removed.chain(replaced).collect::<Vec<_>>()})
}

/// Returns the key of a namespaced object of the API groups core and apps.
fn key(object: &Value) -> String {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let plural = format!("{}s", text("/kind").to_lowercase());
    format!("/registry/{plural}/{}/{}", text("/metadata/namespace"), text("/metadata/name"))
}

fn encoded(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transaction_removes_the_past_and_replaces_objects() {
        let object =
            json!({"kind": "ConfigMap", "metadata": {"namespace": "sample", "name": "istio-ca-root-cert"}});
        let all = transaction(std::slice::from_ref(&object));
        let decoded =
            |value: &Value| String::from_utf8(STANDARD.decode(value.as_str().unwrap()).unwrap()).unwrap();
        let leases = &all["success"][0]["requestDeleteRange"];
        assert_eq!(
            (decoded(&leases["key"]), decoded(&leases["range_end"])),
            ("/registry/leases/".to_owned(), "/registry/leases0".to_owned())
        );
        let put = &all["success"][3]["requestPut"];
        assert_eq!(decoded(&put["key"]), "/registry/configmaps/sample/istio-ca-root-cert");
        assert_eq!(decoded(&put["value"]), object.to_string());
    }
}
