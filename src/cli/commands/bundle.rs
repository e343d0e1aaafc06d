//! `kindmesh bundle`, and the archive that a failed command writes.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{Context, Description, Done, Task};
use crate::base::error::{self, Kind};
use crate::diagnose::bundle::{self, Written};
use crate::report::failure::Failure;

/// `bundle`.
#[derive(Debug, Args)]
pub struct BundleArgs {
    /// Archive to write, which must not exist, or a directory for it [default: kindmesh-NAME-TIME.tar.gz in the
    /// working directory]
    #[arg(value_name = "FILE")]
    pub path: Option<PathBuf>,
}

pub fn command(args: BundleArgs) -> Task {
    Task::new(Description::of("bundle"), async move |context| run(context, &args).await)
}

/// The number of missing parts that are printed.
const MISSING_SHOWN: usize = 8;

async fn run(context: &Context, args: &BundleArgs) -> anyhow::Result<Done> {
    let name = context.environment_name()?;
    let written = bundle::bundle(&context.folders, &name, args.path.as_deref(), None, &context.events).await?;
    if context.is_json() {
        return Done::json(&written);
    }
    Ok(Done::text(describe(&written)))
}

fn describe(written: &Written) -> String {
    let mut text = format!(
        "{}\n{} files, {:.1} MB. It contains no keys or tokens, but it contains names and logs: review it before you \
            share it",
        written.path.display(),
        written.files,
        written.bytes as f64 / 1e6
    );
    match written.missing.as_slice() {
        [] => {}
        missing => {
            let shown = &missing[..missing.len().min(MISSING_SHOWN)];
            text.push_str(&format!(
                "\nmissing parts: {} in total, all listed in the archive's README.md:\n  {}",
                missing.len(),
                shown.join("\n  ")
            ));
        }
    }
    text
}

/// Writes the archive after a failure, if requested and if the failure is not a usage error. An error while
/// writing it does not replace the failure.
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
        Err(error) => context.events.note(format!("support archive not written: {error:#}")),
    }
}
