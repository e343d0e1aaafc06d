//! What is wrong with an object that an API server refuses: which field, where it is set, and what was meant.

use std::sync::LazyLock;

use kube::ResourceExt;
use kube::core::Status;
use regex::Regex;
use serde_json::Value;

use super::place::Source;
use crate::base::error::{Error, Kind};
use crate::base::yaml::pointer;
use crate::cluster::mesh::apply::{Refused, kind};
use crate::spec::did_you_mean;

/// A field that the API server does not accept.
#[derive(Debug, PartialEq, Eq)]
struct Mistake {
    /// Its path in the API server's words, such as `spec.containers[name="app"].prots`.
    path: String,
    /// The JSON pointer of the path in the object.
    pointer: String,
    wrong: Wrong,
}

#[derive(Debug, PartialEq, Eq)]
enum Wrong {
    /// The kind has no such field.
    Unknown,
    /// What the API server says about its value.
    Value(String),
}

/// Returns the API server's path of the schemas of an object's version, if its refusal is about a field that the kind does
/// not have.
pub(super) fn schemas_path(refused: &Refused) -> Option<String> {
    let object = serde_json::to_value(&refused.object).ok()?;
    let mut found = mistakes(&object, &refused.status).into_iter();
    found.any(|mistake| mistake.wrong == Wrong::Unknown).then_some(())?;
    let version = &refused.object.types.as_ref()?.api_version;
    let below = if version.contains('/') { "apis" } else { "api" };
    Some(format!("/openapi/v3/{below}/{version}"))
}

/// Returns the error about a refused object, for `kubectl` with these arguments. `schemas` is the OpenAPI document of its
/// version, with the names of the fields.
pub(super) fn explained(
    refused: &Refused,
    source: &Source,
    cluster: &str,
    kubectl: &str,
    schemas: Option<&Value>,
) -> Error {
    let object = serde_json::to_value(&refused.object).unwrap_or_default();
    let what = format!("{} {} in {cluster}", kind(&refused.object), refused.object.name_any());
    let at = |pointer: &str| source.at(pointer).map(|at| format!("{at}: ")).unwrap_or_default();
    let mistakes = mistakes(&object, &refused.status);
    // The API server quotes values, and those of a Secret are printed nowhere.
    let is_secret = kind(&refused.object) == "Secret";
    let said = |mistake: &Mistake| {
        let near = || known_fields(schemas?, &object, parent(&mistake.pointer));
        let text = match &mistake.wrong {
            Wrong::Unknown => {
                let fields = near().unwrap_or_default();
                let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
                let field = mistake.path.rsplit('.').next().unwrap_or_default();
                format!("unknown field {}{}", mistake.path, did_you_mean(field, &fields))
            }
            Wrong::Value(_) if is_secret => {
                format!("{}: its value is not accepted: write text, in quotes", mistake.path)
            }
            Wrong::Value(said) => format!("{}: {said}", mistake.path),
        };
        format!("{}{what}: {text}", at(&mistake.pointer))
    };
    let answered = if is_secret { "" } else { refused.status.message.as_str() };
    // After the API server's words, there is the reason for retries.
    let retried = refused.error.evidence.iter().skip(1).cloned().collect::<Vec<_>>().join("\n");
    let Some(first) = mistakes.first() else {
        let kind = if matches!(refused.status.code, 400 | 422) { Kind::Usage } else { refused.error.kind };
        return Error::new(kind, format!("{}the API server refused {what}", at("")))
            .evidence(answered)
            .evidence(retried)
            .hint("correct the manifest, or what refuses it");
    };
    let others: Vec<String> = mistakes.iter().skip(1).map(said).collect();
    let field = if first.wrong == Wrong::Unknown { parent(&first.pointer) } else { &first.pointer };
    Error::usage(said(first))
        .evidence(others.join("\n"))
        .evidence(answered)
        .hint(format!("correct the field; its documentation: {kubectl} explain {}", explain_path(&object, field)))
}

