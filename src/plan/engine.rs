//! Which engine an environment is on. An environment's files are found by its name alone. With another engine selected,
//! they would be mistaken for the files of an environment on that engine, overwritten by `up` and deleted by `down`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::inventory::EngineFacts;

/// An engine, as recorded in an environment's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineIdentity {
    /// Its id; empty if it has none.
    pub id: String,
    /// Its endpoint, as in `DOCKER_HOST`.
    pub host: String,
}

/// What an environment's files record about its engine.
#[derive(Debug, Clone)]
pub struct EngineOnFile {
    /// The engine that the environment was created on, if recorded.
    pub engine: Option<EngineIdentity>,
    /// The file with that record.
    pub file: PathBuf,
    /// The state directory.
    pub folder: PathBuf,
}

/// How the selected engine relates to the one that an environment was created on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// It is the same engine, or its replacement.
    Same,
    /// It is another engine at another endpoint.
    Elsewhere,
    /// It is another engine at the same endpoint, and also has an environment of that name.
    Replaced,
}

impl EngineIdentity {
    /// Returns the identity of the engine at `host`, with the id that it reports.
    pub fn of(facts: &EngineFacts, host: &str) -> Self {
        Self { id: facts.id.clone(), host: host.to_owned() }
    }

    /// Returns how this engine relates to the one that an environment was created on.
    ///
    /// `has_nodes` says whether this engine has nodes of an environment of that name. An engine at the same endpoint
    /// without such nodes is a replacement: there is nothing to confuse.
    pub fn relation(&self, made_on: &Self, has_nodes: bool) -> Relation {
        let told_apart = !self.id.is_empty() && !made_on.id.is_empty();
        match (told_apart && self.id != made_on.id, self.host == made_on.host) {
            (false, _) => Relation::Same,
            (true, true) if !has_nodes => Relation::Same,
            (true, true) => Relation::Replaced,
            (true, false) => Relation::Elsewhere,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_are_identified_by_id_and_then_by_host() {
        let engine = |id: &str, host: &str| EngineIdentity { id: id.into(), host: host.into() };
        let made_on = engine("A", "unix:///a");
        let cases = [
            (engine("A", "unix:///a"), true, Relation::Same),
            (engine("A", "tcp://a:2375"), true, Relation::Same),
            (engine("", "unix:///b"), true, Relation::Same),
            (engine("B", "unix:///a"), false, Relation::Same),
            (engine("B", "unix:///a"), true, Relation::Replaced),
            (engine("B", "unix:///b"), false, Relation::Elsewhere),
            (engine("B", "unix:///b"), true, Relation::Elsewhere),
        ];
        for (now, has_nodes, expected) in cases {
            assert_eq!(now.relation(&made_on, has_nodes), expected, "{now:?} {has_nodes}");
        }
    }
}
