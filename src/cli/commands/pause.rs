//! `kindmesh pause` and `kindmesh stop`

use super::{Context, Done};
use crate::base::error::Error;
use crate::base::hint::{resume_hint, start_hint};
use crate::cli::RestArgs;
use crate::host::docker::Engine;
use crate::lifecycle::pause;

pub(super) async fn run(context: &Context, args: &RestArgs) -> anyhow::Result<Done> {
    let name = context.environment_name()?;
    let engine = Engine::connect().await?;
    let work = pause::pause(&engine, &context.folders, &name, &context.events);
    let changed = tokio::time::timeout(args.timeout, work).await.map_err(|_| late("paused", args))??;
    Ok(done(context, &name, if changed { "is paused" } else { "was at rest already" }, &resume_hint(&name)))
}

pub(super) async fn run_stop(context: &Context, args: &RestArgs) -> anyhow::Result<Done> {
    let name = context.environment_name()?;
    let engine = Engine::connect().await?;
    let work = pause::stop(&engine, &context.folders, &name, &context.events);
    let changed = tokio::time::timeout(args.timeout, work).await.map_err(|_| late("stopped", args))??;
    Ok(done(context, &name, if changed { "is stopped" } else { "was stopped already" }, &start_hint(&name)))
}

fn done(context: &Context, name: &str, what: &str, back: &str) -> Done {
    match context.is_json() {
        true => Done::default(),
        false => Done::text(format!("Environment {name} {what}. {back} brings it back.")),
    }
}

fn late(what: &str, args: &RestArgs) -> Error {
    Error::environment(format!("not {what} after {} s", args.timeout.as_secs()))
        .hint("the same command goes on; --timeout gives it longer")
}
