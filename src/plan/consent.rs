//! Consent to change clusters that exist. A context in a spec is not consent: the spec may be anyone's, and the context somebody's
//! production. Each cluster is agreed to once, for one environment and for what `up` said that it does there.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::existing::Facts;
use crate::base::error::Error;
use crate::base::hint::up_hint;
use crate::base::names::ISTIO_NAMESPACE;
use crate::spec::Spec;

/// What `up` does in one cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Grant {
    /// The UID of the cluster's namespace kube-system.
    pub uid: String,
    /// Its name in the mesh.
    pub cluster: String,
    /// Its context.
    pub context: String,
    /// The URL of its API server.
    pub server: String,
    /// Whether Istio is installed; otherwise the Istio that is there is used.
    #[serde(default = "installs")]
    pub installs: bool,
    /// The namespaces that are created or changed.
    pub namespaces: BTreeSet<String>,
    /// The clusters that get a token to read this one: its Services, endpoints, pods, nodes, Secrets and ConfigMaps.
    pub readers: BTreeSet<String>,
}

/// Consent that earlier versions stored was to install Istio.
fn installs() -> bool {
    true
}

impl Grant {
    /// Whether an earlier consent includes this. The name of the context and the URL of the API server may have changed: the UID
    /// says that it is the same cluster.
    fn is_in(&self, given: &Self) -> bool {
        self.uid == given.uid
            && (given.installs || !self.installs)
            && self.namespaces.is_subset(&given.namespaces)
            && self.readers.is_subset(&given.readers)
    }

    /// Returns what a person agrees to.
    pub fn lines(&self) -> Vec<String> {
        let list = |names: &BTreeSet<String>| names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let mut lines =
            vec![format!("cluster {}: context {}, API server {}", self.cluster, self.context, self.server)];
        let namespaces = format!("  creates objects in the namespaces {}", list(&self.namespaces));
        lines.push(match self.installs {
            true => format!("{namespaces}, and cluster roles, webhooks and CRDs of Istio"),
            false => format!("{namespaces}; Istio stays as it is"),
        });
        if !self.readers.is_empty() {
            lines.push(format!(
                "  gives {} a token that reads its Services, pods, nodes, Secrets and ConfigMaps",
                list(&self.readers)
            ));
        }
        lines
    }
}

/// Returns what `up` does in each cluster that exists, by the facts about those clusters.
pub fn wanted(spec: &Spec, facts: &BTreeMap<String, Facts>) -> Vec<Grant> {
    let mut namespaces = BTreeSet::from([ISTIO_NAMESPACE.to_owned()]);
    if spec.samples.enabled {
        namespaces.insert(spec.samples.namespace.to_string());
    }
    let grant = |cluster: &crate::spec::Cluster| {
        let found = facts.get(cluster.name.as_str())?;
        // The istiod of each peer reads this cluster.
        let readers = spec.clusters.iter().filter(|other| other.name != cluster.name);
        let readers = readers.filter(|other| spec.primary_of(other).is_none());
        Some(Grant {
            uid: found.uid.clone(),
            cluster: cluster.name.to_string(),
            context: cluster.context.clone()?,
            server: found.server.clone(),
            installs: spec.mesh.install,
            namespaces: namespaces.clone(),
            readers: readers.map(|other| other.name.to_string()).collect(),
        })
    };
    spec.clusters.iter().filter_map(grant).collect()
}

/// Returns what was not agreed to yet.
pub fn missing(wanted: &[Grant], given: &[Grant]) -> Vec<Grant> {
    wanted.iter().filter(|grant| !given.iter().any(|given| grant.is_in(given))).cloned().collect()
}

/// Returns the consent to store: what is wanted now, and what was given for other clusters.
pub fn merged(wanted: &[Grant], given: &[Grant]) -> Vec<Grant> {
    let others = given.iter().filter(|given| !wanted.iter().any(|grant| grant.uid == given.uid));
    wanted.iter().chain(others).cloned().collect()
}

