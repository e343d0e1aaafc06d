//! `kindmesh offline`

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;

use super::{Context, Description, Done, Task, cache::size, snapshot::left_out};
use crate::base::error::Error;
use crate::cli::values::duration;
use crate::lifecycle::offline::{self, Contents, LoadedArchive, NodeImage, Saved};
use crate::lifecycle::snapshot::{self, transfer};
use crate::spec::Label;

/// `offline`.
#[derive(Debug, Subcommand)]
pub enum OfflineCommand {
    /// Save the images, tools and manifests that up needs for this spec to an archive
    Save {
        /// Archive to write, which must not exist
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Include this snapshot, without keys and Secrets, instead of using a spec
        #[arg(long, value_name = "SNAPSHOT")]
        snapshot: Option<Label>,
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
        OfflineCommand::Save { file, snapshot, timeout } => {
            let (folders, events, interrupt) = (&context.folders, &context.events, &context.interrupt);
            let (loaded, packed) = match snapshot {
                None => (context.load()?, None),
                Some(_) if !context.global.files.is_empty() => {
                    let error = Error::usage("a snapshot has its own spec");
                    return Err(error.hint("omit --file, or omit --snapshot").into());
                }
                Some(name) => {
                    offline::require_new(file)?;
                    let found = snapshot::open(folders, name.as_str())?;
                    (snapshot::spec(&found)?, Some(transfer::pack(folders, found, false).await?))
                }
            };
            let removed = packed.as_ref().map(|packed| packed.removed.clone());
            let saved = offline::save(
                &loaded,
                file,
                *timeout,
                folders,
                events,
                interrupt,
                packed.map(|packed| packed.packable),
            )
            .await?;
            if context.is_json() {
                return Done::json(&saved);
            }
            let next = snapshot.as_ref().map_or_else(
                || "kindmesh up".to_owned(),
                |name| format!("{}\n  kindmesh up --from {name}", import(&saved.path)),
            );
            let left_out = removed.map(|removed| left_out(&removed)).unwrap_or_default();
            Ok(Done::text(describe(&saved, &left_out, &next)))
        }
        OfflineCommand::Load { file, timeout } => {
            let brought = offline::load(file, *timeout, &context.folders, &context.events).await?;
            if context.is_json() { Done::json(&brought) } else { Ok(Done::text(describe_loaded(&brought))) }
        }
    }
}

fn import(path: &Path) -> String {
    format!("kindmesh snapshot import {}", path.file_name().unwrap_or_default().to_string_lossy())
}

fn describe(saved: &Saved, left_out: &str, next: &str) -> String {
    format!(
        "{}\n{}, {} blobs, {}\n{}\n{left_out}\nOn a host without a network, with this kindmesh and a Docker engine for \
            {}:\n  kindmesh offline load {}\n  {next}",
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
    match &brought.snapshot {
        None => text.push_str("\n\nFor a spec with the same versions, up requires no network: kindmesh up"),
        Some(name) => {
            let import = import(&brought.path);
            text.push_str(&format!("\n\nIt contains snapshot {name}: {import}, then kindmesh up --from {name}"));
        }
    }
    text
}

fn contents(contents: &Contents) -> String {
    let image = |image: &NodeImage| format!("{} with {}", image.node_image, image.images.join(", "));
    let images: Vec<_> = contents.node_images.iter().map(image).collect();
    format!(
        "{}, for {}; kind, and istioctl {}, for {}",
        images.join("; "),
        contents.platform,
        contents.istio.join(" and "),
        contents.host
    )
}
