//! One file a command: arguments in, a call of the library, the result out. No logic.

use std::process::ExitCode;

use futures::FutureExt;
use tokio::signal::unix::{SignalKind, signal};

use crate::base::error::{self, Error, Kind};
use crate::base::event::{Events, Sink};
use crate::base::interrupt::Interrupt;
use crate::cli::{Cli, Command, Global, ImageCommand};
use crate::diagnose::diagnosis;
use crate::host::record::Record;
use crate::host::state::Folders;
use crate::report::failure::{self, Failure};
use crate::report::github;
use crate::report::{self, Output, Printer, Several, Verbosity};
use crate::spec::{Loaded, Sources, load};

mod apply;
mod bundle;
mod cache;
mod call;
mod completions;
mod deploy;
mod doctor;
mod down;
mod env;
mod image;
mod kubeconfig;
mod lab;
mod list;
mod logs;
mod offline;
mod open;
mod pause;
mod plan;
mod render;
mod schema;
mod serve;
mod start;
mod status;
mod timeline;
mod ui;
mod up;
mod verify;
mod why;

/// What every command works with.
#[derive(Debug, Clone)]
pub struct Context {
    global: Global,
    printer: Printer,
    events: Events,
    folders: Folders,
    interrupt: Interrupt,
}

/// Exit statuses of a process that a signal ended: 128 and the signal's number.
const INTERRUPTED: u8 = 130;
const TERMINATED: u8 = 143;
/// How long the display may take to show the last events.
const DISPLAY_ENDS_WITHIN: std::time::Duration = std::time::Duration::from_secs(1);

/// Runs a command to its exit status.
pub fn main(cli: Cli) -> ExitCode {
    // Two providers in one process would have to be told apart at every use: this one is everybody's.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let verbosity = match (cli.global.quiet, cli.global.verbose) {
        (true, _) => Verbosity::Quiet,
        (_, true) => Verbosity::Verbose,
        _ => Verbosity::Normal,
    };
    let printer = Printer::new(verbosity, cli.global.color);
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            failure::print(&printer, &anyhow::Error::from(error).context("starting the runtime"));
            return ExitCode::FAILURE;
        }
    };
    let code = match &cli.command {
        // A sample handles signals itself, and shuts down gracefully.
        Command::Serve(args) => runtime.block_on(serve::run(args, &printer)),
        _ => runtime.block_on(run(cli, &printer)),
    };
    // A name look-up that hangs is not waited for.
    runtime.shutdown_background();
    ExitCode::from(code)
}

async fn run(cli: Cli, printer: &Printer) -> u8 {
    let output = cli.global.output;
    let only = match output {
        Output::Yaml if !matches!(cli.command, Command::Plan(_)) => Some("only plan has --output yaml"),
        Output::Html if !matches!(cli.command, Command::Timeline(_)) => Some("only timeline has --output html"),
        _ => None,
    };
    if let Some(only) = only {
        failure::print(printer, &Error::usage(only).hint("use --output json").into());
        return Kind::Usage.exit_code();
    }
    // Events are one JSON line each on stdout only where the contract says so.
    let is_steps = matches!(
        cli.command,
        Command::Up(_)
            | Command::Down(_)
            | Command::Pause(_)
            | Command::Resume(_)
            | Command::Stop(_)
            | Command::Start(_)
    );
    let lines = is_steps || output != Output::Json;
    // Ctrl-C is its ordinary end.
    let serves = matches!(&cli.command, Command::Open(_) | Command::Ui(_))
        || matches!(&cli.command, Command::Logs(args) if args.follow);
    let flags = flags(&cli.global);
    let after_signal = after_signal(&cli.command, &flags);
    let (events, receiver) = Events::channel();
    let mut sinks = vec![report::sink(output, printer)];
    sinks.extend(record(&cli).map(|record| Box::new(record) as Box<dyn Sink>));
    let workflow = github::Surroundings::of_process();
    let annotated = annotated(&cli.command);
    if workflow.in_workflow() && matches!(cli.command, Command::Up(_)) {
        sinks.push(Box::new(github::Run::new(&workflow, "up", printer)));
    }
    let shown = lines.then(|| report::spawn(receiver, Box::new(Several(sinks))));
    let interrupt = Interrupt::default();
    let work = async {
        // These need no files, and so no home.
        match &cli.command {
            Command::Schema => return schema::run(),
            Command::Completions(args) => return completions::run(args),
            _ => {}
        }
        let context = Context {
            global: cli.global,
            printer: printer.clone(),
            events: events.clone(),
            folders: Folders::of_process()?,
            interrupt: interrupt.clone(),
        };
        dispatch(cli.command, context).await
    };
    let ended = match under_signals(work, &interrupt, &events).await {
        Ended::Done(Err(error)) => Ended::Done(Err(diagnosis::by_its_words(error, &flags))),
        ended => ended,
    };
    let failure = match &ended {
        Ended::Done(Err(error)) => Some(Failure::of(error).or_hint(|| default_hint(error, &flags))),
        _ => None,
    };
    if let Some(failure) = &failure {
        events.send(failure.event());
    }
    if let (Ended::Signal { code, told, .. }, Output::Json, true) = (&ended, output, lines) {
        let plain = || {
            let interrupted = Error::environment(format!("interrupted (exit status {code})"));
            match &after_signal {
                Some(after) => interrupted.hint(after).into(),
                None => interrupted.into(),
            }
        };
        events.send(told.as_ref().map_or_else(|| Failure::of(&plain()), Failure::of).event());
    }
    drop(events);
    if let Some(shown) = shown {
        // A download in a thread of its own may hold the channel open a while longer.
        let _ = tokio::time::timeout(DISPLAY_ENDS_WITHIN, shown).await;
    }
    match ended {
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
            let event = failure.as_ref().map(Failure::event);
            let annotation = event.and_then(|event| github::failure(annotated?, &event));
            workflow.annotate(annotation.as_slice(), printer);
            if let Some(failure) = failure.filter(|_| output != Output::Json || !lines) {
                printer.error(&failure.render(printer.stderr_style()));
            }
            error::exit_code(&error)
        }
        Ended::Signal { code, left, told } => {
            if !serves && (output != Output::Json || !lines) {
                printer.error(&match told {
                    Some(error) => Failure::of(&error).render(printer.stderr_style()),
                    None => match after_signal.filter(|_| left) {
                        Some(after) => format!("interrupted: {after}"),
                        None => "interrupted".into(),
                    },
                });
            }
            code
        }
    }
}

