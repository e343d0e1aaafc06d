//! The policies: names, sides, manifests.

use std::fmt;

use anyhow::Context;
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::base::error::Error;
use crate::base::names;
use crate::cluster::mesh::apply;
use crate::cluster::workloads;
use crate::plan::{MANAGED_BY, MANAGED_BY_LABEL};

/// The label with the policy that an object is.
pub(crate) const LABEL: &str = "kindmesh/policy";

/// A named Istio manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "camelCase")]
pub enum Policy {
    /// Fail calls that take longer than 5 s with 504
    Timeout,
    /// Eject producers that keep failing, for a while
    Breaker,
    /// Retry failed calls up to two times within the timeout
    Retry,
    /// Fail half of the calls with 503 in the caller's proxy
    Fault,
    /// Keep calls in the caller's region until its producers fail
    Failover,
    /// Require mutual TLS for calls to the producer
    Strict,
    /// Allow only the sample caller to call the producer
    Authz,
    /// Deny calls from the sample caller to the producer
    Deny,
}

/// The side of a call at which a policy takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Side {
    /// Routing, in the caller's proxy.
    Caller,
    /// Access control, in the producer's proxy.
    Producer,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Caller => "caller",
            Side::Producer => "producer",
        })
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.value().get_name())
    }
}

impl Policy {
    /// Returns all policies.
    pub fn all() -> &'static [Policy] {
        clap::ValueEnum::value_variants()
    }

    /// Returns its name and description, which are defined only as the help of the command line.
    fn value(self) -> clap::builder::PossibleValue {
        clap::ValueEnum::to_possible_value(&self).unwrap_or_default()
    }

    /// Returns what it does, in one sentence.
    pub fn does(self) -> String {
        self.value().get_help().map(ToString::to_string).unwrap_or_default()
    }

    /// Returns the side at which it takes effect.
    pub fn side(self) -> Side {
        match self {
            Policy::Timeout | Policy::Breaker | Policy::Retry | Policy::Fault | Policy::Failover => Side::Caller,
            Policy::Strict | Policy::Authz | Policy::Deny => Side::Producer,
        }
    }

    /// Reports whether `up` applies it.
    pub fn is_ups_own(self) -> bool {
        matches!(self, Policy::Timeout | Policy::Breaker)
    }

    /// Returns the policy of `up` that it replaces: both are the same object.
    pub(crate) fn replaces(self) -> Option<Policy> {
        match self {
            Policy::Retry | Policy::Fault => Some(Policy::Timeout),
            Policy::Failover => Some(Policy::Breaker),
            _ => None,
        }
    }

    fn manifest(self) -> &'static str {
        match self {
            Policy::Timeout => workloads::TIMEOUT,
            Policy::Breaker => workloads::BREAKER,
            Policy::Retry => include_str!("../../../mesh-manifests/policies/retry.yaml"),
            Policy::Fault => include_str!("../../../mesh-manifests/policies/fault.yaml"),
            Policy::Failover => include_str!("../../../mesh-manifests/policies/failover.yaml"),
            Policy::Strict => include_str!("../../../mesh-manifests/policies/strict.yaml"),
            Policy::Authz => include_str!("../../../mesh-manifests/policies/authz.yaml"),
            Policy::Deny => include_str!("../../../mesh-manifests/policies/deny.yaml"),
        }
    }

    /// Returns its object for samples in a namespace.
    ///
    /// # Errors
    /// If a built-in file is invalid.
    pub fn object(self, namespace: &str) -> anyhow::Result<DynamicObject> {
        let mut objects = apply::objects(self.manifest())?;
        let mut object = objects.pop().filter(|_| objects.is_empty()).context("a policy must be one object")?;
        object.metadata.namespace = Some(namespace.to_owned());
        let identity = format!("cluster.local/ns/{namespace}/sa/{}", names::CALLER_NAME);
        if let Some(principals) = object.data.pointer_mut("/spec/rules/0/from/0/source/principals") {
            *principals = json!([identity]);
        }
        Ok(object)
    }

    /// Returns the policy that an object of this policy's kind and name is. An object without the label is from an older `up`.
    pub(super) fn found_in(self, live: &DynamicObject) -> Option<Policy> {
        match live.labels().get(LABEL) {
            Some(name) => clap::ValueEnum::from_str(name, false).ok(),
            None => self.replaces().or_else(|| self.is_ups_own().then_some(self)),
        }
    }
}

