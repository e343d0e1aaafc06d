//! `kindmesh down`

use super::{Context, Done};
use crate::cli::DownArgs;
use crate::docker::Engine;
use crate::down;
use crate::error::Error;
use crate::inventory::gather;

pub(super) async fn run(context: &Context, args: &DownArgs) -> anyhow::Result<Done> {
    match tokio::time::timeout(args.timeout, down_all(context, args)).await {
        Ok(result) => result,
        Err(_) => Err(Error::environment(format!("not down after {} s", args.timeout.as_secs()))
            .hint("kindmesh down goes on; --timeout gives it longer")
            .into()),
    }
}

async fn down_all(context: &Context, args: &DownArgs) -> anyhow::Result<Done> {
    let engine = Engine::connect().await?;
    let names = if args.all {
        let mut names = context.folders.environments();
        names.extend(gather::gather(&engine).await?.environments.into_keys());
        names.sort();
        names.dedup();
        names
    } else {
        vec![context.environment_name()?]
    };
    let mut lines = Vec::new();
    for name in &names {
        let any = down::down(&engine, &context.folders, name, &context.events).await?;
        lines.push(match any {
            true => format!("Environment {name} is gone."),
            false => format!("There was no environment {name}."),
        });
    }
    if names.is_empty() {
        lines.push("There was no environment.".into());
    }
    Ok(if context.is_json() { Done::default() } else { Done::text(lines.join("\n")) })
}
