//! The exercises: their instructions, states, hints and checks, from `labs/`.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::expectation::Expectation;
use crate::base::error::Error;
use crate::base::names;
use crate::cluster::policies::Side;

macro_rules! files {
    ($($path:literal),* $(,)?) => { &[$(($path, include_str!(concat!("../../../", $path)))),*] };
}

/// Every file of the exercises, by its path in the repository.
const FILES: &[(&str, &str)] = files![
    "labs/01-no-service/README.md",
    "labs/01-no-service/lab.yaml",
    "labs/01-no-service/neighbour.yaml",
    "labs/02-stub/README.md",
    "labs/02-stub/lab.yaml",
    "labs/03-identity/README.md",
    "labs/03-identity/lab.yaml",
    "labs/03-identity/mutual.yaml",
    "labs/03-identity/plain.yaml",
    "labs/04-strict/README.md",
    "labs/04-strict/lab.yaml",
    "labs/05-authorization/README.md",
    "labs/05-authorization/lab.yaml",
    "labs/05-authorization/stranger.yaml",
    "labs/06-timeout/README.md",
    "labs/06-timeout/lab.yaml",
    "labs/06-timeout/timeout.yaml",
    "labs/07-retry-and-breaker/README.md",
    "labs/07-retry-and-breaker/breaker.yaml",
    "labs/07-retry-and-breaker/lab.yaml",
    "labs/07-retry-and-breaker/retry.yaml",
    "labs/08-failover/README.md",
    "labs/08-failover/blind.yaml",
    "labs/08-failover/failover.yaml",
    "labs/08-failover/lab.yaml",
    "labs/08-failover/near.yaml",
    "labs/09-link/README.md",
    "labs/09-link/lab.yaml",
    "labs/10-cluster/README.md",
    "labs/10-cluster/lab.yaml",
    "mesh-manifests/policies/authz.yaml",
    "mesh-manifests/policies/strict.yaml",
    "mesh-manifests/samples/breaker.yaml",
    "mesh-manifests/samples/service.yaml",
    "mesh-manifests/samples/timeout.yaml",
];

/// One exercise.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Exercise {
    /// Its number, from 1.
    #[serde(skip)]
    pub number: usize,
    /// Its directory's name: `06-timeout`.
    #[serde(skip)]
    pub id: String,
    /// Its title, a few words.
    pub title: String,
    /// Its goal, one sentence.
    pub goal: String,
    /// How long it takes a beginner.
    pub minutes: u16,
    /// The state at the start: complete, nothing else that exercises involve exists.
    pub start: State,
    /// The state of the solution: complete.
    pub solution: State,
    /// Its hints, from vague to explicit.
    pub hints: Vec<String>,
    /// The checks for the solution. At the start they fail as described.
    pub checkpoints: Vec<Checkpoint>,
}

/// The state of everything that exercises involve.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct State {
    /// The manifests in the caller's cluster.
    pub caller: Vec<String>,
    /// Those in the producer's.
    pub producer: Vec<String>,
    /// Whether the link of the producer's cluster is disabled.
    #[serde(default)]
    pub link_cut: bool,
    /// Whether the nodes of the producer's cluster are stopped.
    #[serde(default)]
    pub producer_stopped: bool,
}

/// A check: its result at the start, and with the solution.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Checkpoint {
    /// What holds with the solution, one sentence.
    pub claim: String,
    /// Calls sent before the check; their results are not checked.
    pub before: Option<Calls>,
    /// The calls to check. A check has this or one of the four that follow.
    pub call: Option<Calls>,
    /// A plain-text request from the caller's pod, without its proxy, to a producer's address.
    pub plain_text: Option<Place>,
    /// An object that exists or not.
    pub object: Option<Object>,
    /// The route between the clusters.
    pub link: Option<Everywhere>,
    /// The nodes of a cluster.
    pub nodes: Option<Place>,
    /// The result at the start.
    pub at_first: Expectation,
    /// The result with the solution.
    pub works: Expectation,
    /// Whether it runs only if the previous checks hold.
    #[serde(default)]
    pub after_others: bool,
    /// How long it is retried, in seconds: a change takes effect within a second or two.
    #[serde(default = "usual")]
    pub within: u64,
}

