//! The command line: its types, and which command is which.
//!
//! Each file of `commands` has one command: its arguments, its description and its work. `run` runs them all alike.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::report::{ColorChoice, Output};
use crate::spec::{Label, environment_name};

mod commands;
mod context;
mod run;
mod signals;
mod task;
mod values;

use commands::{
    apply, bundle, cache, call, completions, deploy, doctor, down, env, image, kubeconfig, lab, list, logs,
    offline, open, pause, plan, render, schema, serve, start, status, timeline, ui, up, verify, why,
};
use task::Task;

/// Two real Kubernetes clusters in one Istio mesh on this machine, and proof that a call crosses.
#[derive(Debug, Parser)]
#[command(name = "kindmesh", version, arg_required_else_help = true)]
#[command(after_help = "Exit status: 0 done, 1 the environment failed or there is none, 2 usage or spec, \
    3 a check or an expectation failed, 4 a prerequisite is missing.")]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// The environment's name [default: what the spec says, else kindmesh]
    #[arg(long, global = true, value_name = "NAME", value_parser = environment_name)]
    pub name: Option<Label>,
    /// A spec file; may be repeated, later ones win [default: ./kindmesh.yaml, where it exists]
    #[arg(short, long = "file", global = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// For whom the output is
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Output,
    /// Say only results and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say details, as plain lines
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// When to use colours
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub color: ColorChoice,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring the environment up, or repair it, and verify a call that crosses
    Up(up::UpArgs),
    /// Send calls through the caller and show what both sides saw
    Call(call::CallArgs),
    /// Open the caller's page in the browser, and serve it until Ctrl-C
    Open(open::OpenArgs),
    /// Serve a page with both clusters, the calls between them and switches, until Ctrl-C
    Ui(open::OpenArgs),
    /// Show what exists and whether it works, layer by layer
    Status(status::TimeoutArgs),
    /// Show what the last up spent its time on; has --output html too
    Timeline(timeline::TimelineArgs),
    /// Show what a part writes: a sample, a proxy, istiod, a node, the link
    Logs(logs::LogsArgs),
    /// Try each claim about the mesh on the running environment, and show the evidence
    Verify(verify::VerifyArgs),
    /// Explain, hop by hop, what happens to a call, and name the first hop that is wrong, with its cure
    Why(why::WhyArgs),
    /// Apply policies to the clusters where they act: timeouts, retries, who may call
    Apply(apply::ApplyArgs),
    /// Take policies away again
    Unapply(apply::UnapplyArgs),
    /// Apply a folder of plain manifests where they belong, with the images and stub Services they need
    Deploy(deploy::DeployArgs),
    /// Load images of the local engine into the nodes
    #[command(subcommand)]
    Image(image::ImageCommand),
    /// Predict what would keep up from working, and say the cure; changes nothing
    Doctor(doctor::DoctorArgs),
    /// Freeze the nodes: no processor is used, memory is kept
    Pause(pause::RestArgs),
    /// Bring a paused environment back, and wait for a call that crosses
    Resume(start::WakeArgs),
    /// Stop the nodes: memory is given back
    Stop(pause::RestArgs),
    /// Bring a stopped environment back, and wait for a call that crosses
    Start(start::WakeArgs),
    /// Print every decision; changes nothing; has --output yaml too
    Plan(plan::PlanArgs),
    /// Write every file that up would use into a folder, to be applied by hand
    Render(render::RenderArgs),
    /// Print the path of the environment's kubeconfig
    Kubeconfig(kubeconfig::KubeconfigArgs),
    /// Print variables for a shell: eval "$(kindmesh env)"
    Env,
    /// List the environments on this engine
    List,
    /// Exercises: the pattern as a course, each failing as described at first
    #[command(subcommand)]
    Lab(lab::LabCommand),
    /// Write a support archive: what somebody else needs to see what is wrong, without keys and tokens
    Bundle(bundle::BundleArgs),
    /// Delete what was made, found by label
    Down(down::DownArgs),
    /// List, remove or make beforehand what makes the next up faster
    #[command(subcommand)]
    Cache(cache::CacheCommand),
    /// Carry all that up needs to machines without a network, in one file
    #[command(subcommand)]
    Offline(offline::OfflineCommand),
    /// Print the JSON Schema of the spec
    Schema,
    /// Print completions for a shell
    Completions(completions::CompletionsArgs),
    /// Run a sample service: what the sample image does
    #[command(hide = true)]
    Serve(serve::ServeArgs),
}

/// Runs a command to its exit status.
pub fn main(cli: Cli) -> ExitCode {
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
            Self::Why(args) => why::command(args),
            Self::Apply(args) => apply::command(args),
            Self::Unapply(args) => apply::unapply_command(args),
            Self::Deploy(args) => deploy::command(args),
            Self::Image(args) => image::command(args),
            Self::Doctor(args) => doctor::command(args),
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
            Self::Offline(args) => offline::command(args),
            Self::Schema => schema::command(),
            Self::Completions(args) => completions::command(args),
            Self::Serve(args) => serve::command(args),
        }
    }
}
