//! A runnable command: its description, as plain data, and its work.

use futures::FutureExt;
use futures::future::LocalBoxFuture;

use super::context::Context;
use crate::report::Printer;

/// The properties of a command that the code around its work needs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Description {
    /// The name, as typed.
    pub name: &'static str,
    /// Whether its JSON output is a stream of events, one per line; otherwise it is one document.
    pub streams_events: bool,
    /// Whether it runs until Ctrl-C, which is its normal end.
    pub serves: bool,
    /// Returns what is left after an interrupt, and how to continue; takes the flags that select the same
    /// environment. None if the command changes nothing.
    pub after_signal: Option<fn(&str) -> String>,
    /// Whether a failure adds an annotation to a workflow. Other commands may fail on purpose, such as `status` in
    /// a condition.
    pub annotated: bool,
    /// Whether its events are recorded for `timeline`: it changes one environment.
    pub recorded: bool,
    /// Whether a workflow's summary lists its steps.
    pub summarised: bool,
    /// Whether it first ends outages whose commands were killed: it works in a running environment.
    pub ends_outages: bool,
    /// Whether it supports `--output yaml`.
    pub yaml: bool,
    /// Whether it supports `--output html`.
    pub html: bool,
}

impl Description {
    /// Returns a description with a name and no other property.
    pub fn of(name: &'static str) -> Self {
        Self { name, ..Self::default() }
    }
}

/// What to do after a signal if running the same command again completes it.
pub fn kept(_flags: &str) -> String {
    "the same command continues where this run stopped".into()
}

/// The result of a command: a text for stdout, printed after the display has closed, and an exit status.
#[derive(Debug, Default)]
pub struct Done {
    /// The text, without a trailing newline. If it is empty, nothing is printed.
    pub text: String,
    /// The exit status.
    pub code: u8,
}

impl Done {
    /// Returns a text and success.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into().trim_end().to_owned(), code: 0 }
    }

    /// Returns a JSON document and success.
    pub fn json(value: &impl serde::Serialize) -> anyhow::Result<Self> {
        Ok(Self::text(serde_json::to_string_pretty(value)?))
    }
}

/// A command that is ready to run.
pub enum Task {
    /// Its description and its work.
    Ordinary(Description, Work),
    /// A command that is its own process: it handles signals, reports errors and returns the exit status.
    Process(Box<dyn FnOnce(Printer) -> LocalBoxFuture<'static, u8>>),
}

/// The work of a command, given its context or the error that prevents one.
pub type Work = Box<dyn FnOnce(anyhow::Result<Context>) -> LocalBoxFuture<'static, anyhow::Result<Done>>>;

impl Task {
    /// Creates a command that needs a context.
    pub fn new(
        description: Description,
        work: impl AsyncFnOnce(&Context) -> anyhow::Result<Done> + 'static,
    ) -> Self {
        let work = move |context: anyhow::Result<Context>| {
            async move {
                let context = context?;
                if description.ends_outages {
                    context.end_outages().await?;
                }
                work(&context).await
            }
            .boxed_local()
        };
        Self::Ordinary(description, Box::new(work))
    }

    /// Creates a command that needs no files, and so no home directory.
    pub fn without_files(description: Description, work: impl FnOnce() -> anyhow::Result<Done> + 'static) -> Self {
        Self::Ordinary(description, Box::new(move |_| async move { work() }.boxed_local()))
    }

    /// Creates a command that is its own process.
    pub fn process(work: impl AsyncFnOnce(&Printer) -> u8 + 'static) -> Self {
        Self::Process(Box::new(move |printer| async move { work(&printer).await }.boxed_local()))
    }
}
