//! The code that all commands share: output, signals, the record of the run, the result. Each command's description
//! says how it differs.

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
use crate::host::state::Directories;
use crate::report::failure::{self, Failure};
use crate::report::github::{self, Surroundings};
use crate::report::{self, Output, Printer, Several, Verbosity};

/// How long the final output may take after a second signal.
const FINAL_OUTPUT_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs a command and returns its exit status.
pub fn main(global: Global, task: Task) -> ExitCode {
    // rustls needs one default provider for the process when more than one is compiled in.
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
    // A DNS lookup that hangs must not delay the exit.
    runtime.shutdown_background();
    ExitCode::from(code)
}

async fn run(global: Global, description: Description, work: Work, printer: Printer) -> u8 {
    let output = global.output;
    if let Some(only) = refusal(output, &description) {
        failure::print(&printer, &Error::usage(only).hint("use --output json").into());
        return Kind::Usage.exit_code();
    }
    // Events go to stdout as JSON lines only if they are part of the command's interface.
    let shows = description.streams_events || output != Output::Json;
    let selected = global.clone();
    let workflow = Surroundings::of_process();
    let (events, feed) = Events::channel();
    let shown = shows.then(|| {
        let sinks = sinks(&global, &description, &workflow, &printer);
        report::spawn(feed, Box::new(Several(sinks)))
    });
    let (interrupt, mut signals) = (Interrupt::default(), Signals::new());
    let work = work(Context::new(global, &printer, &events, &interrupt));
    let ended = signals.during(work, &interrupt, &events).await;
    // They may require reading the spec files again, so not before the work.
    let flags = selected.flags();
    let ended = match ended {
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
    // Canceled work may have left a thread that holds the channel open; do not wait for it.
    events.end();
    let last_words = async {
        if let Some(shown) = shown {
            let _ = shown.await;
        }
        // On a separate thread: a stalled reader must not block the handling of signals.
        tokio::task::spawn_blocking(move || last.say()).await.unwrap_or(Kind::Environment.exit_code())
    };
    tokio::select! {
        code = last_words => code,
        code = signals.next() => code,
        () = tokio::time::sleep(FINAL_OUTPUT_TIMEOUT), if again => code_at_once,
    }
}

/// Returns why a command does not support the output format.
fn refusal(output: Output, description: &Description) -> Option<&'static str> {
    match output {
        Output::Yaml if !description.yaml => Some("only kindmesh plan supports --output yaml"),
        Output::Html if !description.html => {
            Some("only kindmesh bench, kindmesh experiment and kindmesh timeline support --output html")
        }
        _ => None,
    }
}

/// Returns every sink of the events.
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

/// Returns the record of a command that changes one environment.
fn record(global: &Global, command: &'static str) -> Option<Record> {
    // The command itself reports an invalid name or missing directories.
    let name = global.sources().ok()?.name().ok()?;
    Some(Record::new(Directories::of_process().ok()?.environment(name.as_str()), command))
}

/// The final output.
struct Last {
    ended: Ended,
    /// The error of the work, if it failed.
    failure: Option<Failure>,
    description: Description,
    /// Whether the output is a stream of events, of which a failure is one.
    is_json: bool,
    /// What is left, and how to continue.
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

    /// Returns the last event: the failure, or, for a program, the signal that ended the work.
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

    /// Prints the result or the error, and returns the exit status.
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

/// Returns the hint for a failure without a hint.
fn default_hint(error: &anyhow::Error, flags: &str) -> Option<String> {
    let kind = error::find(error).map_or(Kind::Environment, |error| error.kind);
    (kind == Kind::Environment).then(|| {
        format!(
            "check what works: kindmesh status{flags}; repair: kindmesh up{flags}; delete: kindmesh down{flags}"
        )
    })
}
