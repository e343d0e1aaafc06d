//! The command line: its arguments and commands.
//!
//! Each file of `commands` holds one command: its arguments, its description and its work. `run` runs all of them.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, FromArgMatches, Parser, Subcommand};

use crate::report::{ColorChoice, Output};
use crate::spec::{Label, environment_name};

mod commands;
mod confirm;
mod context;
mod help;
mod run;
mod signals;
mod task;
mod values;

use commands::{
    apply, bench, bundle, cache, call, completions, deploy, doctor, down, env, experiment, fault, image,
    kubeconfig, lab, lint, list, logs, offline, open, pause, plan, render, schema, serve, snapshot, start, status,
    timeline, ui, up, verify, why,
};
use task::Task;

/// Run Kubernetes clusters as one Istio mesh on this host, and verify the calls between them.
#[derive(Debug, Parser)]
#[command(name = "kindmesh", version, arg_required_else_help = true)]
#[command(after_help = "Exit status: 0 success, 1 the environment failed or does not exist, 2 invalid usage or \
    spec, 3 a check or an expectation failed, 4 a prerequisite is missing, 130 interrupted, 143 terminated.")]
pub struct Cli {
    /// The arguments of all commands.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The arguments of all commands.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Name of the environment [default: the spec's name, else KINDMESH_ENVIRONMENT, else kindmesh]
    #[arg(long, global = true, value_name = "NAME", value_parser = environment_name)]
    pub name: Option<Label>,
    /// Spec file; may be repeated, later files override earlier ones [default: ./kindmesh.yaml, if it exists]
    #[arg(short, long = "file", global = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Output format
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Output,
    /// Print only results and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Print details, as plain lines
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// When to use colors
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub color: ColorChoice,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create or repair the environment, and verify a cross-cluster call
    Up(up::UpArgs),
    /// Send calls through the caller, and show what each side received
    Call(call::CallArgs),
    /// Open the caller page in a browser
    Open(open::OpenArgs),
    /// Open the dashboard: clusters, calls, policies, exercises
    Ui(open::OpenArgs),
    /// Show what exists and whether it works, layer by layer
    Status(status::TimeoutArgs),
    /// Show where the last run of up spent its time
    Timeline(timeline::TimelineArgs),
    /// Print logs of samples, proxies, istiod, nodes and links
    Logs(logs::LogsArgs),
    /// Test each claim about the mesh, and show the evidence
    Verify(verify::VerifyArgs),
    /// Measure calls inside and across clusters, with and without mTLS
    Bench(bench::BenchArgs),
    /// Explain a call hop by hop, and name the first hop that fails
    Why(why::WhyArgs),
    /// Apply policies: timeouts, retries, authorization
    Apply(apply::ApplyArgs),
    /// Remove policies
    Unapply(apply::UnapplyArgs),
    /// Apply your manifests, with the images and stub Services they need
    Deploy(deploy::DeployArgs),
    /// Find mistakes in manifests that only show in a mesh
    Lint(lint::LintArgs),
    /// Load images from the local engine into the nodes
    #[command(subcommand)]
    Image(image::ImageCommand),
    /// Find what would make kindmesh up fail, without changing anything
    Doctor(doctor::DoctorArgs),
    /// Cut links, lose packets, kill clusters or istiod, for a while
    #[command(subcommand)]
    Fault(fault::FaultCommand),
    /// Send calls while faults happen, and judge what was expected
    Experiment(experiment::ExperimentArgs),
    /// Freeze the nodes: they use no CPU, but keep their memory
    Pause(pause::PauseArgs),
    /// Resume a paused environment, and wait for a cross-cluster call
    Resume(start::StartArgs),
    /// Stop the nodes, which frees their memory
    Stop(pause::PauseArgs),
    /// Start a stopped environment, and wait for a cross-cluster call
    Start(start::StartArgs),
    /// Print what up would do, without changing anything
    Plan(plan::PlanArgs),
    /// Write the files that up would use into a directory
    Render(render::RenderArgs),
    /// Print the path of the kubeconfig, or merge it into yours
    Kubeconfig(kubeconfig::KubeconfigArgs),
    /// Print shell variables: eval "$(kindmesh env)"
    Env,
    /// List the environments on this engine
    List,
    /// Work through exercises, each with a fault to fix
    #[command(subcommand)]
    Lab(lab::LabCommand),
    /// Write a support archive, without keys and tokens
    Bundle(bundle::BundleArgs),
    /// Delete the environment
    Down(down::DownArgs),
    /// Save the environment as a snapshot, and restore it
    #[command(subcommand)]
    Snapshot(snapshot::SnapshotCommand),
    /// List, prune or warm the cache of images and tools for kindmesh up
    #[command(subcommand)]
    Cache(cache::CacheCommand),
    /// Save and load what up needs, for hosts without a network
    #[command(subcommand)]
    Offline(offline::OfflineCommand),
    /// Print the JSON Schema of the spec
    Schema,
    /// Print shell completions
    Completions(completions::CompletionsArgs),
    /// Run a sample service (used by the sample image)
    #[command(hide = true)]
    Serve(serve::ServeArgs),
}

/// Parses the process's arguments, runs the command and returns its exit status.
pub fn main() -> ExitCode {
    let parsed = Cli::from_arg_matches(&help::command().get_matches());
    let cli = parsed.unwrap_or_else(|error| error.exit());
    run::main(cli.global, cli.command.task())
}

impl Command {
    fn task(self) -> Task {
        match self {
            Self::Up(args) => up::command(args),
            Self::Call(args) => call::command(args),
            Self::Open(args) => open::command(args),
            Self::Ui(args) => ui::command(args),
            Self::Status(args) => status::command(args),
            Self::Timeline(args) => timeline::command(args),
            Self::Logs(args) => logs::command(args),
            Self::Verify(args) => verify::command(args),
            Self::Bench(args) => bench::command(args),
            Self::Why(args) => why::command(args),
            Self::Apply(args) => apply::command(args),
            Self::Unapply(args) => apply::unapply_command(args),
            Self::Deploy(args) => deploy::command(args),
            Self::Lint(args) => lint::command(args),
            Self::Image(args) => image::command(args),
            Self::Doctor(args) => doctor::command(args),
            Self::Fault(args) => fault::command(args),
            Self::Experiment(args) => experiment::command(args),
            Self::Pause(args) => pause::command(args),
            Self::Resume(args) => start::resume_command(args),
            Self::Stop(args) => pause::stop_command(args),
            Self::Start(args) => start::command(args),
            Self::Plan(args) => plan::command(args),
            Self::Render(args) => render::command(args),
            Self::Kubeconfig(args) => kubeconfig::command(args),
            Self::Env => env::command(),
            Self::List => list::command(),
            Self::Lab(args) => lab::command(args),
            Self::Bundle(args) => bundle::command(args),
            Self::Down(args) => down::command(args),
            Self::Cache(args) => cache::command(args),
            Self::Snapshot(args) => snapshot::command(args),
            Self::Offline(args) => offline::command(args),
            Self::Schema => schema::command(),
            Self::Completions(args) => completions::command(args),
            Self::Serve(args) => serve::command(args),
        }
    }
}
