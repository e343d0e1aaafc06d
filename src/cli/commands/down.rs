//! `kindmesh down`

use std::time::Duration;

use clap::Args;

use super::{Context, Description, Done, Task};
use crate::apps::testing;
use crate::base::error::Error;
use crate::base::hint::down_hint;
use crate::cli::values::duration;
use crate::host::docker::Engine;
use crate::host::inventory as gather;
use crate::lifecycle::down;
use crate::plan::admission;

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

pub fn command(args: DownArgs) -> Task {
    let after_signal: fn(&str) -> String = if args.all { |_| goes_on(" --all") } else { goes_on };
    let description = Description {
        streams_events: true,
        after_signal: Some(after_signal),
        annotated: true,
        recorded: !args.all,
        ..Description::of("down")
    };
    Task::new(description, async move |context| run(context, &args).await)
}

/// How to go on after a signal.
fn goes_on(which: &str) -> String {
    format!("what is left is found by its labels; kindmesh down{which} goes on")
}

async fn run(context: &Context, args: &DownArgs) -> anyhow::Result<Done> {
    // clap sees such a conflict only when both are given behind the command's name.
    if let (true, Some(name)) = (args.all, &context.global.name) {
        return Err(Error::usage(format!("--all is every environment, and --name {name} is one"))
            .hint("leave one of them out")
            .into());
    }
    if args.when_unused {
        testing::down_when_unused(&context.folders, &context.environment_name()?, &context.events).await?;
        return Ok(Done::default());
    }
    match tokio::time::timeout(args.timeout, down_all(context, args)).await {
        Ok(result) => result,
        Err(_) => Err(Error::environment(format!("not down after {} s", args.timeout.as_secs()))
            .hint("kindmesh down goes on; --timeout gives it longer; does the engine answer? docker ps")
            .into()),
    }
}

async fn down_all(context: &Context, args: &DownArgs) -> anyhow::Result<Done> {
    // A name that cannot be told is no reason to ask an engine.
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
            (true, true) => format!("Environment {name} is gone."),
            (false, true) => format!("There was no environment {name}."),
            (_, false) => left(name, &down.left),
        });
    }
    if names.is_empty() {
        lines.push("There was no environment.".into());
    }
    Ok(if context.is_json() { Done::default() } else { Done::text(lines.join("\n")) })
}

/// Every environment on this engine, and every one that has files and is on no other engine.
async fn all(context: &Context, engine: &Engine) -> anyhow::Result<Vec<String>> {
    let inventory = gather::gather(engine).await?;
    let mut names: Vec<String> = inventory.environments.keys().cloned().collect();
    for name in context.folders.environments() {
        let on_file = context.folders.environment(&name).engine_on_file()?;
        match admission::another_engine(&name, &on_file, &engine.identity(), &inventory) {
            Err(refused) => {
                names.retain(|found| *found != name);
                context.events.note(format!("left alone: {refused}"));
            }
            Ok(()) => names.push(name),
        }
    }
    names.sort();
    names.dedup();
    Ok(names)
}

fn left(name: &str, networks: &[(String, Vec<String>)]) -> String {
    let mut text = format!("Environment {name} is gone, but for what others use:");
    for (network, users) in networks {
        let users = users.join(", ");
        text.push_str(&format!("\n  network {network}, by {users}; once they are gone: {}", down_hint(name)));
    }
    text
}
