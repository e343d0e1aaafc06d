//! What is done around every command's work: its output, signals, the record, what is said at the end. What differs
//! from command to command is in its description.

use std::process::ExitCode;
use std::time::Duration;

use super::Global;
use super::context::Context;
use super::signals::{Ended, Signals};
use super::task::{Description, Task, Work};
use crate::base::error::{self, Error, Kind};
use crate::base::event::{Event, Events, Sink};
use crate::base::interrupt::Interrupt;
use crate::diagnose::diagnosis;
use crate::host::record::Record;
use crate::host::state::Folders;
use crate::report::failure::{self, Failure};
use crate::report::github::{self, Surroundings};
use crate::report::{self, Output, Printer, Several, Verbosity};

/// How long the last words may take when all was asked to end at once.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Runs a command to its exit status.
pub fn main(global: Global, task: Task) -> ExitCode {
    // Two providers in one process would have to be told apart at every use: this one is everybody's.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let verbosity = match (global.quiet, global.verbose) {
        (true, _) => Verbosity::Quiet,
        (_, true) => Verbosity::Verbose,
        _ => Verbosity::Normal,
    };
    let printer = Printer::new(verbosity, global.color);
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            failure::print(&printer, &anyhow::Error::from(error).context("starting the runtime"));
            return ExitCode::FAILURE;
        }
    };
    let code = match task {
        Task::Ordinary(description, work) => runtime.block_on(run(global, description, work, printer)),
        Task::Process(work) => runtime.block_on(work(printer)),
    };
    // A name look-up that hangs is not waited for.
    runtime.shutdown_background();
    ExitCode::from(code)
}

async fn run(global: Global, description: Description, work: Work, printer: Printer) -> u8 {
    let output = global.output;
    if let Some(only) = refusal(output, &description) {
        failure::print(&printer, &Error::usage(only).hint("use --output json").into());
        return Kind::Usage.exit_code();
    }
    // Events are one JSON line each on stdout only where the contract says so.
    let shows = description.streams_events || output != Output::Json;
    let flags = global.flags();
    let workflow = Surroundings::of_process();
    let (events, feed) = Events::channel();
    let shown = shows.then(|| {
        let sinks = sinks(&global, &description, &workflow, &printer);
        report::spawn(feed, Box::new(Several(sinks)))
    });
    let (interrupt, mut signals) = (Interrupt::default(), Signals::new());
    let work = work(Context::new(global, &printer, &events, &interrupt));
    let ended = match signals.during(work, &interrupt, &events).await {
        Ended::Done(Err(error)) => Ended::Done(Err(diagnosis::by_its_words(error, &flags))),
        ended => ended,
    };
    let again = matches!(ended, Ended::Signal { again: true, .. });
    let code_at_once = if let Ended::Signal { code, .. } = &ended { *code } else { 0 };
    let is_json = output == Output::Json && shows;
    let last = Last::new(ended, description, is_json, flags, printer, workflow);
    if let Some(event) = last.event() {
        events.send(event);
    }
    // Work that was ended in the middle may have left a thread that holds the channel open: it is not waited for.
    events.end();
    let last_words = async {
        if let Some(shown) = shown {
            let _ = shown.await;
        }
        // In a thread of its own: a reader that stalls must not keep signals from being seen.
        tokio::task::spawn_blocking(move || last.say()).await.unwrap_or(Kind::Environment.exit_code())
    };
    tokio::select! {
        code = last_words => code,
        code = signals.next() => code,
        () = tokio::time::sleep(AT_ONCE), if again => code_at_once,
    }
}

/// Why a command has no such output.
fn refusal(output: Output, description: &Description) -> Option<&'static str> {
    match output {
        Output::Yaml if !description.yaml => Some("only plan has --output yaml"),
        Output::Html if !description.html => Some("only timeline has --output html"),
        _ => None,
    }
}

