//! A command as it is run: what is true of it, as plain data, and its work.

use futures::FutureExt;
use futures::future::LocalBoxFuture;

use super::context::Context;
use crate::report::Printer;

/// What is true of a command, for all that is done around its work.
#[derive(Debug, Clone, Copy, Default)]
pub struct Description {
    /// Its name, as it is typed.
    pub name: &'static str,
    /// Its JSON output is the events, one line each; otherwise it is one document.
    pub streams_events: bool,
    /// It goes on until Ctrl-C, which is its ordinary end.
    pub serves: bool,
    /// What is left, and how to go on, when it was ended in the middle; takes the flags that name the same environment.
    /// None where it changes nothing.
    pub after_signal: Option<fn(&str) -> String>,
    /// A workflow gets an annotation when it fails. Others may be meant to fail, as `status` in a condition is.
    pub annotated: bool,
    /// Its events are written down, for `timeline`: it changes one environment.
    pub recorded: bool,
    /// A workflow's summary lists its steps.
    pub summarised: bool,
    /// It has `--output yaml`.
    pub yaml: bool,
    /// It has `--output html`.
    pub html: bool,
}

impl Description {
    /// Of a command of which nothing is true but its name.
    pub fn of(name: &'static str) -> Self {
        Self { name, ..Self::default() }
    }
}

/// What to do after a signal where doing the same again finishes it.
pub fn kept(_flags: &str) -> String {
    "what was done until now is kept; the same command goes on".into()
}

/// What a command leaves: a text for stdout, printed when the display is gone, and an exit status.
#[derive(Debug, Default)]
pub struct Done {
    /// Without a newline at its end; nothing is printed where it is empty.
    pub text: String,
    /// The exit status.
    pub code: u8,
}

impl Done {
    /// A text, and success.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into().trim_end().to_owned(), code: 0 }
    }

    /// A document, and success.
    pub fn json(value: &impl serde::Serialize) -> anyhow::Result<Self> {
        Ok(Self::text(serde_json::to_string_pretty(value)?))
    }
}

/// A command, ready to be run.
pub enum Task {
    /// What is true of it, and what it does.
    Ordinary(Description, Work),
    /// One that is its own process: it handles signals, says what failed, and gives the exit status.
    Process(Box<dyn FnOnce(Printer) -> LocalBoxFuture<'static, u8>>),
}

/// What a command does with its context, or with why there is none.
pub type Work = Box<dyn FnOnce(anyhow::Result<Context>) -> LocalBoxFuture<'static, anyhow::Result<Done>>>;

impl Task {
    /// A command that works with a context.
    pub fn new(
        description: Description,
        work: impl AsyncFnOnce(&Context) -> anyhow::Result<Done> + 'static,
    ) -> Self {
        let work = move |context: anyhow::Result<Context>| async move { work(&context?).await }.boxed_local();
        Self::Ordinary(description, Box::new(work))
    }

    /// A command that needs no files, and so no home.
    pub fn without_files(description: Description, work: impl FnOnce() -> anyhow::Result<Done> + 'static) -> Self {
        Self::Ordinary(description, Box::new(move |_| async move { work() }.boxed_local()))
    }

    /// A command that is its own process.
    pub fn process(work: impl AsyncFnOnce(&Printer) -> u8 + 'static) -> Self {
        Self::Process(Box::new(move |printer| async move { work(&printer).await }.boxed_local()))
    }
}
