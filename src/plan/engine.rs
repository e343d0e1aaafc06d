//! Which engine an environment is on. Its files are found by its name alone: with another engine selected they would
//! be taken for those of an environment there, overwritten by `up` and deleted by `down`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::inventory::EngineFacts;

/// An engine, as an environment's files name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineIdentity {
    /// Its own identifier; empty where it has none.
    pub id: String,
    /// Where it answers, as in `DOCKER_HOST`.
    pub host: String,
}

/// What an environment's files say of its engine.
#[derive(Debug, Clone)]
pub struct EngineOnFile {
    /// The engine that it was made on, if they tell.
    pub engine: Option<EngineIdentity>,
    /// The file that tells.
    pub file: PathBuf,
    /// The folder of all of them.
    pub folder: PathBuf,
}

/// How the engine that is selected relates to the one that an environment was made on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// It is the same, or has taken its place.
    Same,
    /// It is another one, at another place.
    Elsewhere,
    /// It is another one at the same place, and has an environment of that name too.
    Replaced,
}

impl EngineIdentity {
    /// That of the engine that answers at `host`, by what it says of itself.
    pub fn of(facts: &EngineFacts, host: &str) -> Self {
        Self { id: facts.id.clone(), host: host.to_owned() }
    }

    /// How this engine relates to the one that an environment was made on.
    ///
    /// `has_nodes` says whether this engine has nodes of an environment of that name. An engine that answers at the
    /// same place and has none was made anew: then there is nothing to mix up.
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
    fn engines_are_told_apart_by_id_and_then_by_host() {
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
