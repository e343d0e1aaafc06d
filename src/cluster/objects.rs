//! Live objects: whether they are being deleted, and deleting them.

use kube::api::{Api, DeleteParams};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;

/// Whether an object is being deleted. A change of it would be lost.
pub fn is_terminating(object: &impl ResourceExt) -> bool {
    object.meta().deletion_timestamp.is_some()
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
