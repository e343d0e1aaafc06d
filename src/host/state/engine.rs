//! Which engine an environment is on. Its files are found by its name alone: with another engine selected they would
//! be taken for those of an environment there, overwritten by `up` and deleted by `down`.

use std::io::ErrorKind;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::{Files, write_private};
use crate::base::error::Error;
use crate::plan::inventory::EngineFacts;

/// An engine, as an environment's files name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineIdentity {
    /// Its own identifier; empty where it has none.
    pub id: String,
    /// Where it answers, as in `DOCKER_HOST`.
    pub host: String,
}

impl EngineIdentity {
    /// That of the engine that answers at `host`, by what it says of itself.
    pub fn of(facts: &EngineFacts, host: &str) -> Self {
        Self { id: facts.id.clone(), host: host.to_owned() }
    }

    /// Writes down that the environment is on this engine.
    ///
    /// # Errors
    /// The file system's.
    pub fn store(&self, files: &Files) -> anyhow::Result<bool> {
        write_private(&files.engine(), serde_yaml::to_string(self)?.as_bytes())
    }

    /// The engine that the environment was made on, if its files tell.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn stored(files: &Files) -> anyhow::Result<Option<Self>> {
        let path = files.engine();
        let what = || format!("reading {}", path.display());
        match std::fs::read_to_string(&path) {
            Ok(text) => serde_yaml::from_str(&text).map(Some).with_context(what),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(what),
        }
    }

    /// Refuses to work with this engine on an environment that is on another one.
    ///
    /// `has_nodes` says whether this engine has nodes of an environment of that name. An engine that answers at the
    /// same place and has none was made anew: then there is nothing to mix up.
    ///
    /// # Errors
    /// A usage error that names both engines and the way; or the file system's.
    pub fn refuse_another(&self, environment: &str, files: &Files, has_nodes: bool) -> anyhow::Result<()> {
        let Some(stored) = Self::stored(files)? else { return Ok(()) };
        match self.compare(&stored, has_nodes) {
            Relation::Same => Ok(()),
            Relation::Elsewhere => Err(Error::usage(format!(
                "environment \"{environment}\" is on the engine at {}, and the one selected is at {}",
                stored.host, self.host
            ))
            .hint(format!(
                "go back to its engine: DOCKER_HOST={}, or docker context use; if that engine is gone for good: rm -r {}",
                stored.host,
                files.root.display()
            ))
            .into()),
            Relation::Replaced => Err(Error::usage(format!(
                "environment \"{environment}\" is on the engine at {} that was {}, and now {} answers there, with \
                 nodes of another environment of that name",
                stored.host, stored.id, self.id
            ))
            .hint(format!(
                "start its engine again; if they are the same: rm {}; if that engine is gone for good: rm -r {}",
                files.engine().display(),
                files.root.display()
            ))
            .into()),
        }
    }

    /// Whether the environment of these files was made on this engine, or on nobody knows which.
    pub fn has_made(&self, files: &Files) -> bool {
        match Self::stored(files) {
            Ok(Some(stored)) => self.compare(&stored, false) == Relation::Same,
            Ok(None) => true,
            Err(_) => false,
        }
    }

    fn compare(&self, stored: &Self, has_nodes: bool) -> Relation {
        let told_apart = !self.id.is_empty() && !stored.id.is_empty();
        match (told_apart && self.id != stored.id, self.host == stored.host) {
            (false, _) => Relation::Same,
            (true, true) if !has_nodes => Relation::Same,
            (true, true) => Relation::Replaced,
            (true, false) => Relation::Elsewhere,
        }
    }
}

/// How the engine that is selected relates to the one that an environment was made on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    /// It is the same, or has taken its place.
    Same,
    /// It is another one, at another place.
    Elsewhere,
    /// It is another one at the same place, and has an environment of that name too.
    Replaced,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::{self, Kind};
    use crate::host::state::Folders;

    fn engine(id: &str, host: &str) -> EngineIdentity {
        EngineIdentity { id: id.into(), host: host.into() }
    }

    #[test]
    fn engines_are_told_apart_by_id_and_then_by_host() {
        let stored = engine("A", "unix:///a");
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
            assert_eq!(now.compare(&stored, has_nodes), expected, "{now:?} {has_nodes}");
        }
    }

    #[test]
    fn another_engine_is_refused_with_the_way() {
        let folder = tempfile::tempdir().unwrap();
        let folders = Folders { state: folder.path().to_owned(), cache: folder.path().join("cache") };
        let files = folders.environment("shop");
        let other = engine("B", "unix:///b");
        other.refuse_another("shop", &files, true).unwrap();
        engine("A", "unix:///a").store(&files).unwrap();
        assert_eq!(EngineIdentity::stored(&files).unwrap(), Some(engine("A", "unix:///a")));

        let refused = other.refuse_another("shop", &files, false).unwrap_err();
        let refused = error::find(&refused).unwrap();
        assert_eq!(refused.kind, Kind::Usage);
        let message = "environment \"shop\" is on the engine at unix:///a, and the one selected is at unix:///b";
        assert_eq!(refused.message, message);
        let hint = refused.hint.as_deref().unwrap();
        assert!(hint.contains("DOCKER_HOST=unix:///a"), "{hint}");
        assert!(hint.ends_with(&format!("rm -r {}", files.root.display())), "{hint}");

        std::fs::write(files.engine(), "?").unwrap();
        assert!(other.refuse_another("shop", &files, false).is_err());
    }
}
