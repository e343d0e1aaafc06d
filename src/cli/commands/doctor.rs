//! `kindmesh doctor`

use super::{Context, Done};
use crate::base::error::Kind;
use crate::cli::DoctorArgs;
use crate::cluster::environment;
use crate::diagnose::doctor;
use crate::plan::admission;
use crate::report::findings;

pub(super) async fn run(context: &Context, args: &DoctorArgs) -> anyhow::Result<Done> {
    let loaded = context.load()?;
    let files = context.folders.environment(loaded.spec.name.as_str());
    let spec = admission::spec(&loaded, environment::stored(&files)?)?;
    let report = doctor::doctor(&spec, &loaded.origins, &context.folders, args.timeout).await;
    let code = if report.blocks() { Kind::Prerequisite.exit_code() } else { 0 };
    let done = match context.is_json() {
        true => Done::json(&report)?,
        false => Done::text(findings::text(&report, context.printer.stdout_style())),
    };
    Ok(Done { code, ..done })
}
