//! `kindmesh verify`

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{Context, Description, Done, Task, bundle};
use crate::base::error::Kind;
use crate::cli::values::{duration, whole};
use crate::diagnose::verify::{self, Check, Options};
use crate::lifecycle::locked;
use crate::report::verdicts::{ReportFile, VERIFY, github, text};
use crate::report::{Table, Verbosity, github::Surroundings};

/// `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Checks to run, by ID or prefix of an ID [default: all]
    #[arg(value_name = "ID")]
    pub checks: Vec<String>,
    /// List the checks
    #[arg(long)]
    pub list: bool,
    /// Skip checks, by ID or prefix of an ID; may be repeated
    #[arg(long, value_name = "ID")]
    pub skip: Vec<String>,
    /// Number of runs; a claim fails if it fails in any run
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = whole(1..=u32::MAX), allow_negative_numbers = true)]
    pub repeat: u32,
    /// Stop at the first failure
    #[arg(long)]
    pub fail_fast: bool,
    /// Keep the checks' namespaces for inspection
    #[arg(long)]
    pub keep: bool,
    /// Timeout of the setup and of each check, such as 60s or 2m
    #[arg(long, value_parser = duration, default_value = "60s", value_name = "TIME")]
    pub timeout: Duration,
    /// Directory of ID.yaml files, each applied instead of the policies of the check with that ID
    #[arg(long, value_name = "DIR")]
    pub manifests: Option<PathBuf>,
    /// Write a report: KIND is junit, html, json or markdown; may be repeated
    #[arg(long, value_name = "KIND=FILE")]
    pub report: Vec<ReportFile>,
    /// Write a support archive on failure [default: a new file in the working directory]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "", value_name = "FILE")]
    pub bundle_on_failure: Option<PathBuf>,
}

pub fn command(args: VerifyArgs) -> Task {
    Task::new(
        Description { annotated: true, ends_outages: true, ..Description::of("verify") },
        async move |context| run(context, &args).await,
    )
}

async fn run(context: &Context, args: &VerifyArgs) -> anyhow::Result<Done> {
    let checks = verify::select(&args.checks, &args.skip)?;
    if args.list {
        return list(context, &checks);
    }
    let manifests = args.manifests.as_deref().map(verify::manifests).transpose()?.unwrap_or_default();
    let options = Options {
        checks,
        manifests,
        repeat: args.repeat,
        fail_fast: args.fail_fast,
        keep: args.keep,
        timeout: args.timeout,
    };
    let name = context.environment_name()?;
    let (_lock, environment) = locked::open_shared(&context.folders, &name, None, &context.events).await?;
    let asked = args.bundle_on_failure.as_deref();
    let verified = verify::verify(&environment, &options, &context.events, &context.interrupt).await;
    let (verdicts, subject) = match verified {
        Ok(verified) => verified,
        Err(error) => {
            let error = context.explained(error);
            bundle::on_failure(context, environment.name(), asked, Some(&error)).await;
            return Err(error);
        }
    };
    for report in &args.report {
        report.write(&verdicts, &subject)?;
    }
    github::report(&Surroundings::of_process(), VERIFY, &verdicts, &subject, &context.printer)?;
    if verdicts.failed > 0 {
        bundle::on_failure(context, environment.name(), asked, None).await;
    }
    let code = if verdicts.failed > 0 { Kind::Check.exit_code() } else { 0 };
    let verbose = context.printer.verbosity() == Verbosity::Verbose;
    let done = if context.is_json() {
        Done::json(&verdicts)?
    } else {
        Done::text(text::summary(&verdicts, context.printer.stdout_style(), verbose))
    };
    Ok(Done { code, ..done })
}

fn list(context: &Context, checks: &[&Check]) -> anyhow::Result<Done> {
    if context.is_json() {
        let checks: Vec<_> =
            checks.iter().map(|check| serde_json::json!({"id": check.id, "claim": check.claim})).collect();
        return Done::json(&serde_json::json!({"schemaVersion": 1, "checks": checks}));
    }
    let mut table = Table::headless();
    for check in checks {
        table.row([check.id, check.claim]);
    }
    Ok(Done::text(table.render(context.printer.stdout_style())))
}