/// Refuses two policies that are the same object: the second would undo the first.
pub(super) fn refuse_rivals(policies: &[Policy]) -> Result<(), Error> {
    let own = |policy: Policy| policy.replaces().unwrap_or(policy);
    for (number, first) in policies.iter().enumerate() {
        let rival = policies[number + 1..].iter().find(|other| *other != first && own(**other) == own(*first));
        if let Some(rival) = rival {
            return Err(Error::usage(format!(
                "{first} and {rival} cannot be applied together: each replaces the other"
            ))
            .hint("apply only one of them"));
        }
    }
    Ok(())
}

pub(crate) fn is_ours(object: &DynamicObject) -> bool {
    object.labels().get(MANAGED_BY_LABEL).is_some_and(|by| by == MANAGED_BY)
}

pub(crate) fn called(object: &DynamicObject) -> String {
    let kind = object.types.as_ref().map(|types| types.kind.as_str()).unwrap_or_default();
    format!("{kind} {}", object.name_any())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labelled(policy: Policy) -> DynamicObject {
        policy.object("sample").unwrap()
    }

    #[test]
    fn every_policy_has_its_sides_kind_and_its_name_label() {
        for &policy in Policy::all() {
            let object = policy.object("demo").unwrap();
            let types = object.types.clone().unwrap();
            let group = match policy.side() {
                Side::Caller => "networking.istio.io/v1",
                Side::Producer => "security.istio.io/v1",
            };
            assert_eq!(types.api_version, group, "{policy}");
            assert_eq!(object.namespace().as_deref(), Some("demo"));
            assert_eq!(object.labels()[LABEL], policy.to_string());
            assert!(is_ours(&object));
            let part_of = if policy.is_ups_own() { names::PART_OF } else { "kindmesh-policies" };
            assert_eq!(object.labels()[names::PART_OF_LABEL], part_of, "up would prune it, or not recognize it");
            assert!(!policy.does().is_empty());
        }
    }

    #[test]
    fn policies_share_a_name_only_with_the_policy_they_replace() {
        let key = |policy: Policy| called(&labelled(policy));
        for &policy in Policy::all() {
            for &other in Policy::all().iter().filter(|other| **other != policy) {
                let rivals = refuse_rivals(&[policy, other]).is_err();
                assert_eq!(key(policy) == key(other), rivals, "{policy} and {other}");
            }
        }
        assert!(refuse_rivals(&[Policy::Strict, Policy::Strict]).is_ok());
    }

    #[test]
    fn caller_identity_contains_the_namespace() {
        for policy in [Policy::Authz, Policy::Deny] {
            let text = policy.object("demo").unwrap().data.to_string();
            assert!(
                text.contains("cluster.local/ns/demo/sa/sample-caller") && !text.contains("/ns/sample/"),
                "{text}"
            );
        }
    }

    #[test]
    fn sample_image_is_identified_by_its_label() {
        assert_eq!(Policy::Timeout.found_in(&labelled(Policy::Retry)), Some(Policy::Retry));
        let mut older = labelled(Policy::Timeout);
        older.labels_mut().remove(LABEL);
        assert_eq!(Policy::Retry.found_in(&older), Some(Policy::Timeout));
        assert_eq!(Policy::Strict.found_in(&older), None);
        older.labels_mut().insert(LABEL.into(), "of-a-later-version".into());
        assert_eq!(Policy::Timeout.found_in(&older), None);
    }
}
