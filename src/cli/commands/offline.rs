//! `kindmesh offline`

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;

use super::{Context, Description, Done, Task, cache::size};
use crate::cli::values::duration;
use crate::lifecycle::offline::{self, Contents, LoadedArchive, Saved};

/// `offline`.
#[derive(Debug, Subcommand)]
pub enum OfflineCommand {
    /// Save the images, tools and manifests that up needs for this spec to an archive
    Save {
        /// Archive to write, which must not exist
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Timeout, such as 90s or 30m
        #[arg(long, value_parser = duration, default_value = "30m", value_name = "TIME")]
        timeout: Duration,
    },
    /// Verify an archive, and load it into the engine and the cache
    Load {
        /// Archive to load
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Timeout, such as 90s or 30m
        #[arg(long, value_parser = duration, default_value = "30m", value_name = "TIME")]
        timeout: Duration,
    },
}

pub fn command(command: OfflineCommand) -> Task {
    Task::new(Description::of("offline"), async move |context| run(context, &command).await)
}

async fn run(context: &Context, command: &OfflineCommand) -> anyhow::Result<Done> {
    match command {
        OfflineCommand::Save { file, timeout } => {
            let (loaded, interrupt) = (context.load()?, &context.interrupt);
            let (folders, events) = (&context.folders, &context.events);
            let saved = offline::save(&loaded, file, *timeout, folders, events, interrupt).await?;
            if context.is_json() { Done::json(&saved) } else { Ok(Done::text(describe(&saved))) }
        }
        OfflineCommand::Load { file, timeout } => {
            let brought = offline::load(file, *timeout, &context.folders, &context.events).await?;
            if context.is_json() { Done::json(&brought) } else { Ok(Done::text(describe_loaded(&brought))) }
        }
    }
}

fn describe(saved: &Saved) -> String {
    format!(
        "{}\n{}, {} blobs, {}\n{}\n\nOn a host without a network, with this kindmesh and a Docker engine for \
            {}:\n  kindmesh offline load {}\n  kindmesh up",
        saved.path.display(),
        size(saved.bytes),
        saved.blobs,
        saved.digest,
        contents(&saved.contents),
        saved.contents.platform,
        saved.path.file_name().unwrap_or_default().to_string_lossy(),
    )
}

fn describe_loaded(brought: &LoadedArchive) -> String {
    let mut text =
        format!("All {} checksums match: {}\n{}", brought.blobs, brought.digest, contents(&brought.contents));
    if brought.contents.kindmesh != env!("CARGO_PKG_VERSION") {
        text.push_str(&format!(
            "\nkindmesh {} wrote the archive, but this is kindmesh {}: up may need other versions, and a network to download them.",
            brought.contents.kindmesh,
            env!("CARGO_PKG_VERSION")
        ));
    }
    if !brought.left.is_empty() {
        let left = brought.left.join(", ");
        text.push_str(&format!("\nSkipped, because this kindmesh cannot use them on this host: {left}"));
    }
    text.push_str("\n\nFor a spec with the same versions, up requires no network: kindmesh up");
    text
}

fn contents(contents: &Contents) -> String {
    format!(
        "{} with {}, for {}; kind, and istioctl {}, for {}",
        contents.node_image,
        contents.images.join(", "),
        contents.platform,
        contents.istio,
        contents.host
    )
}
