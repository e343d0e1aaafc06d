//! The JSON Schema of the spec, for editors.

use serde_json::Value;

use super::Spec;

/// Returns the JSON Schema (draft 2020-12) of `kindmesh.yaml`. It describes types; rules that involve several
/// fields are only in [`crate::spec::validate()`].
pub fn schema() -> Value {
    let mut schema = schemars::schema_for!(Spec);
    schema.insert("title".into(), "kindmesh.yaml".into());
    schema.to_value()
}
