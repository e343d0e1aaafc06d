//! Arguments of the commands that act on what runs in an environment: calls, policies, checks, workloads.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::values::{DELAY_MAX, duration, whole};
use crate::cluster::policies::Policy;
use crate::diagnose::why::Address;
use crate::report::verdicts::ReportFile;
use crate::spec::Label;

/// `call`.
#[derive(Debug, Args)]
pub struct CallArgs {
    /// The cluster whose caller calls [default: the first with a caller]
    #[arg(long, value_name = "CLUSTER")]
    pub from: Option<Label>,
    /// What to send
    #[arg(long, default_value = "hello", value_name = "TEXT")]
    pub payload: String,
    /// How long the producer waits before it answers, in milliseconds
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = whole(0..=DELAY_MAX), allow_negative_numbers = true)]
    pub delay_ms: u64,
    /// The status that the producer answers with
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = whole(200..=599u16), allow_negative_numbers = true)]
    pub status: u16,
    /// How many attempts of a call fail with that status; the next one succeeds [default: all]
    #[arg(long, value_name = "N", value_parser = whole(0..=1000u64), allow_negative_numbers = true)]
    pub fail_attempts: Option<u64>,
    /// How many calls, one after the other
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = whole(1..=u32::MAX), allow_negative_numbers = true)]
    pub count: u32,
    /// Fail with exit status 3 unless every call gives this status
    #[arg(long, value_name = "N", value_parser = whole(100..=599u16), allow_negative_numbers = true)]
    pub expect: Option<u16>,
    /// How long one answer may take: 45s, 1m
    #[arg(long, value_parser = duration, default_value = "45s", value_name = "TIME")]
    pub timeout: Duration,
}

/// `open` and `ui`.
#[derive(Debug, Args)]
pub struct OpenArgs {
    /// The cluster whose caller calls [default: the first with a caller]
    #[arg(long, value_name = "CLUSTER")]
    pub from: Option<Label>,
    /// The port on 127.0.0.1, 0 for any free one [default: any; open: 8080 where it is free]
    #[arg(long, value_name = "N", value_parser = whole(0..=u16::MAX), allow_negative_numbers = true)]
    pub port: Option<u16>,
    /// Only print the address
    #[arg(long)]
    pub no_browser: bool,
}

/// `apply`.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// What to apply
    #[arg(value_enum, value_name = "POLICY", required_unless_present = "list")]
    pub policies: Vec<Policy>,
    /// The cluster to apply it to [default: those where it acts]
    #[arg(long, value_name = "CLUSTER", conflicts_with = "list")]
    pub to: Option<Label>,
    /// List every policy, and the clusters it is applied in
    #[arg(long, conflicts_with = "policies")]
    pub list: bool,
    /// How long the clusters may take: 10s, 1m
    #[arg(long, value_parser = duration, default_value = "30s", value_name = "TIME")]
    pub timeout: Duration,
}

/// `unapply`.
#[derive(Debug, Args)]
pub struct UnapplyArgs {
    /// What to take away
    #[arg(value_enum, value_name = "POLICY", required_unless_present = "all")]
    pub policies: Vec<Policy>,
    /// The cluster to take it from [default: every one that has it]
    #[arg(long, value_name = "CLUSTER")]
    pub from: Option<Label>,
    /// Every policy, those of `up` included
    #[arg(long, conflicts_with = "policies")]
    pub all: bool,
    /// How long the clusters may take: 10s, 1m
    #[arg(long, value_parser = duration, default_value = "30s", value_name = "TIME")]
    pub timeout: Duration,
}

/// `why`.
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// The cluster that calls
    #[arg(value_name = "CLUSTER")]
    pub cluster: Label,
    /// What it calls.
    #[arg(value_name = "URL", help = "What it calls: http://SERVICE[.NAMESPACE][:PORT][/PATH]")]
    pub url: Address,
    /// The namespace that calls [default: the URL's own, else the samples']
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: Option<Label>,
    /// The pod that calls, by the beginning of its name [default: a ready one, in the mesh if there is one]
    #[arg(long, value_name = "POD")]
    pub pod: Option<String>,
    /// How long each look may take: 5s, 1m
    #[arg(long, value_parser = duration, default_value = "10s", value_name = "TIME")]
    pub timeout: Duration,
}

/// `deploy`.
#[derive(Debug, Args)]
pub struct DeployArgs {
    /// A folder of manifests (.yaml, .yml, .json), or one file
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// The cluster that all of it goes to [default: what annotations kindmesh/clusters and the spec's deploy say]
    #[arg(long, value_name = "CLUSTER")]
    pub to: Option<Label>,
    /// The namespace of what names none
    #[arg(long, value_name = "NAMESPACE", default_value = "default")]
    pub namespace: Label,
    /// Remove what was deployed from this folder, in every cluster
    #[arg(long, conflicts_with_all = ["to", "no_wait"])]
    pub delete: bool,
    /// Do not wait until all pods are ready
    #[arg(long)]
    pub no_wait: bool,
    /// How long the whole may take: 90s, 5m
    #[arg(long, value_parser = duration, default_value = "3m", value_name = "TIME")]
    pub timeout: Duration,
}

/// `image`.
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Load images of the local engine into the nodes; a new one of the same name takes the place of the old
    Load(ImageLoadArgs),
}

/// `image load`.
#[derive(Debug, Args)]
pub struct ImageLoadArgs {
    /// The images, as the engine names them
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<String>,
    /// The cluster whose nodes get them [default: all]
    #[arg(long, value_name = "CLUSTER")]
    pub to: Option<Label>,
    /// How long it may take: 90s, 5m
    #[arg(long, value_parser = duration, default_value = "3m", value_name = "TIME")]
    pub timeout: Duration,
}

/// `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The checks, by name or the beginning of one [default: all]
    #[arg(value_name = "ID")]
    pub checks: Vec<String>,
    /// List the checks
    #[arg(long)]
    pub list: bool,
    /// Leave out a check, by name or the beginning of one; may be repeated
    #[arg(long, value_name = "ID")]
    pub skip: Vec<String>,
    /// How often; a claim that fails once has failed
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = whole(1..=u32::MAX), allow_negative_numbers = true)]
    pub repeat: u32,
    /// End with the first failure
    #[arg(long)]
    pub fail_fast: bool,
    /// Leave the checks' namespaces where they are, to be looked at
    #[arg(long)]
    pub keep: bool,
    /// How long setting up may take, and each check: 60s, 2m
    #[arg(long, value_parser = duration, default_value = "60s", value_name = "TIME")]
    pub timeout: Duration,
    /// A folder with files ID.yaml, each applied in place of that check's own policies
    #[arg(long, value_name = "FOLDER")]
    pub manifests: Option<PathBuf>,
    /// Write a report too: junit, html, json or markdown; may be repeated
    #[arg(long, value_name = "KIND=FILE")]
    pub report: Vec<ReportFile>,
    /// Write a support archive if it fails [default: into this folder]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "", value_name = "FILE")]
    pub bundle_on_failure: Option<PathBuf>,
}
