//! The command line: types only.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::logs::What;
use crate::policies::Policy;
use crate::report::verdicts::ReportFile;
use crate::report::{ColorChoice, Output};
use crate::sample::{ProducerUrl, Role};
use crate::spec::{Label, environment_name};
use crate::why::Address;

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
    Warm,
}

/// `offline`.
#[derive(Debug, Subcommand)]
pub enum OfflineCommand {
    /// Write images, programs and manifests that up with this spec needs to a new file
    Save {
        /// The file, which must not exist
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Check such a file, and bring what is in it into the engine and the cache folder
    Load {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// `lab`.
#[derive(Debug, Subcommand)]
pub enum LabCommand {
    /// List the exercises
    List,
    /// Set an exercise's starting state, whatever was there before, and show its page
    Start(StartExerciseArgs),
    /// Try the checkpoints, and say what is different from what they expect
    Check,
    /// Give one more hint
    Hint,
    /// Show the solution, apply it, and wait until it works
    Solve(PutArgs),
    /// Put back what up made; no exercise is begun then
    Reset(ResetArgs),
    /// Show which exercises are done
    Progress,
    /// Prepare environments for a room of people, each brought up and then paused
    Seats(SeatsArgs),
}

/// `lab start`.
#[derive(Debug, Args)]
pub struct StartExerciseArgs {
    /// The exercise
    #[arg(value_name = "N")]
    pub number: usize,
    /// How long setting it up may take: 30s, 5m
    #[arg(long, value_parser = duration, default_value = "3m", value_name = "TIME")]
    pub timeout: Duration,
}

/// `lab solve`.
#[derive(Debug, Args)]
pub struct PutArgs {
    /// How long applying it may take: 30s, 5m
    #[arg(long, value_parser = duration, default_value = "3m", value_name = "TIME")]
    pub timeout: Duration,
}

/// `lab reset`.
#[derive(Debug, Args)]
pub struct ResetArgs {
    /// Forget which exercises are done, too
    #[arg(long)]
    pub forget: bool,
    /// How long it may take: 30s, 5m
    #[arg(long, value_parser = duration, default_value = "3m", value_name = "TIME")]
    pub timeout: Duration,
}

/// `lab seats`.
#[derive(Debug, Args)]
pub struct SeatsArgs {
    /// How many
    #[arg(value_name = "N", value_parser = whole(1..=99u8), allow_negative_numbers = true)]
    pub count: u8,
    /// What their names begin with; a number follows
    #[arg(long, default_value = "seat", value_name = "NAME", value_parser = environment_name)]
    pub prefix: Label,
    /// How long each may take: 90s, 15m
    #[arg(long, value_parser = duration, default_value = "15m", value_name = "TIME")]
    pub timeout: Duration,
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

/// The longest that a producer may be asked to wait, in milliseconds: a day.
const DELAY_MAX: u64 = LONGEST_SECONDS * 1000;

/// Reads a whole number within bounds; one that is none is told the bounds, too.
fn whole<N>(bounds: RangeInclusive<N>) -> impl Fn(&str) -> Result<N, String> + Clone + Send + Sync + 'static
where
    N: FromStr + Clone + PartialOrd + Display + Send + Sync + 'static,
{
    move |text| {
        let number = text.parse().ok().filter(|number| bounds.contains(number));
        number.ok_or_else(|| format!("give a whole number from {} to {}", bounds.start(), bounds.end()))
    }
}

/// Reads `90s`, `15m`, `1h`, or plain seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
        Some(end) => text.split_at(end),
        None => (text, "s"),
    };
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err("give a time from 1s to 24h, such as 90s or 15m".into()),
    };
    match number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)) {
        Some(seconds @ 1..=LONGEST_SECONDS) => Ok(Duration::from_secs(seconds)),
        _ => Err("give a time from 1s to 24h, such as 90s or 15m".into()),
    }
}

/// A day: longer is a mistake.
const LONGEST_SECONDS: u64 = 24 * 3600;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_bounded() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("15m"), Ok(Duration::from_secs(900)));
        for wrong in ["", "0s", "5d", "-1s", "25h", "9999999999999999h", "m"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