fn mistakes(object: &Value, status: &Status) -> Vec<Mistake> {
    static UNKNOWN: LazyLock<Regex> = LazyLock::new(|| compiled(r#"unknown field "([^"]+)""#));
    static TYPED: LazyLock<Regex> =
        LazyLock::new(|| compiled(r"cannot unmarshal (\w+) into Go struct field \w+\.(\S+) of type (\S+)"));
    // Server-side apply: `.spec.replicas: expected numeric (int or float), got string`.
    static APPLIED: LazyLock<Regex> = LazyLock::new(|| compiled(r"(?m)(?:^|[\s:])\.([a-zA-Z][^\s]*): (.+)$"));
    let mistake =
        |path: &str, wrong: Wrong| Mistake { path: path.to_owned(), pointer: pointer_of(object, path), wrong };
    let message = status.message.as_str();
    let mut found: Vec<Mistake> = Vec::new();
    found.extend(UNKNOWN.captures_iter(message).map(|part| mistake(&part[1], Wrong::Unknown)));
    found.extend(TYPED.captures_iter(message).map(|part| {
        let said = format!("expected {}, got {}", type_name(&part[3]), type_name(&part[1]));
        mistake(&part[2], Wrong::Value(said))
    }));
    found.extend(APPLIED.captures_iter(message).map(|part| match &part[2] {
        "field not declared in schema" => mistake(&part[1], Wrong::Unknown),
        said => mistake(&part[1], Wrong::Value(in_words(said))),
    }));
    if found.is_empty() {
        let causes = status.details.iter().flat_map(|details| &details.causes);
        let named = causes.filter(|cause| !cause.field.is_empty() && cause.field != "<nil>");
        found.extend(named.map(|cause| mistake(&cause.field, Wrong::Value(cause.message.clone()))));
    }
    found
}

fn compiled(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a test uses it")
}

/// Returns what server-side apply says about a value's type in words of YAML.
fn in_words(said: &str) -> String {
    static TYPES: LazyLock<Regex> = LazyLock::new(|| compiled(r"^expected (.+?), got (.+)$"));
    let Some(parts) = TYPES.captures(said) else { return said.to_owned() };
    let got = parts[2].rsplit_once("Value:").map(|(_, value)| value.trim_end_matches('}').to_owned());
    let expected = type_name(&parts[1]);
    let got = got.unwrap_or_else(|| type_name(&parts[2]).to_owned());
    let quotes = match expected {
        "text" => ": write it in quotes",
        "a number" | "true or false" if got == "text" => ": write it without quotes",
        _ => "",
    };
    format!("expected {expected}, got {got}{quotes}")
}

fn type_name(name: &str) -> &str {
    match name {
        "string" => "text",
        "numeric (int or float)" | "number" | "int" | "int32" | "int64" | "float64" => "a number",
        "bool" | "boolean" => "true or false",
        "map" | "object" => "a map",
        "list" | "array" => "a list",
        other => other,
    }
}

/// Returns the JSON pointer of a path such as `spec.containers[name="app"].ports[0]` in an object.
fn pointer_of(object: &Value, path: &str) -> String {
    let mut found = String::new();
    for segment in segments(path) {
        let here = object.pointer(&found).unwrap_or(&Value::Null);
        let key = match segment.strip_prefix('[') {
            None => segment.clone(),
            Some(selector) => match selected(here, selector) {
                Some(index) => index.to_string(),
                None => selector.to_owned(),
            },
        };
        found = pointer(&found, &key);
    }
    found
}

/// Splits a path at its dots and brackets: `a.b[c="d.e"]` is `a`, `b` and `[c="d.e"`.
fn segments(path: &str) -> Vec<String> {
    let (mut found, mut current) = (Vec::new(), String::new());
    let (mut bracket, mut quoted) = (false, false);
    for c in path.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                current.push(c);
            }
            '.' | '[' | ']' if !quoted && (c == ']' || !bracket) => {
                if !current.is_empty() {
                    found.push(std::mem::take(&mut current));
                }
                bracket = c == '[';
                if bracket {
                    current.push('[');
                }
            }
            c => current.push(c),
        }
    }
    if !current.is_empty() {
        found.push(current);
    }
    found
}

/// Returns the index of the item that a selector names: `0`, or `name="app",port=80`.
fn selected(list: &Value, selector: &str) -> Option<usize> {
    if let Ok(index) = selector.parse() {
        return Some(index);
    }
    let pairs: Vec<(&str, Value)> = selector
        .split(',')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key, serde_json::from_str(value).unwrap_or_else(|_| Value::from(value))))
        .collect();
    let fits = |item: &Value| pairs.iter().all(|(key, value)| item.get(key).is_none_or(|has| has == value));
    list.as_array().filter(|_| !pairs.is_empty())?.iter().position(fits)
}

