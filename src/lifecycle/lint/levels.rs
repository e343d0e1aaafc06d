//! The traffic policies of a DestinationRule: for its host, for subsets, and for single ports of either.

use serde_json::Value;

use super::mesh::{Source, list};

/// A traffic policy.
#[derive(Debug, Clone)]
pub(super) struct Level<'a> {
    /// Its path in the DestinationRule.
    pub path: String,
    /// The policy.
    pub policy: &'a Value,
    /// The subset that it is for, if it is for one.
    pub subset: Option<&'a Value>,
}

/// Returns all traffic policies of a DestinationRule.
pub(super) fn levels(rule: &Source) -> Vec<Level<'_>> {
    let mut found = Vec::new();
    add(&mut found, "spec.trafficPolicy".to_owned(), &rule.spec()["trafficPolicy"], None);
    for (index, subset) in rule.list("subsets").iter().enumerate() {
        let path = format!("spec.subsets[{index}].trafficPolicy");
        add(&mut found, path, &subset["trafficPolicy"], Some(subset));
    }
    found
}

fn add<'a>(found: &mut Vec<Level<'a>>, path: String, policy: &'a Value, subset: Option<&'a Value>) {
    if !policy.is_object() {
        return;
    }
    for (index, port) in list(&policy["portLevelSettings"]).iter().enumerate() {
        found.push(Level { path: format!("{path}.portLevelSettings[{index}]"), policy: port, subset });
    }
    found.push(Level { path, policy, subset });
}
