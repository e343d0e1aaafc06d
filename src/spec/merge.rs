//! Merges free-form settings: maps are merged, everything else is replaced.

use serde_json::Value;

/// Merges `over` into `base`, deeply.
pub fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}