fn usual() -> u64 {
    6
}

/// Calls, one after another, each on a new connection.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Calls {
    /// The callers' side.
    #[serde(default = "at_the_caller")]
    pub side: Side,
    /// The callers' Deployment.
    #[serde(default = "sample_caller")]
    pub from: String,
    /// The producer's delay, in milliseconds.
    #[serde(default)]
    pub delay: u64,
    /// The producer's status.
    #[serde(default = "success")]
    pub status: u16,
    /// How many attempts fail with that status; the next one succeeds.
    pub fail_attempts: Option<u64>,
    /// The number of calls.
    #[serde(default = "one")]
    pub count: u32,
}

fn at_the_caller() -> Side {
    Side::Caller
}

fn sample_caller() -> String {
    names::CALLER_NAME.to_owned()
}

fn success() -> u16 {
    200
}

fn one() -> u32 {
    1
}

/// A side.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Place {
    /// Which one.
    pub side: Side,
}

/// All clusters.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Everywhere {}

/// An object in the samples' namespace.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Object {
    /// Its side.
    pub side: Side,
    /// `v1`, `networking.istio.io/v1`, …
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// An exercise in the list.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// Its number.
    pub number: usize,
    /// Its directory's name.
    pub id: String,
    /// Its title, a few words.
    pub title: String,
    /// Its goal.
    pub goal: String,
    /// How long it takes.
    pub minutes: u16,
}

impl Exercise {
    /// Returns all exercises, in order.
    pub fn all() -> &'static [Exercise] {
        static ALL: LazyLock<Vec<Exercise>> = LazyLock::new(|| {
            let ids = FILES.iter().filter_map(|(path, _)| path.strip_prefix("labs/")?.strip_suffix("/lab.yaml"));
            ids.enumerate().filter_map(|(index, id)| read(index + 1, id).ok()).collect()
        });
        &ALL
    }

    /// Returns the exercise of a number.
    ///
    /// # Errors
    /// A usage error if there is none.
    pub fn of(number: usize) -> Result<&'static Exercise, Error> {
        let found = Self::all().iter().find(|exercise| exercise.number == number);
        found.ok_or_else(|| {
            Error::usage(format!("no exercise {number}: choose 1 to {}", Self::all().len()))
                .hint("kindmesh lab list")
        })
    }

    /// Returns the exercise of a directory's name.
    pub fn with_id(id: &str) -> Option<&'static Exercise> {
        Self::all().iter().find(|exercise| exercise.id == id)
    }

    /// Returns its instructions, in Markdown.
    pub fn page(&self) -> &'static str {
        file(&format!("labs/{}/README.md", self.id)).unwrap_or_default()
    }

    /// Returns the manifests that are in its solution and not in its start: what the user has to find out.
    pub fn answer(&self) -> Vec<(Side, &'static str, &'static str)> {
        let sides = [
            (Side::Caller, &self.solution.caller, &self.start.caller),
            (Side::Producer, &self.solution.producer, &self.start.producer),
        ];
        let mut answer = Vec::new();
        for (side, solution, start) in sides {
            let new = FILES.iter().filter(|(path, _)| {
                solution.iter().any(|other| other == path) && !start.iter().any(|other| other == path)
            });
            answer.extend(new.map(|(path, text)| (side, *path, *text)));
        }
        answer
    }

    /// Returns its entry in the list.
    pub fn listed(&self) -> Listed {
        Listed {
            number: self.number,
            id: self.id.clone(),
            title: self.title.clone(),
            goal: self.goal.clone(),
            minutes: self.minutes,
        }
    }
}

impl State {
    /// What `up` creates.
    pub(super) fn of_up() -> Self {
        let samples = |files: &[&str]| -> Vec<String> {
            files.iter().map(|file| format!("mesh-manifests/samples/{file}.yaml")).collect()
        };
        Self {
            caller: samples(&["service", "timeout", "breaker"]),
            producer: samples(&["service"]),
            link_cut: false,
            producer_stopped: false,
        }
    }

