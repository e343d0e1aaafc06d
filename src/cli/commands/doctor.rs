//! `kindmesh doctor`

use std::time::Duration;

use clap::Args;

use super::{Context, Description, Done, Task};
use crate::base::error::{self, Error, Kind};
use crate::cli::confirm;
use crate::cli::values::duration;
use crate::cluster::environment;
use crate::diagnose::doctor::{self, Finding, Fix, Report};
use crate::lifecycle::up;
use crate::plan::admission;
use crate::report::findings;

/// `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Timeout of all checks, such as 5s or 1m; a check that does not finish in time is unknown
    #[arg(long, value_parser = duration, default_value = "2s", value_name = "TIME")]
    pub timeout: Duration,
    /// Run the fixes that are one safe command, each after asking, and check again
    #[arg(long)]
    pub fix: bool,
    /// Run the fixes without asking
    #[arg(long, requires = "fix")]
    pub yes: bool,
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
    let inspect = async || match spec.has_kind_clusters() {
        true => doctor::doctor(&spec, &loaded.origins, &context.folders, args.timeout).await,
        false => Report::default(),
    };
    let mut report = inspect().await;
    if args.fix && fix(context, args, &report).await? {
        report = inspect().await;
    }
    let code = if report.blocks() { Kind::Prerequisite.exit_code() } else { 0 };
    let done = match context.is_json() {
        true => Done::json(&report)?,
        false => Done::text(findings::text(&report, context.printer.stdout_style())),
    };
    Ok(Done { code, ..done })
}

/// Runs the fixes that the user agrees to; returns whether any ran. One that fails is noted, and the others are run.
async fn fix(context: &Context, args: &DoctorArgs, report: &Report) -> anyhow::Result<bool> {
    let fixable: Vec<_> =
        report.findings.iter().filter_map(|finding| Some((finding, finding.fix.as_ref()?))).collect();
    if !fixable.is_empty() && !args.yes && !context.can_ask() {
        return Err(must_ask(&fixable).into());
    }
    let mut ran = false;
    for (Finding { id, what, .. }, fix) in fixable {
        if !args.yes && !confirm::ask(&context.events, &format!("{what}. Run: {fix}?")) {
            continue;
        }
        ran = true;
        match fix.run().await {
            Ok(()) => context.events.note(format!("{id}: ran {fix}")),
            Err(error) => context.events.note(failed(id, &error)),
        }
    }
    Ok(ran)
}

fn must_ask(fixable: &[(&Finding, &Fix)]) -> Error {
    let commands = fixable.iter().map(|(finding, fix)| format!("{}: {fix}", finding.id));
    let mut error =
        Error::usage("doctor --fix asks before each command, which needs a terminal and no --output json");
    error.evidence = commands.collect();
    error.hint("to run all of them without being asked: kindmesh doctor --fix --yes")
}

fn failed(id: &str, error: &anyhow::Error) -> String {
    let said = error::find(error).map(|error| error.evidence.join("; ")).filter(|said| !said.is_empty());
    format!("{id}: {error}{}", said.map(|said| format!(": {said}")).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::doctor::testing;

    #[test]
    fn without_a_terminal_the_commands_are_listed() {
        let mut facts = testing::good();
        facts.host.watchers = Some(128);
        let report = doctor::judge(&facts);
        let fixable: Vec<_> =
            report.findings.iter().filter_map(|found| Some((found, found.fix.as_ref()?))).collect();
        let error = must_ask(&fixable);
        assert_eq!(error.evidence, ["inotify.low: sudo sysctl fs.inotify.max_user_instances=512"]);
        assert_eq!(error.kind, Kind::Usage);
    }

    #[tokio::test]
    async fn a_failed_fix_shows_its_output() {
        let mut command = tokio::process::Command::new("sh");
        let error =
            crate::host::tool::process::run(command.args(["-c", "echo denied; exit 1"])).await.unwrap_err();
        let text = failed("inotify.low", &error);
        assert_eq!(text, "inotify.low: `sh -c 'echo denied; exit 1'` failed with exit status: 1: denied");
    }
}
