//! How the current state differs from the solution: what is missing, what is in the wrong cluster, which fields
//! differ. Where, but not how: that is left to the user.

use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::Value;

use super::clusters::{Clusters, Key, SIDES};
use super::exercise::Exercise;
use super::expectation::Places;
use crate::cluster::policies::Side;

/// How many differences within one object are listed.
const MOST: usize = 5;

/// The policies of one side.
pub(super) struct Of<'a> {
    pub side: Side,
    pub policies: &'a [DynamicObject],
}

impl Clusters<'_> {
    /// Returns the differences, a sentence each.
    pub async fn different(&self, exercise: &Exercise) -> anyhow::Result<Vec<String>> {
        let mut differences = Vec::new();
        let mut found = Vec::new();
        for side in SIDES {
            match self.policies(side).await {
                Ok(policies) => found.push((side, policies)),
                // The checks report a cluster that does not respond.
                Err(_) => continue,
            }
        }
        let there: Vec<_> = found.iter().map(|(side, policies)| Of { side: *side, policies }).collect();
        for side in there.iter().map(|of| of.side) {
            let wanted = self.objects(&exercise.solution, side, "")?;
            for object in &wanted {
                let key = Key::of(object);
                if key.is_policy() {
                    differences.extend(of_policy(object, side, &there, &self.places));
                } else if self.api(side, &key.api_version, &key.kind).get_opt(&key.name).await?.is_none() {
                    differences.push(format!("{key} is missing in {}", self.places.of(side)));
                }
            }
            differences.extend(superfluous(&wanted, side, &there, &self.places));
        }
        Ok(differences)
    }
}

/// Returns what is different about a policy of the solution.
fn of_policy(wanted: &DynamicObject, side: Side, there: &[Of<'_>], places: &Places) -> Option<String> {
    let key = Key::of(wanted);
    let find = |side: Side| {
        let of = there.iter().find(|of| of.side == side)?;
        of.policies.iter().find(|found| Key::of(found) == key)
    };
    let other = match side {
        Side::Caller => Side::Producer,
        Side::Producer => Side::Caller,
    };
    let here = places.of(side);
    let Some(found) = find(side) else {
        return Some(match find(other) {
            Some(_) => {
                format!("{key} is in {}, but takes effect in the {side}'s cluster: {here}", places.of(other))
            }
            None => format!("{key} is missing in {here}"),
        });
    };
    let mut paths = Vec::new();
    compare(&found.data["spec"], &wanted.data["spec"], "spec", &mut paths);
    match paths.len() {
        0 => None,
        more if more > MOST => Some(format!("{key} in {here} differs from the solution in many fields")),
        _ => Some(format!("{key} in {here} differs from the solution in {}", paths.join(", "))),
    }
}

/// Policies that are not in the solution.
fn superfluous(wanted: &[DynamicObject], side: Side, there: &[Of<'_>], places: &Places) -> Vec<String> {
    let keys: Vec<_> = wanted.iter().map(Key::of).collect();
    let policies = there.iter().filter(|of| of.side == side).flat_map(|of| of.policies);
    let others = policies.filter(|found| !keys.contains(&Key::of(found)));
    others
        .map(|found| {
            let key = Key::of(found);
            format!("{} {} in {} is not part of the solution", key.kind, found.name_any(), places.of(side))
        })
        .collect()
}

/// Returns the paths at which two values differ.
fn compare(found: &Value, wanted: &Value, path: &str, paths: &mut Vec<String>) {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => {
            let mut keys: Vec<_> = found.keys().chain(wanted.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let of = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                compare(&of(found), &of(wanted), &format!("{path}.{key}"), paths);
            }
        }
        (Value::Array(found), Value::Array(wanted)) if found.len() == wanted.len() => {
            for (index, (found, wanted)) in found.iter().zip(wanted).enumerate() {
                compare(found, wanted, &format!("{path}[{index}]"), paths);
            }
        }
        _ if found == wanted => {}
        _ => paths.push(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::mesh::apply;
    use serde_json::json;

    fn places() -> Places {
        Places { caller: "cluster1".into(), producer: "cluster2".into() }
    }

    fn timeout(seconds: &str) -> DynamicObject {
        apply::object(json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": "sample-producer"},
            "spec": {"hosts": ["sample-producer"], "http": [{"timeout": seconds}]}}))
        .unwrap()
    }

    #[test]
    fn differences_are_missing_misplaced_or_changed_policies() {
        let told = |caller: &[DynamicObject], producer: &[DynamicObject]| {
            let there =
                [Of { side: Side::Caller, policies: caller }, Of { side: Side::Producer, policies: producer }];
            of_policy(&timeout("2s"), Side::Caller, &there, &places())
        };
        let is = |text: &str| Some(format!("VirtualService sample-producer {text}"));
        assert_eq!(told(&[timeout("2s")], &[]), None);
        assert_eq!(told(&[], &[]).unwrap(), "VirtualService sample-producer is missing in cluster1");
        assert_eq!(
            told(&[], &[timeout("2s")]),
            is("is in cluster2, but takes effect in the caller's cluster: cluster1")
        );
        let otherwise = "in cluster1 differs from the solution in spec.http[0].timeout";
        assert_eq!(told(&[timeout("20s")], &[]), is(otherwise));
    }

    #[test]
    fn objects_outside_the_solution_are_named() {
        let policies = [timeout("2s")];
        let there = [Of { side: Side::Producer, policies: &policies }];
        assert_eq!(
            superfluous(&[], Side::Producer, &there, &places()),
            ["VirtualService sample-producer in cluster2 is not part of the solution"]
        );
        assert!(superfluous(&policies, Side::Producer, &there, &places()).is_empty());
        assert!(superfluous(&[], Side::Caller, &there, &places()).is_empty());
    }
}
