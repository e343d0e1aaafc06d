//! Which source each field of a merged spec came from, for errors that only show after merging.

use std::collections::BTreeMap;

use serde_json::Value;

/// The source of each field that some source set: a file's path as the user gave it, or a flag.
///
/// Fields are named by paths such as `clusters[1].name`. A field that is not in here has its default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins(BTreeMap<String, String>);

impl Origins {
    /// The source of a field, or of the nearest field around it that was set as a whole.
    pub fn of(&self, path: &str) -> Option<&str> {
        let mut path = path;
        loop {
            if let Some(origin) = self.0.get(path) {
                return Some(origin);
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }

    /// Notes that `origin` set `value` at `path`, in the way that [`crate::merge::merge`] merges: what a
    /// map says adds to what is there, anything else replaces it.
    pub(crate) fn record(&mut self, path: &str, value: &Value, origin: &str) {
        match value {
            Value::Object(fields) if path.is_empty() || !fields.is_empty() => {
                self.0.remove(path);
                for (key, value) in fields {
                    self.record(&field(path, key), value, origin);
                }
            }
            _ => {
                self.0.retain(|known, _| !is_within(known, path));
                self.0.insert(path.to_owned(), origin.to_owned());
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    self.record(&format!("{path}[{index}]"), item, origin);
                }
            }
        }
    }
}

/// The path of a field of the map at `path`.
pub(crate) fn field(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn is_within(known: &str, path: &str) -> bool {
    known.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_later_source_takes_over_what_it_sets() {
        let mut origins = Origins::default();
        origins.record("", &json!({"mesh": {"version": "1", "values": {"a": {"b": 1}}}, "clusters": [{"name": "x"}, {"name": "y"}]}), "one");
        origins.record("", &json!({"mesh": {"version": "2"}, "clusters": [{"name": "z"}]}), "two");
        assert_eq!(origins.of("mesh.version"), Some("two"));
        assert_eq!(origins.of("mesh.values.a.b"), Some("one"));
        assert_eq!(origins.of("clusters[0].name"), Some("two"));
        // The list was replaced, so nothing of the first source is left in it.
        assert_eq!(origins.of("clusters[1].name"), Some("two"));
        assert_eq!(origins.of("network.subnet"), None);
        assert_eq!(origins.of("mesh"), None);
    }
}
