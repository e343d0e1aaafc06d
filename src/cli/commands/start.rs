//! `kindmesh resume` and `kindmesh start`: one thing, whatever the rest was.

use super::{Context, Done};
use crate::cli::WakeArgs;
use crate::cluster::environment::Environment;
use crate::host::docker::Engine;
use crate::lifecycle::start::{self, Options};

pub(super) async fn run(context: &Context, args: &WakeArgs) -> anyhow::Result<Done> {
    let environment = Environment::open(&context.folders, &context.environment_name()?)?;
    let engine = Engine::connect().await?;
    let options = Options { timeout: args.timeout };
    let started = start::start(&engine, &environment, &context.folders, &options, &context.events).await?;
    if context.is_json() {
        return Ok(Done::default());
    }
    let name = environment.name();
    let mut lines = vec![match started.changed {
        true => format!("Environment {name} is back."),
        false => format!("Environment {name} ran already."),
    }];
    for (from, answer) in &started.calls {
        let (to, millis) = (answer.served_by().unwrap_or_default(), answer.round_trip_time_millis);
        lines.push(format!("A call from {from} was answered in {to} in {millis} ms."));
    }
    Ok(Done::text(lines.join("\n")))
}