/// Refuses to change clusters that nobody agreed to, where nobody can be asked; `allowed` are the contexts of
/// `--allow-context`.
///
/// # Errors
/// A usage error with what would be done, and the flags that allow it.
pub fn require(environment: &str, missing: &[Grant], allowed: &[String]) -> Result<(), Error> {
    let missing: Vec<_> = missing.iter().filter(|grant| !allowed.contains(&grant.context)).collect();
    let Some(first) = missing.first() else { return Ok(()) };
    let what = match missing.as_slice() {
        [_] => format!("nobody has agreed to change the cluster of context {}", first.context),
        all => format!("nobody has agreed to change {} clusters", all.len()),
    };
    let mut error = Error::usage(what);
    for line in missing.iter().flat_map(|grant| grant.lines()) {
        error = error.evidence(line);
    }
    let flags: String =
        missing.iter().map(|grant| format!(" --allow-context {}", quoted(&grant.context))).collect();
    Err(error.hint(format!("run it in a terminal to be asked, or: {}{flags}", up_hint(environment))))
}

/// Returns a word for a shell.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec;

    fn facts() -> BTreeMap<String, Facts> {
        let of = |uid: &str, server: &str| Facts { uid: uid.into(), server: server.into(), ..Facts::default() };
        [("east".to_owned(), of("1", "https://10.0.0.5")), ("west".to_owned(), of("2", "https://10.1.0.5"))].into()
    }

    fn spec(text: &str) -> Spec {
        spec::from_text(text, "kindmesh.yaml").unwrap().spec
    }

    const TWO: &str = "{name: shop, clusters: [{name: east, context: 'a b'}, {name: west, context: b}]}";

    #[test]
    fn consent_is_for_a_cluster_and_for_what_is_done_there() {
        let wanted = wanted(&spec(TWO), &facts());
        assert_eq!(missing(&wanted, &[]), wanted);
        let given = merged(&wanted, &[]);
        assert!(missing(&wanted, &given).is_empty());
        // Another name of the context and another URL are the same cluster; another UID is not.
        let renamed = Grant { context: "c".into(), server: "https://10.0.0.6".into(), ..wanted[0].clone() };
        assert!(missing(&[renamed], &given).is_empty());
        let other = Grant { uid: "3".into(), ..wanted[0].clone() };
        assert_eq!(missing(std::slice::from_ref(&other), &given), std::slice::from_ref(&other));
        // One more namespace, or one more cluster that reads it.
        let more = Grant { readers: ["west".to_owned(), "far".to_owned()].into(), ..wanted[0].clone() };
        assert_eq!(missing(std::slice::from_ref(&more), &given), std::slice::from_ref(&more));
        let more = Grant { namespaces: ["shop".to_owned()].into(), ..wanted[0].clone() };
        assert_eq!(missing(std::slice::from_ref(&more), &given), std::slice::from_ref(&more));
        // An Istio that is installed instead of used.
        let used = Grant { installs: false, ..wanted[0].clone() };
        let given_for_less = merged(std::slice::from_ref(&used), &[]);
        assert_eq!(missing(&wanted[..1], &given_for_less), &wanted[..1]);
        assert!(missing(&[used], &given).is_empty());
        // Less is included.
        let less = Grant { readers: BTreeSet::new(), ..wanted[0].clone() };
        assert!(missing(&[less], &given).is_empty());
        // Consent for a cluster that the spec no longer lists stays.
        assert_eq!(merged(std::slice::from_ref(&other), &given).len(), 3);
        assert_eq!(merged(&wanted, &given), given);
    }

    #[test]
    fn without_a_terminal_each_context_is_named() {
        let missing = missing(&wanted(&spec(TWO), &facts()), &[]);
        let error = require("shop", &missing, &[]).unwrap_err();
        assert_eq!(error.message, "nobody has agreed to change 2 clusters");
        assert_eq!(
            error.evidence,
            [
                "cluster east: context a b, API server https://10.0.0.5",
                "  creates objects in the namespaces istio-system, sample, and cluster roles, webhooks and CRDs of Istio",
                "  gives west a token that reads its Services, pods, nodes, Secrets and ConfigMaps",
                "cluster west: context b, API server https://10.1.0.5",
                "  creates objects in the namespaces istio-system, sample, and cluster roles, webhooks and CRDs of Istio",
                "  gives east a token that reads its Services, pods, nodes, Secrets and ConfigMaps",
            ]
        );
        let hint = error.hint.unwrap();
        assert!(hint.ends_with(" --allow-context 'a b' --allow-context b"), "{hint}");
        let error = require("shop", &missing, &["b".into()]).unwrap_err();
        assert_eq!(error.message, "nobody has agreed to change the cluster of context a b");
        require("shop", &missing, &["b".into(), "a b".into()]).unwrap();
    }
}
