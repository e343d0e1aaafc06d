//! `kindmesh down`

use std::time::Duration;

use clap::Args;
use tokio::time::Instant;

use super::{Context, Description, Done, Task};
use crate::apps::testing;
use crate::base::error::Error;
use crate::base::hint::down_hint;
use crate::base::wait;
use crate::cli::values::duration;
use crate::host::docker::Engine;
use crate::host::inventory as gather;
use crate::host::snapshot::Store;
use crate::lifecycle::down;
use crate::plan::admission;

/// `down`.
#[derive(Debug, Args)]
pub struct DownArgs {
    /// Delete every environment on this engine, and the templates of their clusters
    #[arg(long, conflicts_with = "name")]
    pub all: bool,
    /// Wait until no test uses it; does nothing unless tests created it
    #[arg(long, hide = true, conflicts_with = "all")]
    pub when_unused: bool,
    /// Timeout, such as 90s or 5m
    #[arg(long, value_parser = duration, default_value = "5m", value_name = "TIME")]
    pub timeout: Duration,
}

pub fn command(args: DownArgs) -> Task {
    let after_signal: fn(&str) -> String = if args.all { |_| after_signal(" --all") } else { after_signal };
    let description = Description {
        streams_events: true,
        after_signal: Some(after_signal),
        annotated: true,
        recorded: !args.all,
        ..Description::of("down")
    };
    Task::new(description, async move |context| run(context, &args).await)
}

/// Returns how to continue after a signal.
fn after_signal(which: &str) -> String {
    format!("kindmesh down{which} continues; it finds remaining objects by their labels")
}

async fn run(context: &Context, args: &DownArgs) -> anyhow::Result<Done> {
    // clap detects this conflict only if both are given after the command's name.
    if let (true, Some(name)) = (args.all, &context.global.name) {
        return Err(Error::usage(format!("--all selects every environment, --name {name} selects one"))
            .hint("omit one of them")
            .into());
    }
    if args.when_unused {
        testing::down_when_unused(&context.folders, &context.environment_name()?, &context.events).await?;
        return Ok(Done::default());
    }
    let late = || {
        Error::environment(format!("not deleted after {} s", args.timeout.as_secs())).hint(
            "kindmesh down continues; --timeout allows more time; check whether the engine responds: docker ps",
        )
    };
    wait::within(Instant::now() + args.timeout, &context.events, down_all(context, args), late).await
}

async fn down_all(context: &Context, args: &DownArgs) -> anyhow::Result<Done> {
    // Report an invalid name before connecting to the engine.
    let one = if args.all { None } else { Some(context.environment_name()?) };
    let engine = Engine::connect().await?;
    let names = match one {
        Some(name) => vec![name],
        None => all(context, &engine).await?,
    };
    let mut lines = Vec::new();
    for name in &names {
        let down = down::down(&engine, &context.folders, name, &context.events).await?;
        lines.push(match (down.any, down.left.is_empty()) {
            (true, true) => format!("Environment {name} deleted."),
            (false, true) => format!("Environment {name} not found."),
            (_, false) => left(name, &down.left),
        });
    }
    if args.all {
        // Templates hold keys of deleted clusters.
        let templates = Store::new(context.folders.templates());
        templates.keep_newest(0)?;
        templates.sweep()?;
    }
    if names.is_empty() {
        lines.push("No environment found.".into());
    }
    Ok(if context.is_json() { Done::default() } else { Done::text(lines.join("\n")) })
}

/// Returns every environment on this engine, and every environment that has files and is on no other engine.
async fn all(context: &Context, engine: &Engine) -> anyhow::Result<Vec<String>> {
    let inventory = gather::gather(engine).await?;
    let mut names: Vec<String> = inventory.environments.keys().cloned().collect();
    for name in context.folders.environments() {
        let on_file = context.folders.environment(&name).engine_on_file()?;
        match admission::another_engine(&name, &on_file, &engine.identity(), &inventory) {
            Err(refused) => {
                names.retain(|found| *found != name);
                context.events.note(format!("skipped: {refused}"));
            }
            Ok(()) => names.push(name),
        }
    }
    names.sort();
    names.dedup();
    Ok(names)
}

fn left(name: &str, networks: &[(String, Vec<String>)]) -> String {
    let mut text = format!("Environment {name} deleted, except networks that are in use:");
    for (network, users) in networks {
        let users = users.join(", ");
        text.push_str(&format!("\n  network {network}, used by {users}; when it is unused: {}", down_hint(name)));
    }
    text
}
