//! The result of a check, and how it differs from the expected one. No I/O.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::cluster::call::Answer;
use crate::cluster::policies::Side;

/// An expected result: everything that is set must hold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Expectation {
    /// Every call's status is one of these; empty for any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<u16>,
    /// Every call's reason contains this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Exactly these sides responded; empty if none did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answered_by: Option<BTreeSet<Side>>,
    /// The identity that the producer received in every call, or `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// The duration of every call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub millis: Option<Millis>,
    /// Whether the plain-text request was answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answered: Option<bool>,
    /// Whether the object exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub present: Option<bool>,
    /// Whether there is a route between all clusters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<bool>,
    /// Whether all nodes run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<bool>,
}

/// A duration, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Millis {
    /// At least.
    pub from: u64,
    /// Less than.
    pub below: u64,
}

/// The value for no identity.
const NONE: &str = "none";

/// The clusters of the two sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The caller's.
    pub caller: String,
    /// The producer's.
    pub producer: String,
}

impl Places {
    /// Returns the cluster of a side.
    pub fn of(&self, side: Side) -> &str {
        match side {
            Side::Caller => &self.caller,
            Side::Producer => &self.producer,
        }
    }
}

/// One call, as far as it matters here.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Its status.
    pub status: u16,
    /// Why it failed.
    pub reason: Option<String>,
    /// The cluster that responded.
    pub answered_by: Option<String>,
    /// The identity that the producer received.
    pub identity: Option<String>,
    /// The duration.
    pub millis: u64,
}

impl From<&Answer> for Call {
    fn from(answer: &Answer) -> Self {
        Self {
            status: answer.status_code,
            reason: answer.reason.clone(),
            answered_by: answer.served_by().map(str::to_owned),
            identity: answer.identity().map(str::to_owned),
            millis: answer.round_trip_time_millis,
        }
    }
}

/// The result.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    /// Calls.
    Calls(Vec<Call>),
    /// A plain-text request, with its result.
    PlainText {
        /// Whether there was a response.
        answered: bool,
        /// A description.
        told: String,
    },
    /// An object.
    Object {
        /// Whether it exists.
        present: bool,
        /// Its kind, name and cluster.
        told: String,
    },
    /// The route between the clusters.
    Link {
        /// Whether it exists.
        whole: bool,
        /// The routes of every cluster's nodes.
        told: String,
    },
    /// Nodes.
    Nodes {
        /// Whether all run.
        running: bool,
        /// The state of each of them.
        told: String,
    },
    /// It could not be determined.
    Nothing(String),
}

impl Seen {
    /// Describes it in a few words.
    pub fn describe(&self) -> String {
        match self {
            Seen::Calls(calls) => calls_told(calls),
            Seen::PlainText { told, .. } | Seen::Object { told, .. } => told.clone(),
            Seen::Link { told, .. } | Seen::Nodes { told, .. } => told.clone(),
            Seen::Nothing(why) => why.clone(),
        }
    }
}

impl Expectation {
    /// Describes it in a few words.
    pub fn describe(&self, places: &Places) -> String {
        let mut parts = Vec::new();
        if !self.status.is_empty() {
            parts.push(statuses(self.status.iter().copied().collect()));
        }
        if let Some(sides) = &self.answered_by {
            parts.push(answered_in(sides.iter().map(|side| places.of(*side).to_owned()).collect()));
        }
        if let Some(Millis { from, below }) = self.millis {
            parts.push(format!("after {from} to {below} ms"));
        }
        if let Some(identity) = &self.identity {
            parts.push(match identity.as_str() {
                NONE => "the producer receives no caller identity".into(),
                identity => format!("from {identity}"),
            });
        }
        if let Some(reason) = &self.reason {
            parts.push(format!("\"…{reason}…\""));
        }
        let yes_or_no = [
            (self.answered, "a response", "no response"),
            (self.present, "it exists", "it does not exist"),
            (self.link, "a route in both directions", "no route"),
            (self.running, "all running", "not all running"),
        ];
        parts.extend(yes_or_no.into_iter().filter_map(|(wanted, yes, no)| {
            let told = if wanted? { yes } else { no };
            Some(told.to_owned())
        }));
        parts.join(", ")
    }

    /// Whether the result is as expected.
    pub fn holds(&self, seen: &Seen, places: &Places) -> bool {
        match seen {
            Seen::Calls(calls) => self.holds_of_calls(calls, places),
            Seen::PlainText { answered, .. } => self.answered == Some(*answered),
            Seen::Object { present, .. } => self.present == Some(*present),
            Seen::Link { whole, .. } => self.link == Some(*whole),
            Seen::Nodes { running, .. } => self.running == Some(*running),
            Seen::Nothing(_) => false,
        }
    }

