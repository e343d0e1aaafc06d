//! The record of an environment in a cluster: what it says about the time before `up`.

use std::collections::BTreeSet;

use anyhow::Context;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ApiResource, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::RECORD;
use crate::cluster::mesh::ISTIO_NAMESPACE;
use crate::cluster::objects::is_ours;

/// The key with the kinds that `deploy` applied besides those of kindmesh itself, one in a line: API version, kind and plural.
pub(super) const KINDS: &str = "kinds";
/// The key with the namespaces that had Istio's root certificate.
const TRUSTING: &str = "istioCaRootCertBefore";

/// The key that says whether `up` installs Istio or uses the one that is there.
const ISTIO: &str = "istio";
/// Its value if Istio is used as it is.
const USED: &str = "used";

/// The key with the name of the environment.
const ENVIRONMENT: &str = "environment";

/// What the record says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Before {
    /// When `up` wrote it, before it created anything else.
    pub(super) recorded: Timestamp,
    /// The namespaces that had Istio's root certificate.
    pub(super) trusting: BTreeSet<String>,
    /// The kinds that `deploy` applied besides those of kindmesh itself.
    pub(super) kinds: Vec<ApiResource>,
    /// Whether the istiod, and so what it makes, is another owner's.
    pub(super) uses_istio: bool,
}

impl Before {
    /// Returns the environment that a record names.
    pub(super) fn environment(map: &ConfigMap) -> &str {
        text(map, ENVIRONMENT)
    }

    /// Returns the namespaces that had Istio's root certificate when a record was written.
    pub(super) fn trusting(map: &ConfigMap) -> BTreeSet<String> {
        text(map, TRUSTING).lines().map(str::to_owned).collect()
    }

    /// Reads a record.
    pub(super) fn of(map: &ConfigMap) -> Option<Self> {
        Some(Self {
            recorded: map.creation_timestamp()?.0,
            trusting: Self::trusting(map),
            kinds: text(map, KINDS).lines().filter_map(kind).collect(),
            uses_istio: text(map, ISTIO) == USED,
        })
    }
}

fn text<'a>(map: &'a ConfigMap, key: &str) -> &'a str {
    map.data.as_ref().and_then(|data| data.get(key)).map_or("", String::as_str)
}

/// Returns the record of an environment, to apply before anything else in Istio's namespace. `before` are the namespaces that had
/// Istio's root certificate then: `down` leaves it there.
pub fn record(environment: &str, installs: bool, before: &BTreeSet<String>) -> Value {
    let before: Vec<&str> = before.iter().map(String::as_str).collect();
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": RECORD, "namespace": ISTIO_NAMESPACE},
        "data": {
            ENVIRONMENT: environment,
            ISTIO: if installs { "installed" } else { USED },
            TRUSTING: before.join("\n"),
        },
    })
}

/// Returns the record in a cluster, if kindmesh wrote it.
///
/// # Errors
/// The API server's.
pub(super) async fn live(client: &Client) -> kube::Result<Option<ConfigMap>> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), ISTIO_NAMESPACE);
    Ok(api.get_opt(RECORD).await?.filter(is_ours))
}

/// Adds kinds to the record that `deploy` applies, so that `down` looks for their objects, too.
///
/// # Errors
/// The API server's, or if there is no record.
pub async fn add_kinds(client: &Client, kinds: &[ApiResource]) -> anyhow::Result<()> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), ISTIO_NAMESPACE);
    let map = api.get(RECORD).await.context("getting the record of the environment")?;
    let Some(all) = with_kinds(text(&map, KINDS), kinds) else { return Ok(()) };
    // Not with the manager of `up`, which would remove it again.
    let patch = Patch::Merge(json!({"data": {KINDS: all}}));
    let parameters = PatchParams { field_manager: Some("kindmesh-deploy".into()), ..PatchParams::default() };
    api.patch(RECORD, &parameters, &patch).await.context("adding kinds to the record of the environment")?;
    Ok(())
}

/// Returns the value of the key [`KINDS`] with more kinds; none if it has them.
fn with_kinds(value: &str, kinds: &[ApiResource]) -> Option<String> {
    let known: BTreeSet<String> = value.lines().map(str::to_owned).collect();
    let line = |kind: &ApiResource| format!("{} {} {}", kind.api_version, kind.kind, kind.plural);
    let all: BTreeSet<String> = known.iter().cloned().chain(kinds.iter().map(line)).collect();
    (all != known).then(|| all.into_iter().collect::<Vec<_>>().join("\n"))
}

/// Reads a line of the key [`KINDS`], such as `apps/v1 StatefulSet statefulsets`.
fn kind(line: &str) -> Option<ApiResource> {
    let mut words = line.split_whitespace();
    let (api_version, kind, plural) = (words.next()?, words.next()?, words.next()?);
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    Some(ApiResource {
        group: group.into(),
        version: version.into(),
        api_version: api_version.into(),
        kind: kind.into(),
        plural: plural.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let mut written = record("shop", true, &["legacy".to_owned(), "old".to_owned()].into());
        written["metadata"]["creationTimestamp"] = json!("2026-11-27T10:00:00Z");
        written["data"][KINDS] = json!("apps/v1 StatefulSet statefulsets\nv1 Pod pods");
        let map: ConfigMap = serde_json::from_value(written).unwrap();
        let before = Before::of(&map).unwrap();
        assert_eq!(before.trusting, ["legacy".to_owned(), "old".to_owned()].into());
        let kinds: Vec<_> = before.kinds.iter().map(|kind| (kind.group.as_str(), kind.plural.as_str())).collect();
        assert_eq!(kinds, [("apps", "statefulsets"), ("", "pods")]);
        assert_eq!(Before::environment(&map), "shop");
        // What it has is not added again.
        assert_eq!(with_kinds(text(&map, KINDS), &before.kinds), None);
        assert_eq!(with_kinds("v1 Pod pods", &before.kinds).as_deref(), Some(text(&map, KINDS)));
    }
}