/// Everything that gets the events.
fn sinks(
    global: &Global,
    description: &Description,
    workflow: &Surroundings,
    printer: &Printer,
) -> Vec<Box<dyn Sink>> {
    let mut sinks = vec![report::sink(global.output, printer)];
    if description.recorded
        && let Some(record) = record(global, description.name)
    {
        sinks.push(Box::new(record));
    }
    if description.summarised && workflow.in_workflow() {
        sinks.push(Box::new(github::Run::new(workflow, description.name, printer)));
    }
    sinks
}

/// Where the events of a command that changes one environment are written down.
fn record(global: &Global, command: &'static str) -> Option<Record> {
    // What is wrong with the name or the folders is said by the command itself.
    let name = global.sources().ok()?.name().ok()?;
    Some(Record::new(Folders::of_process().ok()?.environment(name.as_str()), command))
}

/// What is said at the end.
struct Last {
    ended: Ended,
    /// What the work failed with, if it did.
    failure: Option<Failure>,
    description: Description,
    /// The events are the output: a failure is one of them.
    is_json: bool,
    /// What is left, and how to go on.
    after_signal: Option<String>,
    printer: Printer,
    workflow: Surroundings,
}

impl Last {
    fn new(
        ended: Ended,
        description: Description,
        is_json: bool,
        flags: String,
        printer: Printer,
        workflow: Surroundings,
    ) -> Self {
        let failure = match &ended {
            Ended::Done(Err(error)) => Some(Failure::of(error).or_hint(|| default_hint(error, &flags))),
            _ => None,
        };
        let after_signal = description.after_signal.map(|after| after(&flags));
        Self { ended, failure, description, is_json, after_signal, printer, workflow }
    }

    /// The last event: what failed, and, for a program, that a signal ended the work.
    fn event(&self) -> Option<Event> {
        let Ended::Signal { code, told, .. } = &self.ended else {
            return self.failure.as_ref().map(Failure::event);
        };
        let plain = || {
            let interrupted = Error::environment(format!("interrupted (exit status {code})"));
            match &self.after_signal {
                Some(after) => interrupted.hint(after).into(),
                None => interrupted.into(),
            }
        };
        self.is_json.then(|| told.as_ref().map_or_else(|| Failure::of(&plain()), Failure::of).event())
    }

    /// Prints the result or the error; gives the exit status.
    fn say(self) -> u8 {
        let printer = &self.printer;
        match self.ended {
            Ended::Done(Ok(result)) => {
                if !result.text.is_empty() {
                    printer.result(&result.text);
                }
                match printer.check() {
                    Ok(()) => result.code,
                    Err(error) => {
                        failure::print(printer, &anyhow::Error::from(error).context("writing the result"));
                        Kind::Environment.exit_code()
                    }
                }
            }
            Ended::Done(Err(error)) => {
                let event = self.failure.as_ref().map(Failure::event).filter(|_| self.description.annotated);
                let annotation = event.and_then(|event| github::failure(self.description.name, &event));
                self.workflow.annotate(annotation.as_slice(), printer);
                if let Some(failure) = self.failure.filter(|_| !self.is_json) {
                    printer.error(&failure.render(printer.stderr_style()));
                }
                error::exit_code(&error)
            }
            Ended::Signal { code, left, told, .. } => {
                if !self.description.serves && !self.is_json {
                    printer.error(&match told {
                        Some(error) => Failure::of(&error).render(printer.stderr_style()),
                        None => match self.after_signal.filter(|_| left) {
                            Some(after) => format!("interrupted: {after}"),
                            None => "interrupted".into(),
                        },
                    });
                }
                code
            }
        }
    }
}

/// What to do about a failure that says nothing better itself.
fn default_hint(error: &anyhow::Error, flags: &str) -> Option<String> {
    let kind = error::find(error).map_or(Kind::Environment, |error| error.kind);
    (kind == Kind::Environment).then(|| {
        format!(
            "kindmesh status{flags} shows what works; kindmesh up{flags} repairs, kindmesh down{flags} removes"
        )
    })
}