    fn holds_of_calls(&self, calls: &[Call], places: &Places) -> bool {
        let each = |call: &Call| {
            let in_time = |millis: Millis| (millis.from..millis.below).contains(&call.millis);
            let told = call.identity.as_deref().unwrap_or(NONE);
            (self.status.is_empty() || self.status.contains(&call.status))
                && self.reason.as_ref().is_none_or(|part| call.reason.as_ref().is_some_and(|r| r.contains(part)))
                && self.identity.as_ref().is_none_or(|identity| identity == told)
                && self.millis.is_none_or(in_time)
        };
        let by: BTreeSet<&str> = calls.iter().filter_map(|call| call.answered_by.as_deref()).collect();
        let wanted = |sides: &BTreeSet<Side>| by == sides.iter().map(|side| places.of(*side)).collect();
        !calls.is_empty() && calls.iter().all(each) && self.answered_by.as_ref().is_none_or(wanted)
    }
}

fn calls_told(calls: &[Call]) -> String {
    let mut parts = Vec::new();
    parts.push(statuses(calls.iter().map(|call| call.status).collect()));
    parts.push(answered_in(calls.iter().filter_map(|call| call.answered_by.clone()).collect()));
    if let (Some(least), Some(most)) =
        (calls.iter().map(|call| call.millis).min(), calls.iter().map(|call| call.millis).max())
    {
        parts.push(if least == most {
            format!("after {least} ms")
        } else {
            format!("after {least} to {most} ms")
        });
    }
    if calls.iter().any(|call| call.answered_by.is_some()) {
        let identities: BTreeSet<_> = calls.iter().filter_map(|call| call.identity.as_deref()).collect();
        parts.push(match identities.is_empty() {
            true => "the producer received no caller identity".into(),
            false => format!("from {}", identities.into_iter().collect::<Vec<_>>().join(" and ")),
        });
    }
    let reasons: BTreeSet<_> = calls.iter().filter_map(|call| call.reason.as_deref()).collect();
    parts.extend(reasons.into_iter().map(|reason| format!("\"{reason}\"")));
    let told = parts.join(", ");
    if calls.len() > 1 { format!("{} calls: {told}", calls.len()) } else { told }
}

fn statuses(statuses: BTreeSet<u16>) -> String {
    let statuses: Vec<_> = statuses.iter().map(ToString::to_string).collect();
    format!("status {}", statuses.join(" or "))
}

fn answered_in(clusters: BTreeSet<String>) -> String {
    match clusters.is_empty() {
        true => "no cluster answered".into(),
        false => format!("answered in {}", clusters.into_iter().collect::<Vec<_>>().join(" and ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        Places { caller: "cluster1".into(), producer: "cluster2".into() }
    }

    fn call(status: u16, by: Option<&str>, millis: u64) -> Call {
        let reason = by.is_none().then(|| "upstream request timeout".to_owned());
        Call { status, reason, answered_by: by.map(str::to_owned), identity: None, millis }
    }

    fn expectation(yaml: &str) -> Expectation {
        serde_yaml::from_str(yaml).unwrap()
    }

    #[test]
    fn every_expectation_must_hold_for_every_call() {
        let timed_out = expectation(
            "{status: [504], answeredBy: [], millis: {from: 1900, below: 3800}, reason: request timeout}",
        );
        let holds = |calls: &[Call]| timed_out.holds(&Seen::Calls(calls.to_vec()), &places());
        assert!(holds(&[call(504, None, 2000)]));
        assert!(!holds(&[call(504, None, 5000)]), "too slow");
        assert!(!holds(&[call(503, None, 2000)]));
        assert!(!holds(&[call(504, None, 2000), call(200, Some("cluster2"), 2000)]));
        assert!(!holds(&[]));
        assert!(!timed_out.holds(&Seen::Nothing("no caller".into()), &places()));
    }

    #[test]
    fn responders_must_match_exactly() {
        let both = expectation("{answeredBy: [caller, producer]}");
        let near = call(200, Some("cluster1"), 1);
        let far = call(200, Some("cluster2"), 1);
        assert!(both.holds(&Seen::Calls(vec![near.clone(), far]), &places()));
        assert!(!both.holds(&Seen::Calls(vec![near.clone(), near]), &places()));
    }

    #[test]
    fn caller_identity_is_optional() {
        let mut told = call(200, Some("cluster2"), 1);
        let none = expectation("{identity: none}");
        assert!(none.holds(&Seen::Calls(vec![told.clone()]), &places()));
        told.identity = Some("spiffe://a".into());
        assert!(!none.holds(&Seen::Calls(vec![told.clone()]), &places()));
        assert!(expectation("{identity: 'spiffe://a'}").holds(&Seen::Calls(vec![told]), &places()));
    }

    #[test]
    fn both_are_described_alike() {
        let expected = expectation("{status: [504], answeredBy: [producer], millis: {from: 1, below: 9}}");
        assert_eq!(expected.describe(&places()), "status 504, answered in cluster2, after 1 to 9 ms");
        let seen = Seen::Calls(vec![call(504, None, 7), call(200, Some("cluster2"), 3)]);
        assert_eq!(
            seen.describe(),
            "2 calls: status 200 or 504, answered in cluster2, after 3 to 7 ms, \
             the producer received no caller identity, \"upstream request timeout\""
        );
    }

    #[test]
    fn findings_of_one_source_do_not_affect_another() {
        let seen = Seen::PlainText { answered: false, told: String::new() };
        assert!(!expectation("{status: [200]}").holds(&seen, &places()));
        assert!(expectation("{answered: false}").holds(&seen, &places()));
    }
}
