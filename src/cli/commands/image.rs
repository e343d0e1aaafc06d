//! `kindmesh image load`

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;
use tokio::time::Instant;

use super::{Context, Description, Done, Task, kept};
use crate::base::error::Error;
use crate::base::event::Outcome;
use crate::cli::values::duration;
use crate::host::docker::Engine;
use crate::host::images::{self, Loaded};
use crate::host::inventory as gather;
use crate::lifecycle::locked;
use crate::spec::Label;

/// `image`.
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Load images from the local engine into the nodes, replacing images of the same name
    Load(ImageLoadArgs),
}

/// `image load`.
#[derive(Debug, Args)]
pub struct ImageLoadArgs {
    /// Names of images in the local engine
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<String>,
    /// Cluster to load them into [default: all]
    #[arg(long, value_name = "CLUSTER")]
    pub to: Option<Label>,
    /// Timeout, such as 90s or 5m
    #[arg(long, value_parser = duration, default_value = "3m", value_name = "TIME")]
    pub timeout: Duration,
}

pub fn command(command: ImageCommand) -> Task {
    let ImageCommand::Load(args) = command;
    let description = Description { after_signal: Some(kept), ends_outages: true, ..Description::of("image") };
    Task::new(description, async move |context| run(context, &args).await)
}

async fn run(context: &Context, args: &ImageLoadArgs) -> anyhow::Result<Done> {
    context.require_own_nodes("image load")?;
    let (name, deadline) = (context.environment_name()?, Instant::now() + args.timeout);
    let (_lock, environment) =
        locked::open_shared(&context.folders, &name, Some(deadline), &context.events).await?;
    let to = args.to.as_ref().map(|to| environment.cluster(to.as_str())).transpose()?;
    let engine = Engine::connect().await?;
    let plan = environment.plan(&engine, gather::gather(&engine).await?)?;
    let clusters: Vec<_> =
        plan.clusters.iter().filter(|cluster| to.is_none_or(|to| to.name.as_str() == cluster.name)).collect();
    let names: Vec<&str> = args.images.iter().map(String::as_str).collect();
    let step = context.events.step("images", None).run(async |_| {
        let loaded = images::load(&engine, &environment.files.root, &clusters, &names).await?;
        let changed = loaded.iter().any(|loaded| loaded.changed);
        Ok(Outcome { value: loaded, changed })
    });
    let loaded = tokio::time::timeout_at(deadline, step).await.map_err(|_| {
        Error::environment(format!("not loaded after {} s", args.timeout.as_secs()))
            .hint("--timeout allows more time; images that are loaded stay loaded")
    })??;
    if context.is_json() {
        return Done::json(&json!({"schemaVersion": 1, "environment": environment.name(), "images": loaded}));
    }
    Ok(Done::text(loaded.iter().map(line).collect::<Vec<_>>().join("\n")))
}

pub(super) fn line(loaded: &Loaded) -> String {
    let Loaded { image, cluster, changed } = loaded;
    format!("{cluster}: {image} {}", if *changed { "loaded" } else { "unchanged" })
}
