//! `kindmesh fault`

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Context, Description, Done, Task};
use crate::base::error::Error;
use crate::base::event::Outcome;
use crate::base::hint;
use crate::cli::values::duration;
use crate::cluster::environment::Environment;
use crate::cluster::fault::{self, Fault, Kind, bandwidth, latency, percent};
use crate::host::docker::Engine;
use crate::host::inventory as gather;
use crate::host::outage;
use crate::lifecycle::fault::{Scene, Target};
use crate::lifecycle::locked;
use crate::plan::Plan;
use crate::report::Table;
use crate::spec::Label;

/// `fault`.
#[derive(Debug, Subcommand)]
pub enum FaultCommand {
    /// Drop all packets between the pods of two clusters; their control planes stay connected
    Cut(LinkArgs),
    /// Drop all packets between the nodes of two clusters, also those between control planes
    Partition(LinkArgs),
    /// Lose packets between two clusters at random, in each direction
    Loss(LossArgs),
    /// Limit the bandwidth between two clusters, in each direction
    Bandwidth(BandwidthArgs),
    /// Delay packets between two clusters, in each direction; requires netem or NFQUEUE in the engine's kernel
    Delay(LatencyArgs),
    /// Vary the delay of packets between two clusters; requires netem or NFQUEUE in the engine's kernel
    Jitter(LatencyArgs),
    /// Kill the nodes of a cluster, and start them again
    KillCluster(KillArgs),
    /// Kill the nodes of a zone, in any cluster, and start them again
    KillZone(ZoneArgs),
    /// Stop istiod of a cluster: its proxies get no updates and no certificates
    KillIstiod(KillArgs),
    /// List the active faults
    List,
    /// End all faults; an outage of kill-cluster or kill-zone ends in its own command
    Clear,
}

/// When a fault ends.
#[derive(Debug, Clone, Copy, Args)]
pub struct ForArgs {
    /// When the fault ends by itself, such as 30s or 5m; at most 1h
    #[arg(long = "for", value_parser = lasting, default_value = "60s", value_name = "TIME")]
    pub lasts: Duration,
}

/// A fault between two clusters.
#[derive(Debug, Args)]
pub struct LinkArgs {
    /// The two clusters, separated by a comma [default: both, if there are two]
    #[arg(long, value_delimiter = ',', num_args = 1, value_name = "CLUSTER,CLUSTER")]
    pub between: Vec<Label>,
    /// When it ends.
    #[command(flatten)]
    pub ends: ForArgs,
}

/// `fault loss`.
#[derive(Debug, Args)]
pub struct LossArgs {
    /// Percentage of packets to lose, such as 10%
    #[arg(value_parser = percent, value_name = "PERCENT")]
    pub percent: f64,
    /// Where.
    #[command(flatten)]
    pub link: LinkArgs,
}

/// `fault bandwidth`.
#[derive(Debug, Args)]
pub struct BandwidthArgs {
    /// Rate in bits per second, such as 500kbit or 1mbit
    #[arg(value_parser = bandwidth, value_name = "RATE")]
    pub rate: u32,
    /// Where.
    #[command(flatten)]
    pub link: LinkArgs,
}

/// `fault delay` and `jitter`.
#[derive(Debug, Args)]
pub struct LatencyArgs {
    /// Time in each direction, such as 100ms
    #[arg(value_parser = latency, value_name = "TIME")]
    pub time: Duration,
    /// Where.
    #[command(flatten)]
    pub link: LinkArgs,
}

/// `fault kill-cluster` and `kill-istiod`.
#[derive(Debug, Args)]
pub struct KillArgs {
    /// The cluster
    #[arg(value_name = "CLUSTER")]
    pub cluster: Label,
    /// When it ends.
    #[command(flatten)]
    pub ends: ForArgs,
}

/// `fault kill-zone`.
#[derive(Debug, Args)]
pub struct ZoneArgs {
    /// The zone: the label topology.kubernetes.io/zone of nodes
    #[arg(value_name = "ZONE")]
    pub zone: String,
    /// When it ends.
    #[command(flatten)]
    pub ends: ForArgs,
}

fn lasting(text: &str) -> Result<Duration, String> {
    let expected = || "expected a duration from 1s to 1h, such as 30s or 5m".to_owned();
    duration(text).ok().filter(|lasts| *lasts <= fault::LONGEST).ok_or_else(expected)
}

pub fn command(command: FaultCommand) -> Task {
    let kills = matches!(command, FaultCommand::KillCluster(_) | FaultCommand::KillZone(_));
    let after_signal: Option<fn(&str) -> String> = match command {
        FaultCommand::List => None,
        _ if kills => Some(|flags| format!("nodes may be down; start them: kindmesh start{flags}")),
        _ => {
            Some(|flags| format!("the fault may be active until its end; end it now: kindmesh fault clear{flags}"))
        }
    };
    let description =
        Description { streams_events: kills, after_signal, ends_outages: true, ..Description::of("fault") };
    Task::new(description, async move |context| run(context, &command).await)
}

