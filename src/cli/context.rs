//! The context of a command: its arguments, output, directories and spec.

use std::path::PathBuf;

use super::{Global, confirm};
use crate::base::error::Error;
use crate::base::event::Events;
use crate::base::interrupt::Interrupt;
use crate::cluster::environment::{self, Environment};
use crate::diagnose::diagnosis;
use crate::host::docker::Engine;
use crate::host::outage;
use crate::host::state::Directories;
use crate::lifecycle::fault::Scene;
use crate::plan::admission;
use crate::report::{Output, Printer};
use crate::spec::{Loaded, Sources, load};

/// The context of a command.
#[derive(Debug, Clone)]
pub struct Context {
    /// The arguments of all commands.
    pub global: Global,
    /// The printer of results.
    pub printer: Printer,
    /// The channel of events.
    pub events: Events,
    /// The state and cache directories.
    pub folders: Directories,
    /// Reports the first Ctrl-C to work that armed it.
    pub interrupt: Interrupt,
}

impl Context {
    /// Creates the context of one command.
    ///
    /// # Errors
    /// If there is no home directory for its files.
    pub fn new(global: Global, printer: &Printer, events: &Events, interrupt: &Interrupt) -> anyhow::Result<Self> {
        let folders = Directories::of_process()?;
        let (printer, events, interrupt) = (printer.clone(), events.clone(), interrupt.clone());
        Ok(Self { global, printer, events, folders, interrupt })
    }

    fn sources(&self) -> anyhow::Result<Sources> {
        self.global.sources()
    }

    /// Names the cause of an error, if it is known.
    pub fn explained(&self, error: anyhow::Error) -> anyhow::Error {
        diagnosis::by_its_words(error, &self.global.flags())
    }

    /// Loads the spec from files, variables and arguments.
    pub fn load(&self) -> anyhow::Result<Loaded> {
        Ok(self.sources()?.load()?)
    }

    /// Returns the environment's name, without reading the whole spec.
    pub fn environment_name(&self) -> anyhow::Result<String> {
        Ok(self.sources()?.name()?.to_string())
    }

    /// Starts the nodes of outages whose commands were killed. The command itself reports what is wrong with the environment's
    /// name.
    pub async fn end_outages(&self) -> anyhow::Result<()> {
        let Ok(name) = self.environment_name() else { return Ok(()) };
        if outage::all(&self.folders.environment(&name)).iter().all(|found| !found.orphaned) {
            return Ok(());
        }
        let environment = Environment::open(&self.folders, &name)?;
        let engine = Engine::connect().await?;
        let scene =
            Scene { engine: &engine, environment: &environment, folders: &self.folders, events: &self.events };
        scene.end_orphans().await
    }

    /// Refuses a command for nodes, if any cluster of the environment exists already.
    pub fn require_own_nodes(&self, command: &str) -> anyhow::Result<()> {
        let stored = environment::stored(&self.folders.environment(&self.environment_name()?))?;
        stored.map_or(Ok(()), |spec| Ok(admission::owns_nodes(&spec, command)?))
    }

    /// Whether the user can be asked a question.
    pub fn can_ask(&self) -> bool {
        !self.is_json() && confirm::can_ask()
    }

    /// Whether the output format is JSON.
    pub fn is_json(&self) -> bool {
        self.global.output == Output::Json
    }
}

impl Global {
    /// Returns the sources of the spec.
    pub fn sources(&self) -> anyhow::Result<Sources> {
        Ok(Sources {
            directory: std::env::current_dir().map_err(|error| {
                Error::environment(format!("the working directory cannot be used: {error}"))
                    .hint("cd to a directory that exists")
            })?,
            variable: std::env::var_os(load::FILES_VARIABLE),
            // A value that is not UTF-8 is not a valid name, and the error reports it.
            environment: std::env::var_os(load::NAME_VARIABLE).map(|name| name.to_string_lossy().into_owned()),
            files: self.files.clone(),
            name: self.name.clone(),
        })
    }

    /// Returns the flags that select the same environment in another command, which may be run without `-f`.
    pub fn flags(&self) -> String {
        // A pipe can be read only once, and its command reads it.
        let is_file = |file: &PathBuf| std::fs::metadata(file).is_ok_and(|found| found.is_file());
        let name = match !self.files.is_empty() && self.files.iter().all(is_file) {
            true => self.sources().ok().and_then(|sources| sources.name().ok()),
            false => self.name.clone(),
        };
        name.map(|name| format!(" --name {name}")).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::Cli;

    #[test]
    fn flags_name_the_environment_of_the_spec_files() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("shop.yaml");
        std::fs::write(&file, "name: shop\n").unwrap();
        let flags = |arguments: &[&str]| {
            let file = file.to_str().unwrap();
            let arguments = arguments.iter().map(|argument| argument.replace("FILE", file));
            Cli::parse_from(["kindmesh".to_owned()].into_iter().chain(arguments)).global.flags()
        };
        assert_eq!(flags(&["list"]), "");
        assert_eq!(flags(&["-f", "FILE", "list"]), " --name shop");
        assert_eq!(flags(&["-f", "FILE", "--name", "two", "list"]), " --name two");
    }
}
