//! `kindmesh pause` and `kindmesh stop`

use std::time::Duration;

use clap::Args;
use tokio::time::Instant;

use super::{Context, Description, Done, Task};
use crate::base::error::Error;
use crate::base::hint::{resume_hint, start_hint};
use crate::base::wait;
use crate::cli::values::duration;
use crate::host::docker::Engine;
use crate::lifecycle::pause;

/// `pause` and `stop`.
#[derive(Debug, Args)]
pub struct PauseArgs {
    /// Timeout, such as 30s or 2m
    #[arg(long, value_parser = duration, default_value = "60s", value_name = "TIME")]
    pub timeout: Duration,
}

pub fn command(args: PauseArgs) -> Task {
    Task::new(
        Description {
            streams_events: true,
            after_signal: Some(|flags| {
                format!(
                    "some nodes may be frozen; kindmesh pause{flags} continues, kindmesh resume{flags} resumes \
                        them"
                )
            }),
            ..Description::of("pause")
        },
        async move |context| run(context, &args).await,
    )
}

pub fn stop_command(args: PauseArgs) -> Task {
    Task::new(
        Description {
            streams_events: true,
            after_signal: Some(|flags| {
                format!(
                    "some nodes may be stopped; kindmesh stop{flags} continues, kindmesh start{flags} starts \
                        them"
                )
            }),
            ..Description::of("stop")
        },
        async move |context| run_stop(context, &args).await,
    )
}

async fn run(context: &Context, args: &PauseArgs) -> anyhow::Result<Done> {
    context.require_own_nodes("pause")?;
    let name = context.environment_name()?;
    let engine = Engine::connect().await?;
    let work = pause::pause(&engine, &context.folders, &name, &context.events);
    let changed =
        wait::within(Instant::now() + args.timeout, &context.events, work, || late("paused", args)).await?;
    Ok(done(context, &name, if changed { "paused" } else { "is already paused" }, &resume_hint(&name)))
}

async fn run_stop(context: &Context, args: &PauseArgs) -> anyhow::Result<Done> {
    context.require_own_nodes("stop")?;
    let name = context.environment_name()?;
    let engine = Engine::connect().await?;
    let work = pause::stop(&engine, &context.folders, &name, &context.events);
    let changed =
        wait::within(Instant::now() + args.timeout, &context.events, work, || late("stopped", args)).await?;
    Ok(done(context, &name, if changed { "stopped" } else { "is already stopped" }, &start_hint(&name)))
}

fn done(context: &Context, name: &str, what: &str, back: &str) -> Done {
    match context.is_json() {
        true => Done::default(),
        false => Done::text(format!("Environment {name} {what}. To run it again: {back}")),
    }
}

fn late(what: &str, args: &PauseArgs) -> Error {
    Error::environment(format!("not {what} after {} s", args.timeout.as_secs()))
        .hint("the same command continues; --timeout allows more time")
}