    /// Returns the paths of its manifests on a side.
    pub fn manifests(&self, side: Side) -> &[String] {
        match side {
            Side::Caller => &self.caller,
            Side::Producer => &self.producer,
        }
    }
}

/// Returns a file by its path in the repository.
pub(super) fn file(path: &str) -> Option<&'static str> {
    FILES.iter().find(|(known, _)| *known == path).map(|(_, text)| *text)
}

fn read(number: usize, id: &str) -> anyhow::Result<Exercise> {
    let text = file(&format!("labs/{id}/lab.yaml")).unwrap_or_default();
    let exercise: Exercise = serde_yaml::from_str(text)?;
    Ok(Exercise { number, id: id.to_owned(), ..exercise })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cluster::mesh::apply;

    #[test]
    fn every_exercise_parses_and_is_complete() {
        let ids: Vec<_> = FILES.iter().filter(|(path, _)| path.ends_with("/lab.yaml")).collect();
        for (index, (path, _)) in ids.iter().enumerate() {
            let id = path.split('/').nth(1).unwrap();
            let exercise = read(index + 1, id).unwrap_or_else(|error| panic!("{path}: {error:#}"));
            assert!(id.starts_with(&format!("{:02}-", exercise.number)), "{id}");
            assert!(exercise.hints.len() >= 3 && !exercise.checkpoints.is_empty(), "{id}");
            assert_ne!(exercise.start, exercise.solution, "{id}");
            for checkpoint in &exercise.checkpoints {
                let looks = [
                    checkpoint.call.is_some(),
                    checkpoint.plain_text.is_some(),
                    checkpoint.object.is_some(),
                    checkpoint.link.is_some(),
                    checkpoint.nodes.is_some(),
                ];
                assert_eq!(looks.iter().filter(|look| **look).count(), 1, "{id}: {}", checkpoint.claim);
                assert_ne!(checkpoint.works, Expectation::default(), "{id}: {}", checkpoint.claim);
            }
            let first = &exercise.checkpoints[0];
            assert_ne!(first.at_first, first.works, "{id}: the first check already holds at the start");
            for heading in ["## Goal", "## Background", "## Task", "## What to observe"] {
                assert!(exercise.page().contains(heading), "{id} has no {heading}");
            }
            assert!(exercise.page().starts_with(&format!("# {}. {}\n", exercise.number, exercise.title)), "{id}");
            assert!(exercise.page().contains("kindmesh lab check"), "{id}");
        }
        assert_eq!(Exercise::all().len(), ids.len());
        assert!(ids.len() >= 9);
    }

    #[test]
    fn exercise_files_are_embedded_and_manifests_parse() {
        let labs = Path::new(env!("CARGO_MANIFEST_DIR")).join("labs");
        for folder in std::fs::read_dir(&labs).unwrap().flatten().filter(|entry| entry.path().is_dir()) {
            for entry in std::fs::read_dir(folder.path()).unwrap().flatten() {
                let folder = folder.file_name().into_string().unwrap();
                let path = format!("labs/{folder}/{}", entry.file_name().into_string().unwrap());
                assert!(file(&path).is_some(), "{path} is not built in");
            }
        }
        for exercise in Exercise::all() {
            for state in [&exercise.start, &exercise.solution] {
                for path in state.caller.iter().chain(&state.producer) {
                    let text = file(path).unwrap_or_else(|| panic!("{path} of {} is not built in", exercise.id));
                    for object in apply::objects(text).unwrap() {
                        assert_eq!(object.metadata.namespace.as_deref(), Some("sample"), "{path}");
                    }
                }
            }
        }
    }

    #[test]
    fn unknown_exercise_number_is_an_error() {
        assert!(Exercise::of(0).unwrap_err().message.contains("1 to"));
        assert_eq!(Exercise::of(2).unwrap().id, "02-stub");
    }
}
