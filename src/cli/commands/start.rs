//! `kindmesh resume` and `kindmesh start`: both work on paused and on stopped environments.

use std::time::Duration;

use clap::Args;

use super::{Context, Description, Done, Task};
use crate::cli::values::duration;
use crate::cluster::environment::Environment;
use crate::host::docker::Engine;
use crate::lifecycle::start::{self, Options};

/// `resume` and `start`.
#[derive(Debug, Args)]
pub struct StartArgs {
    /// Timeout for a cross-cluster call to succeed, such as 90s or 5m
    #[arg(long, value_parser = duration, default_value = "3m", value_name = "TIME")]
    pub timeout: Duration,
}

pub fn resume_command(args: StartArgs) -> Task {
    named("resume", args)
}

pub fn command(args: StartArgs) -> Task {
    named("start", args)
}

fn named(name: &'static str, args: StartArgs) -> Task {
    let description = Description {
        streams_events: true,
        after_signal: Some(|flags| {
            format!("running nodes recover by themselves; kindmesh start{flags} waits for a cross-cluster call")
        }),
        recorded: true,
        ..Description::of(name)
    };
    Task::new(description, async move |context| run(context, &args).await)
}

async fn run(context: &Context, args: &StartArgs) -> anyhow::Result<Done> {
    context.require_own_nodes("start")?;
    let environment = Environment::open(&context.folders, &context.environment_name()?)?;
    let engine = Engine::connect().await?;
    let options = Options { timeout: args.timeout };
    let started = start::start(&engine, &environment, &context.folders, &options, &context.events).await?;
    if context.is_json() {
        return Ok(Done::default());
    }
    let name = environment.name();
    let mut lines = vec![match started.changed {
        true => format!("Environment {name} is running."),
        false => format!("Environment {name} is already running."),
    }];
    for (from, answer) in &started.calls {
        let (to, millis) = (answer.served_by().unwrap_or_default(), answer.round_trip_time_millis);
        lines.push(format!("A call from {from} was answered in {to} in {millis} ms."));
    }
    Ok(Done::text(lines.join("\n")))
}
