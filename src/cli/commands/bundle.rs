//! `kindmesh bundle`, and the archive at the end of a command that failed.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{Context, Description, Done, Task};
use crate::base::error::{self, Kind};
use crate::diagnose::bundle::{self, Written};
use crate::report::failure::Failure;

/// `bundle`.
#[derive(Debug, Args)]
pub struct BundleArgs {
    /// The archive, which must not exist, or a folder for it [default: kindmesh-NAME-TIME.tar.gz in this folder]
    #[arg(value_name = "FILE")]
    pub path: Option<PathBuf>,
}

pub fn command(args: BundleArgs) -> Task {
    Task::new(Description::of("bundle"), async move |context| run(context, &args).await)
}

/// How many of the things that could not be had are told.
const MISSING_SHOWN: usize = 8;

async fn run(context: &Context, args: &BundleArgs) -> anyhow::Result<Done> {
    let name = context.environment_name()?;
    let written = bundle::bundle(&context.folders, &name, args.path.as_deref(), None, &context.events).await?;
    if context.is_json() {
        return Done::json(&written);
    }
    Ok(Done::text(told(&written)))
}

fn told(written: &Written) -> String {
    let mut text = format!(
        "{}\n{} files, {:.1} MB; keys and tokens are removed, names and logs are in it: look through it first",
        written.path.display(),
        written.files,
        written.bytes as f64 / 1e6
    );
    match written.missing.as_slice() {
        [] => {}
        missing => {
            let shown = &missing[..missing.len().min(MISSING_SHOWN)];
            text.push_str(&format!(
                "\ncould not be had, {} in all, listed in the archive's README.md:\n  {}",
                missing.len(),
                shown.join("\n  ")
            ));
        }
    }
    text
}

/// Writes the archive because a command failed, if that was asked for and the failure is not the user's own. That it
/// cannot be written does not take the failure's place.
pub(super) async fn on_failure(
    context: &Context,
    name: &str,
    asked: Option<&Path>,
    error: Option<&anyhow::Error>,
) {
    let is_usage = error.and_then(error::find).is_some_and(|error| error.kind == Kind::Usage);
    let Some(path) = asked.filter(|_| !is_usage) else { return };
    let target = (!path.as_os_str().is_empty()).then_some(path);
    let failure = error.and_then(|error| serde_json::to_value(Failure::of(error).event()).ok());
    match bundle::bundle(&context.folders, name, target, failure, &context.events).await {
        Ok(written) => context.events.note(format!("support archive: {}", written.path.display())),
        Err(error) => context.events.note(format!("no support archive: {error:#}")),
    }
}
