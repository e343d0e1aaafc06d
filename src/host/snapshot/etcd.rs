//! The records of a restored cluster's etcd, as requests for its JSON API. They are written before the API server can connect, so
//! no pod ever sees what they replace.

use std::collections::BTreeMap;

use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

/// Where Kubernetes keeps its objects. Other records belong to one etcd, such as that of its last compaction.
const OBJECTS: &str = "/registry/";
/// What belongs to the past of the original: leases, events, the addresses of its API server.
const PAST: [&str; 3] = ["/registry/leases/", "/registry/events/", "/registry/masterleases/"];
/// The size of one request, in bytes, unless one record is larger. etcd's log has room for 64 MB.
const REQUEST: usize = 4 << 20;

/// Records by their key; keys and values in Base64.
#[derive(Debug, Deserialize)]
struct Range {
    #[serde(default)]
    kvs: Vec<Record>,
    /// The number of records, as text; not in what [`Records::response`] returns.
    count: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Record {
    key: String,
    #[serde(default)]
    value: String,
}

/// The records of one etcd.
#[derive(Debug)]
pub struct Records(BTreeMap<Vec<u8>, String>);

impl Records {
    /// Reads a response to a range request, without the past of the cluster.
    ///
    /// # Errors
    /// If it is none, or has no records.
    pub fn read(response: &[u8]) -> anyhow::Result<Self> {
        let what = "reading the records of etcd";
        let range: Range = serde_json::from_slice(response).context(what)?;
        let complete = range.count.is_none_or(|count| count == range.kvs.len().to_string());
        anyhow::ensure!(complete, "the records of etcd are incomplete");
        let mut all = BTreeMap::new();
        for record in range.kvs {
            let key = STANDARD.decode(&record.key).context(what)?;
            let is_past = PAST.iter().any(|past| key.starts_with(past.as_bytes()));
            if key.starts_with(OBJECTS.as_bytes()) && !is_past {
                all.insert(key, record.value);
            }
        }
        anyhow::ensure!(!all.is_empty(), "etcd had no records");
        Ok(Self(all))
    }

    /// Puts these objects in the place of others. They have API version, kind, namespace and name.
    pub fn replace(&mut self, objects: &[Value]) {
        let encoded = |object: &Value| (key(object).into_bytes(), STANDARD.encode(object.to_string()));
        self.0.extend(objects.iter().map(encoded));
    }

    /// Removes the records whose keys begin with one of these. Returns the keys.
    pub fn remove(&mut self, prefixes: &[&str]) -> Vec<String> {
        let mut removed = Vec::new();
        self.0.retain(|key, _| {
            let matches = prefixes.iter().any(|prefix| key.starts_with(prefix.as_bytes()));
            if matches {
                removed.push(String::from_utf8_lossy(key).into_owned());
            }
            !matches
        });
        removed
    }

    /// Returns them as a response to a range request.
    pub fn response(&self) -> Value {
        let records = self.0.iter().map(|(key, value)| json!({"key": STANDARD.encode(key), "value": value}));
        json!({"kvs": records.collect::<Vec<_>>()})
    }

    /// Returns the requests that write them, one in each line.
    ///
    /// # Errors
    /// Never for valid records.
    pub fn requests(&self) -> anyhow::Result<Vec<u8>> {
        let mut lines = Vec::new();
        let (mut puts, mut size) = (Vec::new(), 0);
        for (key, value) in &self.0 {
            if size > 0 && size + value.len() > REQUEST {
                line(&mut lines, std::mem::take(&mut puts))?;
                size = 0;
            }
            size += key.len() + value.len();
            puts.push(json!({"requestPut": {"key": STANDARD.encode(key), "value": value}}));
        }
        line(&mut lines, puts)?;
        Ok(lines)
    }
}

fn line(lines: &mut Vec<u8>, puts: Vec<Value>) -> anyhow::Result<()> {
    serde_json::to_writer(&mut *lines, &json!({"success": puts}))?;
    lines.push(b'\n');
    Ok(())
}

/// Returns the key of a namespaced object of the API groups core and apps.
fn key(object: &Value) -> String {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let plural = match text("/kind") {
        "Service" => "services/specs".to_owned(),
        kind => format!("{}s", kind.to_lowercase()),
    };
    format!("{OBJECTS}{plural}/{}/{}", text("/metadata/namespace"), text("/metadata/name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: &str) -> Value {
        json!({"key": STANDARD.encode(key), "value": STANDARD.encode(value), "mod_revision": "7"})
    }

    fn puts(lines: &[u8]) -> Vec<Vec<(String, String)>> {
        let decoded =
            |value: &Value| String::from_utf8(STANDARD.decode(value.as_str().unwrap()).unwrap()).unwrap();
        let line = |line: &str| {
            let request: Value = serde_json::from_str(line).unwrap();
            let puts = request["success"].as_array().unwrap().iter();
            puts.map(|put| (decoded(&put["requestPut"]["key"]), decoded(&put["requestPut"]["value"]))).collect()
        };
        std::str::from_utf8(lines).unwrap().lines().map(line).collect()
    }

    #[test]
    fn requests_have_no_past_and_replace_objects() {
        let root = "/registry/configmaps/sample/istio-ca-root-cert";
        let records = json!({"header": {"revision": "9"}, "kvs": [record("compact_rev_key", "3"),
            record("/registry/leases/x", "l"), record("/registry/pods/sample/p", "p"), record(root, "old")]});
        let object =
            json!({"kind": "ConfigMap", "metadata": {"namespace": "sample", "name": "istio-ca-root-cert"}});
        let mut read = Records::read(records.to_string().as_bytes()).unwrap();
        read.replace(std::slice::from_ref(&object));
        let lines = read.requests().unwrap();
        let pod = ("/registry/pods/sample/p".to_owned(), "p".to_owned());
        assert_eq!(puts(&lines), [[(root.to_owned(), object.to_string()), pod.clone()]]);
        assert_eq!(read.remove(&["/registry/configmaps/"]), [root]);
        let again = Records::read(read.response().to_string().as_bytes()).unwrap();
        assert_eq!(puts(&again.requests().unwrap()), [[pod]]);
    }

    #[test]
    fn large_records_are_written_in_several_requests() {
        let large = "x".repeat(REQUEST / 2);
        let records: Vec<_> = ["a", "b", "c"].map(|name| record(&format!("/registry/x/{name}"), &large)).into();
        let lines = Records::read(json!({"kvs": records}).to_string().as_bytes()).unwrap().requests().unwrap();
        assert_eq!(puts(&lines).iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1]);
    }

    #[test]
    fn incomplete_records_are_an_error() {
        let short = json!({"count": "2", "kvs": [record("/registry/x", "y")]}).to_string();
        for records in ["", "{\"kvs\":[{\"key\":", "{}", &short] {
            assert!(Records::read(records.as_bytes()).is_err(), "{records}");
        }
    }
}
