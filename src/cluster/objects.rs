//! Live objects: whether they are being deleted, whether an apply would change them, and deleting them.

use kube::api::{Api, DeleteParams, DynamicObject};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::plan::{MANAGED_BY, MANAGED_BY_LABEL};

/// Whether an object is being deleted. A change of it would be lost.
pub fn is_terminating(object: &impl ResourceExt) -> bool {
    object.meta().deletion_timestamp.is_some()
}

/// Whether kindmesh created an object.
pub fn is_ours(object: &impl ResourceExt) -> bool {
    object.labels().get(MANAGED_BY_LABEL).is_some_and(|by| by == MANAGED_BY)
}

/// Deletes an object. Returns whether it existed.
///
/// # Errors
/// The API server's, unless the object does not exist.
pub async fn delete_if_exists<K>(api: &Api<K>, name: &str, parameters: &DeleteParams) -> kube::Result<bool>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    match api.delete(name, parameters).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a server-side apply of `wanted` by `manager` would certainly change nothing: its last apply set no field that is
/// not wanted anymore, and every wanted value is live. If the API server has normalized a value, this is false, and only the
/// API server can tell.
pub fn is_applied(live: &DynamicObject, wanted: &DynamicObject, manager: &str) -> bool {
    let entries = live.metadata.managed_fields.iter().flatten();
    let mut ours = entries.filter(|entry| {
        entry.manager.as_deref() == Some(manager)
            && entry.operation.as_deref() == Some("Apply")
            && entry.subresource.as_deref().unwrap_or_default().is_empty()
    });
    let (Some(set), None) = (ours.next().and_then(|entry| entry.fields_v1.as_ref()), ours.next()) else {
        return false;
    };
    let (Ok(live), Ok(wanted)) = (serde_json::to_value(live), serde_json::to_value(wanted)) else { return false };
    is_within(&set.0, &wanted) && has_all(&live, &wanted)
}

/// Whether every field of a field set exists in a value. The format is that of `FieldsV1`: `f:` a field, `k:` the element of
/// a list with these keys, `v:` an element with this value, `.` the value itself.
fn is_within(fields: &Value, value: &Value) -> bool {
    fields.as_object().into_iter().flatten().all(|(name, inner)| match name.split_once(':') {
        None => name == ".",
        Some(("f", field)) => value.get(field).is_some_and(|value| is_within(inner, value)),
        Some(("k", keys)) => {
            let Ok(keys) = serde_json::from_str::<Value>(keys) else { return false };
            let mut items = value.as_array().into_iter().flatten();
            items.any(|item| has_keys(item, &keys) && is_within(inner, item))
        }
        Some(("v", item)) => serde_json::from_str::<Value>(item)
            .is_ok_and(|item| value.as_array().is_some_and(|items| items.contains(&item))),
        Some(_) => false,
    })
}

/// Whether an element of a list has these keys. A key that it lacks has its default value.
fn has_keys(item: &Value, keys: &Value) -> bool {
    keys.as_object().into_iter().flatten().all(|(key, value)| item.get(key).is_none_or(|has| has == value))
}

/// Whether a live object has everything that is in a wanted one. The API server omits empty strings, but not in maps of the
/// user: labels, annotations, data.
fn has_all(live: &Value, wanted: &Value) -> bool {
    wanted.as_object().into_iter().flatten().all(|(key, wanted)| match live.get(key) {
        Some(live) => has(live, wanted, !["metadata", "data", "binaryData", "stringData"].contains(&key.as_str())),
        None => false,
    })
}

/// Whether a live value has everything that is in a wanted one; `omits` if the API server may have omitted empty strings.
fn has(live: &Value, wanted: &Value, omits: bool) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => wanted.iter().all(|(key, wanted)| match live.get(key) {
            Some(live) => has(live, wanted, omits),
            None => omits && wanted == "",
        }),
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(live, wanted)| has(live, wanted, omits))
        }
        _ => live == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> DynamicObject {
        serde_json::from_value(value).unwrap()
    }

    fn wanted() -> Value {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "labels": {"x": "1"}},
            "spec": {"ports": [{"port": 80, "name": "http"}], "type": "ClusterIP"}})
    }

    /// The wanted object as the API server returns it.
    fn live() -> Value {
        let mut live = wanted();
        live["metadata"]["uid"] = json!("u");
        live["metadata"]["managedFields"] = json!([{"manager": "kindmesh", "operation": "Apply", "fieldsV1": {
            "f:metadata": {"f:labels": {"f:x": {}}},
            "f:spec": {"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}, "f:name": {}}}, "f:type": {}},
        }}]);
        live["spec"]["clusterIP"] = json!("10.0.0.1");
        live["spec"]["ports"][0]["protocol"] = json!("TCP");
        live
    }

    #[test]
    fn unchanged_object_is_applied() {
        assert!(is_applied(&object(live()), &object(wanted()), "kindmesh"));
        let mut with_empty = wanted();
        with_empty["spec"]["externalName"] = json!("");
        assert!(is_applied(&object(live()), &object(with_empty), "kindmesh"));
    }

    #[test]
    fn any_difference_requires_an_apply() {
        let differs =
            |live: Value, wanted: Value| assert!(!is_applied(&object(live), &object(wanted), "kindmesh"));
        let change = |mut value: Value, path: &str, to: Value| {
            *value.pointer_mut(path).unwrap() = to;
            value
        };
        // Changed by someone, or in the new version.
        differs(change(live(), "/spec/type", json!("NodePort")), wanted());
        differs(live(), change(wanted(), "/spec", json!({"externalName": "x"})));
        differs(live(), change(wanted(), "/metadata/labels", json!({"x": "1", "y": ""})));
        differs(live(), change(wanted(), "/metadata/labels", json!({"x": "1", "y": "2"})));
        differs(live(), change(wanted(), "/spec/ports/0/name", json!("https")));
        differs(change(live(), "/spec/ports", json!([{"port": 80, "name": "http"}, {"port": 81}])), wanted());
        // Not wanted anymore.
        differs(live(), change(wanted(), "/metadata/labels", json!({})));
        differs(live(), change(wanted(), "/spec/ports", json!([])));
        // Never applied, or by another manager.
        differs(change(live(), "/metadata/managedFields", json!([])), wanted());
        differs(change(live(), "/metadata/managedFields/0/manager", json!("kubectl")), wanted());
        differs(change(live(), "/metadata/managedFields/0/operation", json!("Update")), wanted());
    }

    #[test]
    fn elements_of_sets_are_compared() {
        let fields = json!({"f:finalizers": {".": {}, "v:\"a\"": {}}});
        assert!(is_within(&fields, &json!({"finalizers": ["a"]})));
        assert!(!is_within(&fields, &json!({"finalizers": ["b"]})));
    }
}
