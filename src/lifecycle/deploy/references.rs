//! What hosts the objects of manifests refer to, and where.

use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::Value;

use super::place::{Placed, pod_spec};
use crate::cluster::mesh::apply::kind;

/// Returns the first of the hosts to which objects in a cluster refer that is wanted, and what refers to it. `wanted` gets the
/// host and the namespace of the object.
pub(in crate::lifecycle) fn references<T>(
    placed: &[Placed],
    cluster: &str,
    wanted: impl Fn(&str, Option<&str>) -> Option<T>,
) -> Option<(T, String)> {
    let mut here = placed.iter().filter(|placed| placed.clusters.iter().any(|name| name == cluster));
    here.find_map(|placed| {
        let object = &placed.object;
        let from = object.namespace();
        let found = texts(object).into_iter().find_map(|(place, text)| {
            let found = hosts(&text).find_map(|host| wanted(host, from.as_deref()))?;
            Some((found, place, text))
        });
        let (found, place, text) = found?;
        let because =
            format!("{} {} in {cluster} refers to {} ({place})", kind(object), object.name_any(), shown(&text));
        Some((found, because))
    })
}

/// Returns the host that a Service is an alias of, if it has type ExternalName.
pub(super) fn alias_of(service: &DynamicObject) -> Option<&str> {
    let spec = &service.data["spec"];
    spec["externalName"].as_str().filter(|_| spec["type"] == "ExternalName")
}

fn shown(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let cut: String = line.chars().take(60).collect();
    if cut.len() < text.len() { format!("{cut}…") } else { cut }
}

/// Returns the texts of an object that may contain a host, each with the name of its field.
fn texts(object: &DynamicObject) -> Vec<(String, String)> {
    let mut found = Vec::new();
    if let Some(path) = pod_spec(object) {
        for list in ["containers", "initContainers"] {
            let containers = object.data.pointer(&format!("{path}/{list}")).and_then(Value::as_array);
            for container in containers.into_iter().flatten() {
                for variable in container["env"].as_array().into_iter().flatten() {
                    let (name, value) = (variable["name"].as_str(), variable["value"].as_str());
                    if let (Some(name), Some(value)) = (name, value) {
                        found.push((name.to_owned(), value.to_owned()));
                    }
                }
                for field in &["command", "args"] {
                    for word in container[*field].as_array().into_iter().flatten().filter_map(Value::as_str) {
                        found.push(((*field).to_owned(), word.to_owned()));
                    }
                }
            }
        }
        return found;
    }
    match kind(object) {
        "ConfigMap" => {
            for (key, value) in object.data["data"].as_object().into_iter().flatten() {
                // The value may be a whole file: each line is searched separately.
                for line in value.as_str().unwrap_or_default().lines() {
                    found.push((key.clone(), line.trim().to_owned()));
                }
            }
        }
        // The alias is of a host that has to resolve, too.
        "Service" => {
            found.extend(alias_of(object).map(|host| ("externalName".to_owned(), host.to_owned())));
        }
        "VirtualService" => {
            let routes = ["http", "tcp", "tls"].iter().filter_map(|kind| object.data["spec"][kind].as_array());
            for route in routes.flatten().flat_map(|route| route["route"].as_array().into_iter().flatten()) {
                if let Some(host) = route["destination"]["host"].as_str() {
                    found.push(("route".to_owned(), host.to_owned()));
                }
            }
        }
        _ => {}
    }
    found
}

/// Returns what may be hosts in a text. A word without a dot counts only where it must be a host: after `//` or `@`, before a
/// port, or as the whole text.
pub(super) fn hosts(text: &str) -> impl Iterator<Item = &str> {
    let is_host = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.' || c == '_';
    let mut start = 0;
    std::iter::from_fn(move || {
        let begin = start + text[start..].find(is_host)?;
        let end = text[begin..].find(|c| !is_host(c)).map_or(text.len(), |at| begin + at);
        start = end;
        let (before, word) = (&text[..begin], text[begin..end].trim_end_matches('.'));
        let after =
            text[end..].strip_prefix(':').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        let alone = text.trim() == word;
        let must = before.ends_with("//") || before.ends_with('@') || after || alone;
        Some((must || word.contains('.')).then_some(word))
    })
    .flatten()
}
