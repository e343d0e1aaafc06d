//! `kindmesh down`

use std::time::Duration;

use clap::Args;
use tokio::time::Instant;

use super::{Context, Description, Done, Task};
use crate::apps::testing;
use crate::base::error::Error;
use crate::base::hint::down_hint;
use crate::base::wait;
use crate::cli::confirm;
use crate::cli::values::duration;
use crate::host::docker::Engine;
use crate::host::inventory as gather;
use crate::host::snapshot::Store;
use crate::lifecycle::down;
use crate::plan::{admission, consent};

/// `down`.
#[derive(Debug, Args)]
pub struct DownArgs {
    /// Delete every environment on this engine, and the templates of their clusters
    #[arg(long, conflicts_with = "name")]
    pub all: bool,
    /// Wait until no test uses it; does nothing unless tests created it
    #[arg(long, hide = true, conflicts_with = "all")]
    pub when_unused: bool,
    /// Context of a cluster from which to delete an environment whose files are not on this host; repeat it for each cluster
    #[arg(long, value_name = "CONTEXT", conflicts_with = "all")]
    pub context: Vec<String>,
    /// Delete objects in clusters that exist without asking
    #[arg(long)]
    pub yes: bool,
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
    let one = if args.all { None } else { Some(context.environment_name()?) };
    if let Some(name) = &one {
        if !args.context.is_empty() && context.folders.environment(name).exist() {
            return Err(Error::usage(format!("environment \"{name}\" has its files on this host"))
                .hint(format!("omit --context: {}", down_hint(name)))
                .into());
        }
        require_consent(context, args, name)?;
    }
    // Counted from here: a person may have taken a while to answer.
    let deadline = Instant::now() + args.timeout;
    wait::within(deadline, &context.events, down_all(context, args, one, deadline), late).await
}

/// Asks before objects are deleted in clusters that exist.
fn require_consent(context: &Context, args: &DownArgs, name: &str) -> anyhow::Result<()> {
    let clusters = existing(context, name, &args.context)?;
    if clusters.is_empty() || args.yes {
        return Ok(());
    }
    let all = clusters.join(", ");
    if !context.can_ask() {
        return Err(Error::usage(format!("environment \"{name}\" is in clusters that exist: {all}"))
            .hint(format!("run it in a terminal to be asked, or: {}{} --yes", down_hint(name), contexts(args)))
            .into());
    }
    context.events.note(format!("environment \"{name}\" is in clusters that exist: {all}"));
    if confirm::ask(&context.events, "Delete everything that kindmesh created in them?") {
        return Ok(());
    }
    Err(Error::usage("not agreed: nothing was deleted").into())
}

/// Returns the clusters of an environment that exist, with their contexts, or those of the contexts that the user has `named`.
fn existing(context: &Context, name: &str, named: &[String]) -> anyhow::Result<Vec<String>> {
    if !named.is_empty() {
        return Ok(named.iter().map(|context| format!("context {context}")).collect());
    }
    let stored = down::spec(&context.folders.environment(name))?;
    let clusters = stored.iter().flat_map(|spec| &spec.clusters);
    Ok(clusters.filter_map(|c| Some(format!("{} (context {})", c.name, c.context.as_ref()?))).collect())
}

/// Returns the contexts as they were given.
fn contexts(args: &DownArgs) -> String {
    args.context.iter().map(|context| format!(" --context {}", consent::quoted(context))).collect()
}

async fn down_all(
    context: &Context,
    args: &DownArgs,
    one: Option<String>,
    deadline: Instant,
) -> anyhow::Result<Done> {
    let names = match one {
        Some(name) => vec![name],
        None => all(context, &Engine::connect().await?).await?,
    };
    let mut lines = Vec::new();
    for name in &names {
        let down = match args.context.as_slice() {
            [] => down::down(&context.folders, name, deadline, &context.events).await?,
            contexts => down::remove_in_contexts(name, contexts, deadline, &context.events).await?,
        };
        lines.push(match (down.any, down.left.is_empty()) {
            (true, true) => format!("Environment {name} deleted."),
            (false, true) => format!("Environment {name} not found."),
            (_, false) => left(name, &down.left),
        });
        lines.extend(down.kept.iter().map(|line| format!("kept: {line}")));
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
    let mut deleted = Vec::new();
    for name in names {
        match existing(context, &name, &[])?.is_empty() {
            true => deleted.push(name),
            false => {
                let by = down_hint(&name);
                context
                    .events
                    .note(format!("skipped: environment {name} is in clusters that exist; delete it: {by}"));
            }
        }
    }
    Ok(deleted)
}

fn left(name: &str, networks: &[(String, Vec<String>)]) -> String {
    let mut text = format!("Environment {name} deleted, except networks that are in use:");
    for (network, users) in networks {
        let users = users.join(", ");
        text.push_str(&format!("\n  network {network}, used by {users}; when it is unused: {}", down_hint(name)));
    }
    text
}
