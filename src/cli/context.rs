//! What every command works with.

use super::Global;
use crate::base::error::Error;
use crate::base::event::Events;
use crate::base::interrupt::Interrupt;
use crate::diagnose::diagnosis;
use crate::host::state::Folders;
use crate::report::{Output, Printer};
use crate::spec::{Loaded, Sources, load};

/// What every command works with.
#[derive(Debug, Clone)]
pub struct Context {
    /// What every command takes.
    pub global: Global,
    /// Where results go.
    pub printer: Printer,
    /// Where what happens is said.
    pub events: Events,
    /// Where files are.
    pub folders: Folders,
    /// Tells of the first Ctrl-C, where work asked for it.
    pub interrupt: Interrupt,
}

impl Context {
    /// For one command.
    ///
    /// # Errors
    /// Where there is no home for its files.
    pub fn new(global: Global, printer: &Printer, events: &Events, interrupt: &Interrupt) -> anyhow::Result<Self> {
        let folders = Folders::of_process()?;
        let (printer, events, interrupt) = (printer.clone(), events.clone(), interrupt.clone());
        Ok(Self { global, printer, events, folders, interrupt })
    }

    fn sources(&self) -> anyhow::Result<Sources> {
        self.global.sources()
    }

    /// An error with its cause named, as it will be shown.
    pub fn explained(&self, error: anyhow::Error) -> anyhow::Error {
        diagnosis::by_its_words(error, &self.global.flags())
    }

    /// The spec that the files, the variables and the arguments make.
    pub fn load(&self) -> anyhow::Result<Loaded> {
        Ok(self.sources()?.load()?)
    }

    /// The environment's name, without all of its spec.
    pub fn environment_name(&self) -> anyhow::Result<String> {
        Ok(self.sources()?.name()?.to_string())
    }

    /// Whether a program reads the result.
    pub fn is_json(&self) -> bool {
        self.global.output == Output::Json
    }
}

impl Global {
    /// Where the spec comes from.
    pub fn sources(&self) -> anyhow::Result<Sources> {
        Ok(Sources {
            directory: std::env::current_dir().map_err(|error| {
                Error::environment(format!("the working directory cannot be used: {error}"))
                    .hint("cd to one that exists")
            })?,
            variable: std::env::var_os(load::FILES_VARIABLE),
            // What is no text is no name, and is told so.
            environment: std::env::var_os(load::NAME_VARIABLE).map(|name| name.to_string_lossy().into_owned()),
            files: self.files.clone(),
            name: self.name.clone(),
        })
    }

    /// What follows a command so that it acts on the same environment.
    pub fn flags(&self) -> String {
        self.name.as_ref().map(|name| format!(" --name {name}")).unwrap_or_default()
    }
}
