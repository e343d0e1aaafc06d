//! Arguments of the commands that make, rest, look at and remove environments.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::values::{duration, whole};
use crate::diagnose::logs::What;
use crate::sample::{ProducerUrl, Role};
use crate::spec::Label;

/// `up`.
#[derive(Debug, Args)]
pub struct UpArgs {
    /// How long the whole may take: 90s, 15m
    #[arg(long, value_parser = duration, default_value = "15m", value_name = "TIME")]
    pub timeout: Duration,
    /// Write a support archive if it fails [default: into this folder]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "", value_name = "FILE")]
    pub bundle_on_failure: Option<PathBuf>,
}

/// A command that waits.
#[derive(Debug, Args)]
pub struct TimeoutArgs {
    /// How long an answer may take: 10s, 1m
    #[arg(long, value_parser = duration, default_value = "10s", value_name = "TIME")]
    pub timeout: Duration,
}

/// `logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Whose [default: list what there is]
    #[arg(value_enum, value_name = "WHAT")]
    pub what: Option<What>,
    /// Of this cluster only
    #[arg(long, value_name = "CLUSTER")]
    pub cluster: Option<Label>,
    /// How many of the last lines of each
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = whole(1..=u32::MAX), allow_negative_numbers = true)]
    pub lines: u32,
    /// Go on with what is written next, until Ctrl-C
    #[arg(long, requires = "what", conflicts_with = "previous")]
    pub follow: bool,
    /// What a container wrote before it was started anew
    #[arg(long, requires = "what")]
    pub previous: bool,
}

/// `timeline`.
#[derive(Debug, Args)]
pub struct TimelineArgs {
    /// Which run: 1 is the last one
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = whole(1..=u32::MAX), allow_negative_numbers = true)]
    pub run: u32,
    /// List the runs that are recorded
    #[arg(long, conflicts_with = "run")]
    pub list: bool,
}

/// `bundle`.
#[derive(Debug, Args)]
pub struct BundleArgs {
    /// The archive, which must not exist, or a folder for it [default: kindmesh-NAME-TIME.tar.gz in this folder]
    #[arg(value_name = "FILE")]
    pub path: Option<PathBuf>,
}

/// `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// How long all of it may take; what does not answer by then is not known: 5s, 1m
    #[arg(long, value_parser = duration, default_value = "2s", value_name = "TIME")]
    pub timeout: Duration,
}

/// `pause` and `stop`.
#[derive(Debug, Args)]
pub struct RestArgs {
    /// How long it may take: 30s, 2m
    #[arg(long, value_parser = duration, default_value = "60s", value_name = "TIME")]
    pub timeout: Duration,
}

/// `resume` and `start`.
#[derive(Debug, Args)]
pub struct WakeArgs {
    /// How long it may take until a call crosses: 90s, 5m
    #[arg(long, value_parser = duration, default_value = "3m", value_name = "TIME")]
    pub timeout: Duration,
}

/// `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Read nothing of the engine and the host's routes: plan for an empty machine
    #[arg(long)]
    pub offline: bool,
}

/// `render`.
#[derive(Debug, Args)]
pub struct RenderArgs {
    /// The folder, which must be empty or not exist
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
}

/// `kubeconfig`.
#[derive(Debug, Args)]
pub struct KubeconfigArgs {
    /// Print its content instead
    #[arg(long, conflicts_with = "merge")]
    pub raw: bool,
    /// Merge it into the user's own (the first of KUBECONFIG, else ~/.kube/config) and print that path
    #[arg(long)]
    pub merge: bool,
}

/// `down`.
#[derive(Debug, Args)]
pub struct DownArgs {
    /// Every environment on this engine
    #[arg(long, conflicts_with = "name")]
    pub all: bool,
    /// Wait until no test uses it; does nothing to one that tests did not make
    #[arg(long, hide = true, conflicts_with = "all")]
    pub when_unused: bool,
    /// How long it may take: 90s, 5m
    #[arg(long, value_parser = duration, default_value = "5m", value_name = "TIME")]
    pub timeout: Duration,
}

/// `cache`.
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// List baked node images, sample images, programs and renderings, with their sizes and who uses them
    List,
    /// Remove what no environment uses
    Prune,
    /// Make all that up needs and that needs no cluster: images, the baked node image, programs, renderings
    Warm(WarmArgs),
}

/// `cache warm`.
#[derive(Debug, Args)]
pub struct WarmArgs {
    /// How long it may take: 90s, 30m
    #[arg(long, value_parser = duration, default_value = "30m", value_name = "TIME")]
    pub timeout: Duration,
}

/// `offline`.
#[derive(Debug, Subcommand)]
pub enum OfflineCommand {
    /// Write images, programs and manifests that up with this spec needs to a new file
    Save {
        /// The file, which must not exist
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// How long it may take: 90s, 30m
        #[arg(long, value_parser = duration, default_value = "30m", value_name = "TIME")]
        timeout: Duration,
    },
    /// Check such a file, and bring what is in it into the engine and the cache folder
    Load {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// How long it may take: 90s, 30m
        #[arg(long, value_parser = duration, default_value = "30m", value_name = "TIME")]
        timeout: Duration,
    },
}

/// `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// caller, producer or probe
    pub role: Role,
    /// Where the caller finds the producer [default: http://sample-producer:8080]
    #[arg(long, value_name = "URL")]
    pub producer: Option<ProducerUrl>,
}
