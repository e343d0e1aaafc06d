//! Discovery: the API of each kind.

use std::sync::Arc;

use anyhow::Context;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use kube::discovery::{ApiCapabilities, Discovery, Scope};
use kube::{Client, ResourceExt};
use tokio::sync::{Mutex, MutexGuard};

/// Returns the API for objects of a kind that is known to exist, in one namespace or in all.
pub fn api(client: &Client, api_version: &str, kind: &str, namespace: Option<&str>) -> Api<DynamicObject> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

/// Returns the API for an object of such a kind, in its namespace.
///
/// # Errors
/// If the object has no kind.
pub fn api_of(client: &Client, object: &DynamicObject) -> anyhow::Result<Api<DynamicObject>> {
    let types = object.types.as_ref().context("object has no kind")?;
    Ok(api(client, &types.api_version, &types.kind, object.namespace().as_deref()))
}

/// Whether two kinds are the same, in any version.
pub fn same(one: &ApiResource, other: &ApiResource) -> bool {
    (&one.group, &one.kind) == (&other.group, &other.kind)
}

/// A kind as discovered from an API server.
#[derive(Debug, Clone)]
pub struct Addressed {
    /// Its name, group, version and plural.
    pub resource: ApiResource,
    /// Its scope and the supported operations.
    pub capabilities: ApiCapabilities,
}

impl Addressed {
    /// Reports whether the kind is namespaced.
    pub fn is_namespaced(&self) -> bool {
        self.capabilities.scope == Scope::Namespaced
    }

    /// Returns the API for its objects in a namespace, or in the default namespace if there is none.
    pub fn api(&self, client: &Client, namespace: Option<&str>) -> Api<DynamicObject> {
        match (self.is_namespaced(), namespace) {
            (true, Some(namespace)) => Api::namespaced_with(client.clone(), namespace, &self.resource),
            (true, None) => Api::default_namespaced_with(client.clone(), &self.resource),
            (false, _) => self.everywhere(client),
        }
    }

    /// Returns the API for its objects in all namespaces.
    pub fn everywhere(&self, client: &Client) -> Api<DynamicObject> {
        Api::all_with(client.clone(), &self.resource)
    }
}

/// Every kind that an API server served at the time of discovery.
#[derive(Clone)]
pub struct Known(Arc<Discovery>);

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Known { .. }")
    }
}

impl Known {
    /// Discovers the kinds of an API server.
    ///
    /// # Errors
    /// The API server's.
    pub async fn ask(client: &Client) -> kube::Result<Self> {
        Ok(Self(Arc::new(Discovery::new(client.clone()).run_aggregated().await?)))
    }

    /// Returns a kind, if the API server serves it.
    pub fn kind(&self, kind: &GroupVersionKind) -> Option<Addressed> {
        let (resource, capabilities) = self.0.resolve_gvk(kind)?;
        Some(Addressed { resource, capabilities })
    }

    /// Returns an object's kind, if the API server serves it.
    pub fn kind_of(&self, object: &DynamicObject) -> Option<Addressed> {
        self.kind(&GroupVersionKind::try_from(object.types.as_ref()?).ok()?)
    }

    /// Returns the versions of all groups that have a kind of this name, such as `apps/v1`; of each group the one that the
    /// API server prefers.
    pub fn versions(&self, kind: &str) -> Vec<String> {
        let mut found: Vec<_> = self.all().filter(|known| known.resource.kind == kind).collect();
        // Groups of Kubernetes have no domain, or one of k8s.io: they are what is meant if there are several.
        found.sort_by_key(|known| known.resource.group.contains('.') && !known.resource.group.ends_with("k8s.io"));
        found.into_iter().map(|known| known.resource.api_version).collect()
    }

    /// Returns all kinds, each in the version that the API server prefers.
    pub fn all(&self) -> impl Iterator<Item = Addressed> {
        let all = self.0.groups().flat_map(|group| group.recommended_resources());
        all.map(|(resource, capabilities)| Addressed { resource, capabilities })
    }
}

/// The kinds of one cluster, discovered once for all appliers of that cluster. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Kinds(Arc<Mutex<Option<Known>>>);

impl Kinds {
    /// Locks the known kinds. While the lock is held, others wait for the result instead of starting another discovery.
    pub async fn lock(&self) -> MutexGuard<'_, Option<Known>> {
        self.0.lock().await
    }

    /// Returns the known kinds; asks the API server if there are none yet.
    ///
    /// # Errors
    /// The API server's.
    pub async fn ask(&self, client: &Client) -> anyhow::Result<Known> {
        let mut known = self.lock().await;
        if let Some(known) = &*known {
            return Ok(known.clone());
        }
        let found = Known::ask(client).await.context("discovering kinds")?;
        Ok(known.insert(found).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn object_path_follows_its_kind() {
        let client = Client::new(
            tower::service_fn(|_| async {
                Ok::<_, tower::BoxError>(http::Response::new(kube::client::Body::empty()))
            }),
            "default",
        );
        let path = |api: Api<DynamicObject>| api.resource_url().to_owned();
        let rules = api(&client, "networking.istio.io/v1", "DestinationRule", Some("sample"));
        assert_eq!(path(rules), "/apis/networking.istio.io/v1/namespaces/sample/destinationrules");
        assert_eq!(path(api(&client, "v1", "Service", None)), "/api/v1/services");
        let policy = serde_json::json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": {"name": "a", "namespace": "b"}});
        let policy = serde_json::from_value(policy).unwrap();
        let found = path(api_of(&client, &policy).unwrap());
        assert_eq!(found, "/apis/security.istio.io/v1/namespaces/b/authorizationpolicies");
    }
}