async fn run(context: &Context, command: &FaultCommand) -> anyhow::Result<Done> {
    context.require_own_nodes("fault")?;
    match command {
        FaultCommand::Cut(args) => inject(context, Kind::Cut, args).await,
        FaultCommand::Partition(args) => inject(context, Kind::Partition, args).await,
        FaultCommand::Loss(args) => inject(context, Kind::Loss { percent: args.percent }, &args.link).await,
        FaultCommand::Bandwidth(args) => {
            inject(context, Kind::Bandwidth { kilobits: args.rate }, &args.link).await
        }
        FaultCommand::Delay(args) => inject(context, Kind::Delay { millis: millis(args.time) }, &args.link).await,
        FaultCommand::Jitter(args) => {
            inject(context, Kind::Jitter { millis: millis(args.time) }, &args.link).await
        }
        FaultCommand::KillIstiod(args) => {
            let there = Place::open(context).await?;
            there.environment.cluster(args.cluster.as_str())?;
            there.inject(context, Kind::KillIstiod, vec![args.cluster.to_string()], args.ends.lasts).await
        }
        FaultCommand::KillCluster(args) => {
            kill(context, Target::Cluster(args.cluster.to_string()), args.ends.lasts).await
        }
        FaultCommand::KillZone(args) => kill(context, Target::Zone(args.zone.clone()), args.ends.lasts).await,
        FaultCommand::List => list(context).await,
        FaultCommand::Clear => clear(context).await,
    }
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

/// An environment, its engine and its plan.
struct Place {
    environment: Environment,
    engine: Engine,
    plan: Plan,
}

impl Place {
    async fn open(context: &Context) -> anyhow::Result<Self> {
        let environment = Environment::open(&context.folders, &context.environment_name()?)?;
        let engine = Engine::connect().await?;
        let plan = environment.plan(&engine, gather::gather(&engine).await?)?;
        Ok(Self { environment, engine, plan })
    }

    async fn inject(
        &self,
        context: &Context,
        kind: Kind,
        clusters: Vec<String>,
        lasts: Duration,
    ) -> anyhow::Result<Done> {
        let name = self.environment.name();
        let (_lock, _) = locked::open_shared(&context.folders, name, None, &context.events).await?;
        let fault = Fault::new(kind, clusters, lasts);
        let step = context.events.step("fault", None);
        step.run(async |_| Ok(Outcome::changed(fault::inject(&self.engine, &self.plan, &fault).await?))).await?;
        if context.is_json() {
            return Done::json(&json!({"schemaVersion": 1, "faults": [fault]}));
        }
        Ok(Done::text(format!(
            "Fault active: {fault}. It {}; to end it now: {}",
            fault.ending(),
            hint::clear_hint(name)
        )))
    }
}

async fn inject(context: &Context, kind: Kind, args: &LinkArgs) -> anyhow::Result<Done> {
    let there = Place::open(context).await?;
    let clusters = between(&there.environment, &args.between)?;
    there.inject(context, kind, clusters, args.ends.lasts).await
}

/// Returns the two clusters that an argument names, or the only two.
fn between(environment: &Environment, named: &[Label]) -> Result<Vec<String>, Error> {
    let all = environment.cluster_names();
    match named {
        [] if all.len() == 2 => Ok(all.into_iter().map(str::to_owned).collect()),
        [one, other] if one != other => {
            environment.cluster(one.as_str())?;
            environment.cluster(other.as_str())?;
            Ok(vec![one.to_string(), other.to_string()])
        }
        _ => Err(Error::usage("a fault is between two clusters")
            .hint(format!("use --between with two of {}", all.join(", ")))),
    }
}

async fn kill(context: &Context, target: Target, lasts: Duration) -> anyhow::Result<Done> {
    let there = Place::open(context).await?;
    let scene = Scene {
        engine: &there.engine,
        environment: &there.environment,
        folders: &context.folders,
        events: &context.events,
    };
    scene.outage(&target, lasts, &context.interrupt).await?;
    let (Target::Cluster(subject) | Target::Zone(subject)) = target;
    Ok(match context.is_json() {
        true => Done::default(),
        false => Done::text(format!("{subject} was down and runs again.")),
    })
}

async fn list(context: &Context) -> anyhow::Result<Done> {
    let there = Place::open(context).await?;
    let faults = fault::active(&there.engine, &there.plan).await?;
    let outages = outage::all(&there.environment.files);
    if context.is_json() {
        return Done::json(&json!({"schemaVersion": 1, "faults": faults, "outages": outages}));
    }
    if faults.is_empty() && outages.is_empty() {
        return Ok(Done::text("No faults are active."));
    }
    let mut table = Table::headless();
    for fault in &faults {
        table.row([fault.to_string(), fault.ending()]);
    }
    for found in &outages {
        table.row([found.to_string(), found.ending()]);
    }
    Ok(Done::text(table.render(context.printer.stdout_style())))
}

async fn clear(context: &Context) -> anyhow::Result<Done> {
    let there = Place::open(context).await?;
    let name = there.environment.name();
    let _lock = locked::shared(&there.environment.files, name, None, &context.events).await?;
    let step = context.events.step("fault-clear", None);
    let ended = step.run(async |_| {
        let ended = fault::clear(&there.engine, &there.plan).await?;
        Ok(Outcome { changed: !ended.is_empty(), value: ended })
    });
    let ended = ended.await?;
    let left = outage::all(&there.environment.files);
    if context.is_json() {
        return Done::json(&json!({"schemaVersion": 1, "ended": ended, "outages": left}));
    }
    let mut lines: Vec<_> = ended.iter().map(|fault| format!("Ended: {fault}.")).collect();
    let left =
        left.iter().map(|found| format!("Not ended: {}; press Ctrl-C there to end it now.", found.described()));
    lines.extend(left);
    if lines.is_empty() {
        lines.push("No faults were active.".into());
    }
    Ok(Done::text(lines.join("\n")))
}
