//! The JSON Schema of the spec, for editors.

use serde_json::Value;

use super::Spec;

/// The JSON Schema (draft 2020-12) of `kindmesh.yaml`. It says shapes; what depends on several fields is
/// said by [`crate::spec::validate()`] only.
pub fn schema() -> Value {
    let mut schema = schemars::schema_for!(Spec);
    schema.insert("title".into(), "kindmesh.yaml".into());
    schema.to_value()
}