/// What follows a command so that it acts on the same environment.
fn flags(global: &Global) -> String {
    global.name.as_ref().map(|name| format!(" --name {name}")).unwrap_or_default()
}

/// What is left, and how to go on, when a command was ended in the middle; none for those that change nothing.
fn after_signal(command: &Command, flags: &str) -> Option<String> {
    Some(match command {
        Command::Up(_) => {
            format!("what was made is kept; kindmesh up{flags} goes on, kindmesh down{flags} removes it")
        }
        Command::Down(args) => {
            let which = if args.all { " --all" } else { flags };
            format!("what is left is found by its labels; kindmesh down{which} goes on")
        }
        Command::Pause(_) => {
            format!(
                "some nodes may be frozen; kindmesh pause{flags} goes on, kindmesh resume{flags} brings them back"
            )
        }
        Command::Stop(_) => {
            format!(
                "some nodes may be stopped; kindmesh stop{flags} goes on, kindmesh start{flags} brings them back"
            )
        }
        Command::Resume(_) | Command::Start(_) => {
            format!("nodes that run heal by themselves; kindmesh start{flags} waits for a call again")
        }
        Command::Apply(_) | Command::Unapply(_) | Command::Deploy(_) | Command::Image(_) | Command::Lab(_) => {
            "what was done until now is kept; the same command goes on".to_owned()
        }
        _ => return None,
    })
}

/// The command's name, where a workflow gets an annotation when it fails. Others may be meant to fail, as `status` in a
/// condition is.
fn annotated(command: &Command) -> Option<&'static str> {
    match command {
        Command::Up(_) => Some("up"),
        Command::Verify(_) => Some("verify"),
        Command::Plan(_) => Some("plan"),
        Command::Down(_) => Some("down"),
        _ => None,
    }
}

