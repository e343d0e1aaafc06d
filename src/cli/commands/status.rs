//! `kindmesh status`

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::{Context, Description, Done, Task};
use crate::base::error::{Error, Kind};
use crate::base::hint;
use crate::cli::values::duration;
use crate::cluster::environment::{self, Environment};
use crate::diagnose::status::{self, Phase, Status};
use crate::report::Table;

/// `status`.
#[derive(Debug, Args)]
pub struct TimeoutArgs {
    /// Timeout of each response, such as 10s or 1m
    #[arg(long, value_parser = duration, default_value = "10s", value_name = "TIME")]
    pub timeout: Duration,
}

pub fn command(args: TimeoutArgs) -> Task {
    Task::new(Description::of("status"), async move |context| run(context, &args).await)
}

async fn run(context: &Context, args: &TimeoutArgs) -> anyhow::Result<Done> {
    let name = context.environment_name()?;
    let stored = environment::stored(&context.folders.environment(&name))?;
    let (engine, inventory) = environment::look(stored.as_ref()).await?;
    if engine.is_some() && !inventory.environments.contains_key(&name) {
        if !context.is_json() {
            return Err(environment::absent(&name).into());
        }
        let absent = json!({"schemaVersion": 1, "environment": name, "phase": Phase::Absent,
            "layers": [], "clusters": [], "faults": [], "outages": []});
        return Ok(Done { code: Kind::Environment.exit_code(), ..Done::json(&absent)? });
    }
    if stored.is_none() {
        return Err(Error::environment(format!(
            "environment \"{name}\" is on the engine, but its files are missing"
        ))
        .hint(format!("{} creates them again", hint::up_hint(&name)))
        .into());
    }
    let opened = Environment::open(&context.folders, &name)?;
    let status = status::status(engine.as_ref(), inventory, &opened, args.timeout).await?;
    let code = if status.phase == Phase::Ready { 0 } else { Kind::Environment.exit_code() };
    let done = if context.is_json() { Done::json(&status)? } else { Done::text(human(context, &status)) };
    Ok(Done { code, ..done })
}

fn human(context: &Context, status: &Status) -> String {
    let style = context.printer.stdout_style();
    let mut table = Table::headless();
    for layer in &status.layers {
        let mark = if layer.ok { style.green("ok") } else { style.red("failed") };
        let cluster = layer.cluster.clone().unwrap_or_default();
        table.row([mark, cluster, title(layer.layer).to_owned(), layer.detail.clone()]);
    }
    let phase = status.phase.to_string();
    let phase = if status.phase == Phase::Ready { style.green(&phase) } else { style.yellow(&phase) };
    let mut text =
        format!("Environment {} is {phase}\n\n{}", style.bold(&status.environment), table.render(style));
    for fault in &status.faults {
        text.push_str(&format!("\n\n{}: {}", style.yellow("fault"), fault.described()));
    }
    for outage in &status.outages {
        text.push_str(&format!("\n\n{}: {}", style.yellow("fault"), outage.described()));
    }
    let mut hints: Vec<_> = status.layers.iter().filter_map(|layer| layer.hint.as_deref()).collect();
    hints.dedup();
    if let Some(hint) = hints.first() {
        let what = match status.phase {
            Phase::Paused | Phase::Stopped => "to run it again",
            _ if hint.contains(" fault ") => "to end the fault",
            Phase::Healing => "it recovers by itself, usually within a minute; to wait for it",
            _ => "to repair it",
        };
        text.push_str(&format!("\n\n{what}: {}", style.bold(hint)));
    }
    text
}

fn title(layer: &str) -> &str {
    match layer {
        "api" => "API server",
        "remoteClusters" => "remote clusters",
        other => other,
    }
}
