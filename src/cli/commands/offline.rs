//! `kindmesh offline`

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;

use super::{Context, Description, Done, Task, cache::size};
use crate::cli::values::duration;
use crate::lifecycle::offline::{self, Brought, Contents, Saved};

/// `offline`.
#[derive(Debug, Subcommand)]
pub enum OfflineCommand {
    /// Write images, programs and manifests that up with this spec needs to a new file
    Save {
        /// The file, which must not exist
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// How long it may take: 90s, 30m
        #[arg(long, value_parser = duration, default_value = "30m", value_name = "TIME")]
        timeout: Duration,
    },
    /// Check such a file, and bring what is in it into the engine and the cache folder
    Load {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// How long it may take: 90s, 30m
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
            if context.is_json() { Done::json(&saved) } else { Ok(Done::text(told(&saved))) }
        }
        OfflineCommand::Load { file, timeout } => {
            let brought = offline::load(file, *timeout, &context.folders, &context.events).await?;
            if context.is_json() { Done::json(&brought) } else { Ok(Done::text(told_of(&brought))) }
        }
    }
}

fn told(saved: &Saved) -> String {
    format!(
        "{}\n{}, {} blobs, {}\n{}\n\nOn a machine without a network, with this kindmesh and a Docker engine for {}:\n  \
         kindmesh offline load {}\n  kindmesh up",
        saved.path.display(),
        size(saved.bytes),
        saved.blobs,
        saved.digest,
        contents(&saved.contents),
        saved.contents.platform,
        saved.path.file_name().unwrap_or_default().to_string_lossy(),
    )
}

fn told_of(brought: &Brought) -> String {
    let mut text = format!(
        "All {} blobs are what their digests say: {}\n{}",
        brought.blobs,
        brought.digest,
        contents(&brought.contents)
    );
    if brought.contents.kindmesh != env!("CARGO_PKG_VERSION") {
        text.push_str(&format!(
            "\nkindmesh {} wrote it, and this is {}: up may want other versions, and then needs the network.",
            brought.contents.kindmesh,
            env!("CARGO_PKG_VERSION")
        ));
    }
    if !brought.left.is_empty() {
        let left = brought.left.join(", ");
        text.push_str(&format!("\nOf no use to this kindmesh on this machine: {left}"));
    }
    text.push_str("\n\nWith a spec that names the same, up needs no network: kindmesh up");
    text
}

fn contents(contents: &Contents) -> String {
    format!(
        "{} with {}, for {}; kind and istioctl {} for {}",
        contents.node_image,
        contents.images.join(", "),
        contents.platform,
        contents.istio,
        contents.host
    )
}
