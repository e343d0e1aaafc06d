//! One file a command: arguments in, a call of the library, the result out. No logic.

use std::process::ExitCode;

use futures::FutureExt;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{Cli, Command, Global};
use crate::error::{self, Error, Kind};
use crate::event::Events;
use crate::interrupt::Interrupt;
use crate::report::failure::{self, Failure};
use crate::report::{self, Output, Printer, Verbosity};
use crate::spec::{Loaded, Sources, load};
use crate::state::Folders;

mod apply;
mod call;
mod completions;
mod down;
mod env;
mod kubeconfig;
mod list;
mod open;
mod pause;
mod plan;
mod render;
mod schema;
mod serve;
mod start;
mod status;
mod up;
mod verify;

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
const AFTER_SIGNAL: &str = "what was made is kept; kindmesh up goes on, kindmesh down removes it";
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
    if output == Output::Yaml && !matches!(cli.command, Command::Plan(_)) {
        let error = Error::usage("only plan has --output yaml").hint("use --output json");
        failure::print(printer, &error.into());
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
    let serves = matches!(cli.command, Command::Open(_));
    let flags = cli.global.name.as_ref().map(|name| format!(" --name {name}")).unwrap_or_default();
    let (events, receiver) = Events::channel();
    let shown = lines.then(|| report::spawn(receiver, report::sink(output, printer)));
    let interrupt = Interrupt::default();
    let work = async {
        let context = Context {
            global: cli.global,
            printer: printer.clone(),
            events: events.clone(),
            folders: Folders::of_process()?,
            interrupt: interrupt.clone(),
        };
        dispatch(cli.command, context).await
    };
    let ended = under_signals(work, &interrupt, &events).await;
    let failure = match &ended {
        Ended::Done(Err(error)) => Some(Failure::of(error).or_hint(|| default_hint(error, &flags))),
        _ => None,
    };
    if let Some(failure) = &failure {
        events.send(failure.event());
    }
    if let (Ended::Signal { code, .. }, Output::Json, true) = (&ended, output, lines) {
        let error = Error::environment(format!("interrupted (exit status {code})")).hint(AFTER_SIGNAL);
        events.send(Failure::of(&error.into()).event());
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
            if let Some(failure) = failure.filter(|_| output != Output::Json || !lines) {
                printer.error(&failure.render(printer.stderr_style()));
            }
            error::exit_code(&error)
        }
        Ended::Signal { code, left } => {
            if !serves {
                printer.error(&if left { format!("interrupted: {AFTER_SIGNAL}") } else { "interrupted".into() });
            }
            code
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

enum Ended {
    Done(anyhow::Result<Done>),
    /// `left`: something may have been left half-made.
    Signal {
        code: u8,
        left: bool,
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
    if !interrupt.is_armed() {
        return Ended::Signal { code, left: true };
    }
    events.note("interrupted: removing what was made for this; once more ends at once");
    interrupt.request();
    tokio::select! {
        _ = &mut work => Ended::Signal { code, left: false },
        _ = signalled() => Ended::Signal { code, left: true },
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
        Command::Status(args) => status::run(&context, &args).await,
        Command::Verify(args) => verify::run(&context, &args).await,
        Command::Pause(args) => pause::run(&context, &args).await,
        Command::Resume(args) | Command::Start(args) => start::run(&context, &args).await,
        Command::Stop(args) => pause::run_stop(&context, &args).await,
        Command::Plan(args) => plan::run(&context, &args).await,
        Command::Render(args) => render::run(&context, &args).await,
        Command::Kubeconfig(args) => kubeconfig::run(&context, &args),
        Command::Env => env::run(&context),
        Command::List => list::run(&context).await,
        Command::Down(args) => down::run(&context, &args).await,
        Command::Schema => schema::run(),
        Command::Completions(args) => completions::run(&args),
        // Handled before anything is set up.
        Command::Serve(_) => Ok(Done::default()),
    }
}

impl Context {
    fn sources(&self) -> anyhow::Result<Sources> {
        Ok(Sources {
            directory: std::env::current_dir()?,
            variable: std::env::var_os(load::FILES_VARIABLE),
            environment: std::env::var(load::NAME_VARIABLE).ok(),
            files: self.global.files.clone(),
            name: self.global.name.clone(),
        })
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
