//! `kindmesh doctor`

use std::time::Duration;

use clap::Args;

use super::{Context, Description, Done, Task};
use crate::base::error::Kind;
use crate::cli::values::duration;
use crate::cluster::environment;
use crate::diagnose::doctor;
use crate::lifecycle::up;
use crate::plan::admission;
use crate::report::findings;

/// `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Timeout of all checks, such as 5s or 1m; a check that does not finish in time is unknown
    #[arg(long, value_parser = duration, default_value = "2s", value_name = "TIME")]
    pub timeout: Duration,
}

pub fn command(args: DoctorArgs) -> Task {
    Task::new(Description::of("doctor"), async move |context| run(context, &args).await)
}

async fn run(context: &Context, args: &DoctorArgs) -> anyhow::Result<Done> {
    let loaded = context.load()?;
    let files = context.folders.environment(loaded.spec.name.as_str());
    let spec = admission::spec(&loaded, environment::stored(&files)?)?;
    // Clusters that exist are inspected as by `up`; this host is not, if kind creates none.
    up::inspect(&spec, &loaded, &files, &context.events).await?;
    let report = match spec.has_kind_clusters() {
        true => doctor::doctor(&spec, &loaded.origins, &context.folders, args.timeout).await,
        false => doctor::Report::default(),
    };
    let code = if report.blocks() { Kind::Prerequisite.exit_code() } else { 0 };
    let done = match context.is_json() {
        true => Done::json(&report)?,
        false => Done::text(findings::text(&report, context.printer.stdout_style())),
    };
    Ok(Done { code, ..done })
}