fn parent(pointer: &str) -> &str {
    pointer.rfind('/').map_or("", |end| &pointer[..end])
}

/// Returns the argument of `kubectl explain` for a field: without the indexes of lists.
fn explain_path(object: &Value, pointer: &str) -> String {
    let names = pointer.split('/').skip(1).filter(|name| name.parse::<usize>().is_err());
    let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
    let version = object["apiVersion"].as_str().unwrap_or_default();
    let path: Vec<&str> = std::iter::once(kind.as_str()).chain(names).collect();
    format!("{} --api-version={version}", path.join("."))
}

/// Returns the names of the fields that a map of an object may have, by the schemas of the object's version.
fn known_fields(schemas: &Value, object: &Value, pointer: &str) -> Option<Vec<String>> {
    let schemas = schemas.pointer("/components/schemas")?.as_object()?;
    let (group, version) =
        object["apiVersion"].as_str()?.split_once('/').unwrap_or(("", object["apiVersion"].as_str()?));
    let is_of = |schema: &&Value| {
        let kinds = schema["x-kubernetes-group-version-kind"].as_array().into_iter().flatten();
        kinds
            .into_iter()
            .any(|of| of["group"] == group && of["version"] == version && of["kind"] == object["kind"])
    };
    let resolved = |schema: &Value| -> Option<Value> {
        let reference = schema.get("$ref").or_else(|| schema.pointer("/allOf/0/$ref"));
        match reference.and_then(Value::as_str) {
            Some(reference) => schemas.get(reference.rsplit('/').next()?).cloned(),
            None => Some(schema.clone()),
        }
    };
    let mut schema = schemas.values().find(is_of)?.clone();
    for name in pointer.split('/').skip(1) {
        let inside = schema.get("items").or_else(|| schema.get("properties")?.get(name));
        schema = resolved(inside.or_else(|| schema.get("additionalProperties"))?)?;
    }
    Some(schema["properties"].as_object()?.keys().cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::yaml::documents;
    use crate::cluster::mesh::apply;
    use serde_json::json;

    const WEB: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replica: 2
  template:
    spec:
      containers:
      - name: log
      - name: app
        prots: []
        env:
        - {name: PORT, value: 8080}
";

    fn refused(code: u16, message: &str) -> Refused {
        let object = apply::objects(WEB).unwrap().remove(0);
        let error = Error::environment("refused").evidence("long").evidence("retried for up to 10 s");
        Refused { object, status: Status::failure(message, "").with_code(code), error }
    }

    fn source() -> Source {
        Source::of("web.yaml", documents(WEB).unwrap().remove(0).places)
    }

    fn told(refused: &Refused, schemas: Option<&Value>) -> Error {
        explained(refused, &source(), "cluster1", "kubectl --context kind-a", schemas)
    }

    fn schemas() -> Value {
        let reference = |name: &str| json!({"allOf": [{"$ref": format!("#/components/schemas/{name}")}]});
        json!({"components": {"schemas": {
            "Deployment": {"x-kubernetes-group-version-kind": [{"group": "apps", "version": "v1", "kind": "Deployment"}],
                "properties": {"spec": reference("Spec")}},
            "Spec": {"properties": {"replicas": {}, "template": reference("Template")}},
            "Template": {"properties": {"spec": reference("PodSpec")}},
            "PodSpec": {"properties": {"containers": {"items": reference("Container")}}},
            "Container": {"properties": {"image": {}, "name": {}, "ports": {}}}
        }}})
    }

    #[test]
    fn unknown_field_has_a_place_and_a_suggestion() {
        let of = "failed to create typed patch object (default/web; apps/v1, Kind=Deployment): ";
        let one = refused(
            500,
            &format!("{of}.spec.template.spec.containers[name=\"app\"].prots: field not declared in schema"),
        );
        assert_eq!(schemas_path(&one).as_deref(), Some("/openapi/v3/apis/apps/v1"));
        let error = told(&one, Some(&schemas()));
        assert_eq!(
            error.message,
            "web.yaml:11:9: Deployment web in cluster1: unknown field spec.template.spec.containers[name=\"app\"].prots, \
                did you mean \"ports\"?"
        );
        assert_eq!(error.kind, Kind::Usage);
        assert!(error.hint.unwrap().ends_with(
            "kubectl --context kind-a explain deployment.spec.template.spec.containers --api-version=apps/v1"
        ));
        // Without the schemas, there is no suggestion.
        assert!(told(&one, None).message.ends_with(".prots"));
    }

    #[test]
    fn several_mistakes_are_named() {
        let both = refused(
            500,
            "failed to create typed patch object (default/web; apps/v1, Kind=Deployment): errors:\n  .spec.replica: field not \
             declared in schema\n  .spec.template.spec.containers[name=\"app\"].env[name=\"PORT\"].value: expected string, got \
             &value.valueUnstructured{Value:8080}",
        );
        let error = told(&both, Some(&schemas()));
        assert_eq!(
            error.message,
            "web.yaml:5:3: Deployment web in cluster1: unknown field spec.replica, did you mean \"replicas\"?"
        );
        assert_eq!(
            error.evidence[0],
            "web.yaml:13:24: Deployment web in cluster1: spec.template.spec.containers[name=\"app\"].env[name=\"PORT\"].value: \
                expected text, got 8080: write it in quotes"
        );
    }

    #[test]
    fn other_words_for_the_same_mistakes_are_read() {
        for (code, message, said) in [
            (
                400,
                "strict decoding error: unknown field \"spec.replica\"",
                "web.yaml:5:3: Deployment web in cluster1: unknown field spec.replica",
            ),
            (
                400,
                "Deployment in version \"v1\" cannot be handled as a Deployment: json: cannot unmarshal string into Go struct \
                 field DeploymentSpec.spec.replicas of type int32",
                "web.yaml:4:1: Deployment web in cluster1: spec.replicas: expected a number, got text",
            ),
            (
                500,
                "failed to create typed patch object (a/web; apps/v1, Kind=Deployment): .spec.replicas: expected numeric (int \
                 or float), got string",
                "web.yaml:4:1: Deployment web in cluster1: spec.replicas: expected a number, got text: write it without quotes",
            ),
        ] {
            assert_eq!(told(&refused(code, message), None).message, said);
        }
    }

    #[test]
    fn causes_of_an_invalid_object_have_places() {
        let mut invalid = refused(422, "Deployment.apps \"web\" is invalid: spec.selector: Required value");
        invalid.status.details = serde_json::from_value(json!({"causes": [{"reason": "FieldValueRequired",
            "message": "Required value", "field": "spec.template.spec.containers[1].image"}]}))
        .unwrap();
        let error = told(&invalid, None);
        assert_eq!(
            error.message,
            "web.yaml:10:9: Deployment web in cluster1: spec.template.spec.containers[1].image: Required value"
        );
    }

    #[test]
    fn values_of_a_secret_are_not_printed() {
        let mut secret = refused(
            500,
            "failed to create typed patch object (default/web; /v1, Kind=Secret): .stringData.password: expected string, got \
             &value.valueUnstructured{Value:4711}",
        );
        secret.object =
            apply::objects("{apiVersion: v1, kind: Secret, metadata: {name: web}, stringData: {password: 4711}}")
                .unwrap()
                .remove(0);
        let error = told(&secret, None);
        assert!(error.message.ends_with(
            "Secret web in cluster1: stringData.password: its value is not accepted: write text, in quotes"
        ));
        assert!(!format!("{error:?}").contains("4711"), "{error:?}");
    }

    #[test]
    fn refusal_without_a_field_has_the_place_of_the_object() {
        let denied =
            refused(400, "admission webhook \"rev.validation.istio.io\" denied the request: weight -1 < 0");
        let error = told(&denied, None);
        assert_eq!(error.message, "web.yaml:1:1: the API server refused Deployment web in cluster1");
        assert_eq!(error.evidence, [denied.status.message.as_str(), "retried for up to 10 s"]);
        assert_eq!((error.kind, schemas_path(&denied)), (Kind::Usage, None));
        // What the permissions or the namespace refuse is not a mistake of the file.
        assert_eq!(told(&refused(403, "pods \"web\" is forbidden"), None).kind, Kind::Environment);
    }
}
