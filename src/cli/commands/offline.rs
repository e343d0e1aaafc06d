//! `kindmesh offline`

use super::{Context, Done, cache::size};
use crate::cli::OfflineCommand;
use crate::lifecycle::offline::{self, Brought, Contents, Saved};

pub(super) async fn run(context: &Context, command: &OfflineCommand) -> anyhow::Result<Done> {
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