/// Where the events of a command that changes one environment are written down.
fn record(cli: &Cli) -> Option<Record> {
    let command = match &cli.command {
        Command::Up(_) => "up",
        Command::Down(args) if !args.all => "down",
        Command::Start(_) => "start",
        Command::Resume(_) => "resume",
        _ => return None,
    };
    // What is wrong with the name or the folders is said by the command itself.
    let name = sources(&cli.global).ok()?.name().ok()?;
    Some(Record::new(Folders::of_process().ok()?.environment(name.as_str()), command))
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

enum Ended {
    Done(anyhow::Result<Done>),
    /// `left`: something may have been left half-made. `told`: what the work said when it had put away what it made.
    Signal {
        code: u8,
        left: bool,
        told: Option<anyhow::Error>,
    },
}

/// What a command leaves: a text for stdout, printed when the display is gone, and an exit status.
#[derive(Debug, Default)]
pub(crate) struct Done {
    text: String,
    code: u8,
}

impl Done {
    fn text(text: impl Into<String>) -> Self {
        Self { text: text.into().trim_end().to_owned(), code: 0 }
    }

    fn json(value: &impl serde::Serialize) -> anyhow::Result<Self> {
        Ok(Self::text(serde_json::to_string_pretty(value)?))
    }
}

/// Runs the work to its end or to a signal; work that asked for it may then put away what it made.
async fn under_signals(
    work: impl Future<Output = anyhow::Result<Done>>,
    interrupt: &Interrupt,
    events: &Events,
) -> Ended {
    let mut work = std::pin::pin!(work);
    let code = tokio::select! {
        result = &mut work => return Ended::Done(result),
        code = signalled() => code,
    };
    let Some(doing) = interrupt.armed() else { return Ended::Signal { code, left: true, told: None } };
    events.note(format!("interrupted: {doing}; once more ends at once"));
    interrupt.request();
    tokio::select! {
        ended = &mut work => Ended::Signal { code, left: false, told: ended.err() },
        _ = signalled() => Ended::Signal { code, left: true, told: None },
    }
}

async fn signalled() -> u8 {
    tokio::select! {
        () = received(SignalKind::interrupt()) => INTERRUPTED,
        () = received(SignalKind::terminate()) => TERMINATED,
    }
}

async fn received(kind: SignalKind) {
    match signal(kind) {
        Ok(mut signal) => signal.recv().map(drop).await,
        Err(_) => std::future::pending().await,
    }
}

async fn dispatch(command: Command, context: Context) -> anyhow::Result<Done> {
    match command {
        Command::Up(args) => up::run(&context, &args).await,
        Command::Call(args) => call::run(&context, &args).await,
        Command::Apply(args) => apply::run(&context, &args).await,
        Command::Unapply(args) => apply::run_unapply(&context, &args).await,
        Command::Open(args) => open::run(&context, &args).await,
        Command::Ui(args) => ui::run(&context, &args).await,
        Command::Status(args) => status::run(&context, &args).await,
        Command::Timeline(args) => timeline::run(&context, &args),
        Command::Logs(args) => logs::run(&context, &args).await,
        Command::Verify(args) => verify::run(&context, &args).await,
        Command::Deploy(args) => deploy::run(&context, &args).await,
        Command::Image(ImageCommand::Load(args)) => image::run(&context, &args).await,
        Command::Why(args) => why::run(&context, &args).await,
        Command::Doctor(args) => doctor::run(&context, &args).await,
        Command::Pause(args) => pause::run(&context, &args).await,
        Command::Resume(args) | Command::Start(args) => start::run(&context, &args).await,
        Command::Stop(args) => pause::run_stop(&context, &args).await,
        Command::Plan(args) => plan::run(&context, &args).await,
        Command::Render(args) => render::run(&context, &args).await,
        Command::Kubeconfig(args) => kubeconfig::run(&context, &args).await,
        Command::Env => env::run(&context),
        Command::List => list::run(&context).await,
        Command::Lab(command) => lab::run(&context, &command).await,
        Command::Bundle(args) => bundle::run(&context, &args).await,
        Command::Down(args) => down::run(&context, &args).await,
        Command::Cache(command) => cache::run(&context, &command).await,
        Command::Offline(command) => offline::run(&context, &command).await,
        // Handled before anything is set up.
        Command::Schema | Command::Completions(_) | Command::Serve(_) => Ok(Done::default()),
    }
}

fn sources(global: &Global) -> anyhow::Result<Sources> {
    Ok(Sources {
        directory: std::env::current_dir().map_err(|error| {
            Error::environment(format!("the working directory cannot be used: {error}"))
                .hint("cd to one that exists")
        })?,
        variable: std::env::var_os(load::FILES_VARIABLE),
        // What is no text is no name, and is told so.
        environment: std::env::var_os(load::NAME_VARIABLE).map(|name| name.to_string_lossy().into_owned()),
        files: global.files.clone(),
        name: global.name.clone(),
    })
}

impl Context {
    fn sources(&self) -> anyhow::Result<Sources> {
        sources(&self.global)
    }

    /// An error with its cause named, as it will be shown.
    fn explained(&self, error: anyhow::Error) -> anyhow::Error {
        diagnosis::by_its_words(error, &flags(&self.global))
    }

    fn load(&self) -> anyhow::Result<Loaded> {
        Ok(self.sources()?.load()?)
    }

    fn environment_name(&self) -> anyhow::Result<String> {
        Ok(self.sources()?.name()?.to_string())
    }

    fn is_json(&self) -> bool {
        self.global.output == Output::Json
    }
}
