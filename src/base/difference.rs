//! The fields in which two JSON values differ.

use serde_json::Value;

/// A field that differs: its path, and both values, null if it is not set.
pub type Difference<'a> = (String, &'a Value, &'a Value);

/// How lists are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lists {
    /// As a whole.
    Whole,
    /// Item by item, if they have the same length.
    Items,
}

/// Adds the fields below `path` that differ, each at the deepest level: in the order of `one`, then those that only `other` has.
pub fn add<'a>(path: &str, one: &'a Value, other: &'a Value, lists: Lists, found: &mut Vec<Difference<'a>>) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let added = other.keys().filter(|key| !one.contains_key(*key));
            for key in one.keys().chain(added) {
                let (one, other) = (one.get(key).unwrap_or(&Value::Null), other.get(key).unwrap_or(&Value::Null));
                add(&field(path, key), one, other, lists, found);
            }
        }
        (Value::Array(one), Value::Array(other)) if lists == Lists::Items && one.len() == other.len() => {
            for (index, (one, other)) in one.iter().zip(other).enumerate() {
                add(&format!("{path}[{index}]"), one, other, lists, found);
            }
        }
        _ if one == other => {}
        _ => found.push((path.to_owned(), one, other)),
    }
}

/// Returns the path of a field of the map at `path`.
pub fn field(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_differ_at_the_deepest_level() {
        let one = json!({"gone": "a", "ports": [{"port": 80}, {"port": 81}], "replicas": 1, "same": [1]});
        let other = json!({"list": [1], "ports": [{"port": 80}, {"port": 82}], "replicas": 2, "same": [1]});
        let found = |lists| {
            let mut found = Vec::new();
            add("spec", &one, &other, lists, &mut found);
            found.iter().map(|(path, one, other)| format!("{path} {one} {other}")).collect::<Vec<_>>()
        };
        let items =
            ["spec.gone \"a\" null", "spec.ports[1].port 81 82", "spec.replicas 1 2", "spec.list null [1]"];
        assert_eq!(found(Lists::Items), items);
        assert_eq!(
            found(Lists::Whole)[1],
            "spec.ports [{\"port\":80},{\"port\":81}] [{\"port\":80},{\"port\":82}]"
        );
    }
}
