//! `kindmesh verify`

use super::{Context, Done, bundle};
use crate::base::error::Kind;
use crate::cli::VerifyArgs;
use crate::diagnose::verify::{self, Check, Options};
use crate::lifecycle::hold;
use crate::report::verdicts::{github, text};
use crate::report::{Table, Verbosity, github::Surroundings};

pub(super) async fn run(context: &Context, args: &VerifyArgs) -> anyhow::Result<Done> {
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
    let (_lock, environment) = hold::inside(&context.folders, &name, None, &context.events).await?;
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
    github::tell(&Surroundings::of_process(), &verdicts, &subject, &context.printer)?;
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
