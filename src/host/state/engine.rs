//! The file that records the engine of an environment.

use std::io::ErrorKind;

use anyhow::Context;

use super::{Files, write_private};
use crate::plan::engine::{EngineIdentity, EngineOnFile, Relation};

impl Files {
    /// Records that the environment is on this engine.
    ///
    /// # Errors
    /// The file system's errors.
    pub fn store_engine(&self, engine: &EngineIdentity) -> anyhow::Result<bool> {
        write_private(&self.engine(), serde_yaml::to_string(engine)?.as_bytes())
    }

    /// Returns the recorded engine of the environment.
    ///
    /// # Errors
    /// If the file exists and cannot be read.
    pub fn engine_on_file(&self) -> anyhow::Result<EngineOnFile> {
        let file = self.engine();
        let what = || format!("reading {}", file.display());
        let engine = match std::fs::read_to_string(&file) {
            Ok(text) => serde_yaml::from_str(&text).map(Some).with_context(what)?,
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(what),
        };
        Ok(EngineOnFile { engine, file, folder: self.root.clone() })
    }

    /// Whether the environment was created on this engine, or on an unknown one.
    pub fn are_of(&self, engine: &EngineIdentity) -> bool {
        match self.engine_on_file().map(|on_file| on_file.engine) {
            Ok(Some(made_on)) => engine.relation(&made_on, false) == Relation::Same,
            Ok(None) => true,
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::state::Directories;

    #[test]
    fn progress_round_trips_and_invalid_files_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let folders = Directories { state: folder.path().to_owned(), cache: folder.path().join("cache") };
        let files = folders.environment("shop");
        let engine = |id: &str| EngineIdentity { id: id.into(), host: format!("unix:///{id}") };
        assert_eq!(files.engine_on_file().unwrap().engine, None);
        assert!(files.are_of(&engine("B")));
        files.store_engine(&engine("A")).unwrap();
        let on_file = files.engine_on_file().unwrap();
        assert_eq!((on_file.engine, on_file.file), (Some(engine("A")), files.root.join("engine")));
        assert!(files.are_of(&engine("A")) && !files.are_of(&engine("B")));
        std::fs::write(files.engine(), "?").unwrap();
        assert!(files.engine_on_file().is_err() && !files.are_of(&engine("A")));
    }
}
