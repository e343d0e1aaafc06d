//! `kindmesh image load`

use serde_json::json;
use tokio::time::Instant;

use super::{Context, Done};
use crate::base::error::Error;
use crate::base::event::Outcome;
use crate::cli::ImageLoadArgs;
use crate::host::docker::Engine;
use crate::host::images::{self, Loaded};
use crate::host::inventory as gather;
use crate::lifecycle::hold;

pub(super) async fn run(context: &Context, args: &ImageLoadArgs) -> anyhow::Result<Done> {
    let (name, deadline) = (context.environment_name()?, Instant::now() + args.timeout);
    let (_lock, environment) = hold::inside(&context.folders, &name, Some(deadline), &context.events).await?;
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
            .hint("--timeout gives it longer; what is loaded stays")
    })??;
    if context.is_json() {
        return Done::json(&json!({"schemaVersion": 1, "environment": environment.name(), "images": loaded}));
    }
    Ok(Done::text(loaded.iter().map(line).collect::<Vec<_>>().join("\n")))
}

pub(super) fn line(loaded: &Loaded) -> String {
    let Loaded { image, cluster, changed } = loaded;
    format!("{cluster}: {image} {}", if *changed { "is loaded" } else { "was there already" })
}
