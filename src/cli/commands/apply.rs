//! `kindmesh apply` and `kindmesh unapply`

use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::time::Instant;

use super::{Context, Description, Done, Task, kept};
use crate::base::hint::up_hint;
use crate::cli::values::duration;
use crate::cluster::environment::Environment;
use crate::cluster::policies::{Change, Policies, Policy};
use crate::lifecycle::locked;
use crate::report::Table;
use crate::spec::Label;

/// `apply`.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// Policies to apply
    #[arg(value_enum, value_name = "POLICY", required_unless_present = "list")]
    pub policies: Vec<Policy>,
    /// Cluster to apply them to [default: those where they take effect]
    #[arg(long, value_name = "CLUSTER", conflicts_with = "list")]
    pub to: Option<Label>,
    /// List every policy, and the clusters where it is applied
    #[arg(long, conflicts_with = "policies")]
    pub list: bool,
    /// Timeout of each cluster, such as 10s or 1m
    #[arg(long, value_parser = duration, default_value = "30s", value_name = "TIME")]
    pub timeout: Duration,
}

/// `unapply`.
#[derive(Debug, Args)]
pub struct UnapplyArgs {
    /// Policies to remove
    #[arg(value_enum, value_name = "POLICY", required_unless_present = "all")]
    pub policies: Vec<Policy>,
    /// Cluster to remove them from [default: every cluster that has them]
    #[arg(long, value_name = "CLUSTER")]
    pub from: Option<Label>,
    /// Remove every policy, including those that up applied
    #[arg(long, conflicts_with = "policies")]
    pub all: bool,
    /// Timeout of each cluster, such as 10s or 1m
    #[arg(long, value_parser = duration, default_value = "30s", value_name = "TIME")]
    pub timeout: Duration,
}

pub fn command(args: ApplyArgs) -> Task {
    Task::new(
        Description { after_signal: Some(kept), ends_outages: true, ..Description::of("apply") },
        async move |context| run(context, &args).await,
    )
}

pub fn unapply_command(args: UnapplyArgs) -> Task {
    Task::new(
        Description { after_signal: Some(kept), ends_outages: true, ..Description::of("unapply") },
        async move |context| run_unapply(context, &args).await,
    )
}

async fn run(context: &Context, args: &ApplyArgs) -> anyhow::Result<Done> {
    if args.list {
        return list(context, args).await;
    }
    let name = context.environment_name()?;
    let (_lock, environment) = locked::open_shared(&context.folders, &name, None, &context.events).await?;
    let policies = Policies::of(&environment, Instant::now() + args.timeout).await?;
    let changes = policies.apply(&args.policies, args.to.as_ref().map(|to| to.as_str())).await?;
    done(context, &environment, &changes, applied)
}

async fn run_unapply(context: &Context, args: &UnapplyArgs) -> anyhow::Result<Done> {
    let name = context.environment_name()?;
    let (_lock, environment) = locked::open_shared(&context.folders, &name, None, &context.events).await?;
    let policies = Policies::of(&environment, Instant::now() + args.timeout).await?;
    let named = if args.all { Policy::all() } else { &args.policies[..] };
    let mut changes = policies.unapply(named, args.from.as_ref().map(|from| from.as_str())).await?;
    if args.all {
        changes.retain(|change| change.changed);
        if changes.is_empty() && !context.is_json() {
            return Ok(Done::text("No policies are applied."));
        }
    }
    let hint = up_hint(environment.name());
    done(context, &environment, &changes, |change| unapplied(change, &hint))
}

fn done(
    context: &Context,
    environment: &Environment,
    changes: &[Change],
    line: impl Fn(&Change) -> String,
) -> anyhow::Result<Done> {
    if context.is_json() {
        return Done::json(&json!({"schemaVersion": 1, "environment": environment.name(), "changes": changes}));
    }
    let lines: Vec<_> = changes.iter().map(|change| format!("{}: {}", change.cluster, line(change))).collect();
    Ok(Done::text(lines.join("\n")))
}

fn applied(change: &Change) -> String {
    let policy = change.policy;
    let mut text = match (change.changed, change.replaced) {
        (false, _) => format!("{policy} unchanged"),
        (true, None) => format!("{policy} applied"),
        (true, Some(replaced)) => format!("{policy} applied, replacing {replaced}"),
    };
    if !change.acts_here {
        let side = policy.side();
        text.push_str(&format!(
            ", without effect: it takes effect in the {side}'s cluster, and this cluster \
            has none"
        ));
    }
    text
}

fn unapplied(change: &Change, up: &str) -> String {
    let policy = change.policy;
    match (change.changed, change.restored) {
        (false, _) => format!("{policy} was not applied"),
        (true, Some(restored)) => format!("{policy} removed, {restored} restored"),
        (true, None) if policy.is_ups_own() => format!("{policy} removed; {up} applies it again"),
        (true, None) => format!("{policy} removed"),
    }
}

async fn list(context: &Context, args: &ApplyArgs) -> anyhow::Result<Done> {
    let environment = Environment::open(&context.folders, &context.environment_name()?)?;
    locked::require_running(environment.name(), &environment.cluster_names()).await?;
    let policies = Policies::of(&environment, Instant::now() + args.timeout).await?.list().await?;
    if context.is_json() {
        return Done::json(&json!({"schemaVersion": 1, "environment": environment.name(), "policies": policies}));
    }
    let mut table = Table::new(["POLICY", "TAKES EFFECT IN", "APPLIED IN", "EFFECT"]);
    for listed in &policies {
        let or_dash = |clusters: &[String]| if clusters.is_empty() { "-".into() } else { clusters.join(", ") };
        table.row([
            listed.policy.to_string(),
            or_dash(&listed.acts_in),
            or_dash(&listed.applied_in),
            listed.does.clone(),
        ]);
    }
    Ok(Done::text(table.render(context.printer.stdout_style())))
}
