//! The command line: types only.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::report::{ColorChoice, Output};
use crate::spec::{Label, environment_name};

pub mod commands;
mod environment;
mod lab;
mod traffic;
mod values;

pub use environment::*;
pub use lab::*;
pub use traffic::*;

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
    Up(UpArgs),
    /// Send calls through the caller and show what both sides saw
    Call(CallArgs),
    /// Open the caller's page in the browser, and serve it until Ctrl-C
    Open(OpenArgs),
    /// Serve a page with both clusters, the calls between them and switches, until Ctrl-C
    Ui(OpenArgs),
    /// Show what exists and whether it works, layer by layer
    Status(TimeoutArgs),
    /// Show what the last up spent its time on; has --output html too
    Timeline(TimelineArgs),
    /// Show what a part writes: a sample, a proxy, istiod, a node, the link
    Logs(LogsArgs),
    /// Try each claim about the mesh on the running environment, and show the evidence
    Verify(VerifyArgs),
    /// Explain, hop by hop, what happens to a call, and name the first hop that is wrong, with its cure
    Why(WhyArgs),
    /// Apply policies to the clusters where they act: timeouts, retries, who may call
    Apply(ApplyArgs),
    /// Take policies away again
    Unapply(UnapplyArgs),
    /// Apply a folder of plain manifests where they belong, with the images and stub Services they need
    Deploy(DeployArgs),
    /// Load images of the local engine into the nodes
    #[command(subcommand)]
    Image(ImageCommand),
    /// Predict what would keep up from working, and say the cure; changes nothing
    Doctor(DoctorArgs),
    /// Freeze the nodes: no processor is used, memory is kept
    Pause(RestArgs),
    /// Bring a paused environment back, and wait for a call that crosses
    Resume(WakeArgs),
    /// Stop the nodes: memory is given back
    Stop(RestArgs),
    /// Bring a stopped environment back, and wait for a call that crosses
    Start(WakeArgs),
    /// Print every decision; changes nothing; has --output yaml too
    Plan(PlanArgs),
    /// Write every file that up would use into a folder, to be applied by hand
    Render(RenderArgs),
    /// Print the path of the environment's kubeconfig
    Kubeconfig(KubeconfigArgs),
    /// Print variables for a shell: eval "$(kindmesh env)"
    Env,
    /// List the environments on this engine
    List,
    /// Exercises: the pattern as a course, each failing as described at first
    #[command(subcommand)]
    Lab(LabCommand),
    /// Write a support archive: what somebody else needs to see what is wrong, without keys and tokens
    Bundle(BundleArgs),
    /// Delete what was made, found by label
    Down(DownArgs),
    /// List, remove or make beforehand what makes the next up faster
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Carry all that up needs to machines without a network, in one file
    #[command(subcommand)]
    Offline(OfflineCommand),
    /// Print the JSON Schema of the spec
    Schema,
    /// Print completions for a shell
    Completions(CompletionsArgs),
    /// Run a sample service: what the sample image does
    #[command(hide = true)]
    Serve(ServeArgs),
}
