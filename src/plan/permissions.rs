//! The permissions that kindmesh needs in a cluster that exists: those of the ClusterRole that it documents, so that the role and
//! the question are the same list.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base::error::Error;

/// The ClusterRole.
const CLUSTER_ROLE: &str = include_str!("../../mesh-manifests/existing/cluster-role.yaml");

/// One verb on one resource, in all namespaces.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Permission {
    /// The API group; empty for the core group.
    pub group: String,
    /// The resource, with its subresource if any: `pods/exec`.
    pub resource: String,
    /// The verb.
    pub verb: String,
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.qualified())
    }
}

impl Permission {
    /// Returns the resource as kubectl writes it: `deployments.apps`.
    fn qualified(&self) -> String {
        match self.group.as_str() {
            "" => self.resource.clone(),
            group => format!("{}.{group}", self.resource),
        }
    }
}

/// Returns every permission that kindmesh needs, each once.
///
/// # Errors
/// If the built-in ClusterRole is invalid.
pub fn needed() -> Result<BTreeSet<Permission>, Error> {
    #[derive(Deserialize)]
    struct ClusterRole {
        rules: Vec<Rule>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Rule {
        api_groups: Vec<String>,
        resources: Vec<String>,
        verbs: Vec<String>,
    }
    let role: ClusterRole = serde_yaml::from_str(CLUSTER_ROLE)
        .map_err(|error| Error::environment(format!("invalid built-in file: {error}")))?;
    let mut needed = BTreeSet::new();
    for rule in &role.rules {
        for group in &rule.api_groups {
            for resource in &rule.resources {
                needed.extend(rule.verbs.iter().map(|verb| Permission {
                    group: group.clone(),
                    resource: resource.clone(),
                    verb: verb.clone(),
                }));
            }
        }
    }
    Ok(needed)
}

/// Returns permissions as text, a line for each resource: `create, delete deployments.apps`.
pub fn lines<'a>(permissions: impl IntoIterator<Item = &'a Permission>) -> Vec<String> {
    let mut verbs: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for permission in permissions {
        verbs.entry(permission.qualified()).or_default().push(&permission.verb);
    }
    verbs.into_iter().map(|(resource, verbs)| format!("{} {resource}", verbs.join(", "))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_role_grants_no_more_than_its_user_has() {
        let needed = needed().unwrap();
        assert!(
            needed
                .iter()
                .all(|permission| !["escalate", "bind", "impersonate"].contains(&permission.verb.as_str()))
        );
        // No wildcard of all groups, and no write access to everything of a group.
        let writes = |permission: &&Permission| !["get", "list", "watch"].contains(&permission.verb.as_str());
        assert!(needed.iter().all(|permission| permission.group != "*"));
        assert!(needed.iter().filter(writes).all(|permission| permission.resource != "*"));
    }

    #[test]
    fn a_resource_has_one_line() {
        let of = |group: &str, resource: &str, verb: &str| Permission {
            group: group.into(),
            resource: resource.into(),
            verb: verb.into(),
        };
        let denied = [
            of("", "pods/exec", "create"),
            of("apps", "deployments", "create"),
            of("apps", "deployments", "patch"),
        ];
        assert_eq!(lines(&denied), ["create, patch deployments.apps", "create pods/exec"]);
        assert_eq!(denied[1].to_string(), "create deployments.apps");
    }
}
