//! `kindmesh timeline`

use clap::Args;

use super::{Context, Description, Done, Task};
use crate::base::error::Error;
use crate::cli::values::whole;
use crate::cluster::environment;
use crate::host::record;
use crate::report::timeline::Timeline;
use crate::report::{Output, Table, gantt};

/// `timeline`.
#[derive(Debug, Args)]
pub struct TimelineArgs {
    /// Run to show; 1 is the latest
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = whole(1..=u32::MAX), allow_negative_numbers = true)]
    pub run: u32,
    /// List the recorded runs
    #[arg(long, conflicts_with = "run")]
    pub list: bool,
}

pub fn command(args: TimelineArgs) -> Task {
    Task::new(Description { html: true, ..Description::of("timeline") }, async move |context| run(context, &args))
}

fn run(context: &Context, args: &TimelineArgs) -> anyhow::Result<Done> {
    let name = context.environment_name()?;
    let files = context.folders.environment(&name);
    if !files.exist() {
        return Err(environment::absent(&name).into());
    }
    let mut runs = Vec::new();
    for path in record::list(&files) {
        let command = record::command(&path).unwrap_or_default().to_owned();
        runs.extend(Timeline::of(&command, &record::read(&path)?));
    }
    // Run 1 is the last one, which users look at most often.
    runs.reverse();
    if args.list {
        return list(context, &runs);
    }
    let wanted = usize::try_from(args.run).unwrap_or(usize::MAX);
    let timeline = runs.get(wanted - 1).ok_or_else(|| {
        Error::environment(format!("{} runs of \"{name}\" are recorded", runs.len()))
            .hint("kindmesh up records one; kindmesh timeline --list lists the recorded runs")
    })?;
    match context.global.output {
        Output::Json => Done::json(timeline),
        Output::Html => Ok(Done::text(gantt::page(timeline, &name))),
        _ => {
            let (style, columns) = (context.printer.stdout_style(), context.printer.columns());
            Ok(Done::text(gantt::text(timeline, style, context.printer.unicode(), columns)))
        }
    }
}

fn list(context: &Context, runs: &[Timeline]) -> anyhow::Result<Done> {
    if context.is_json() {
        return Done::json(&serde_json::json!({"schemaVersion": 1, "runs": runs}));
    }
    let mut table = Table::new(["RUN", "COMMAND", "STARTED", "SECONDS"]);
    for (index, run) in runs.iter().enumerate() {
        let started = run.started.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
        table.row([(index + 1).to_string(), run.command.clone(), started, format!("{:.1}", run.seconds)]);
    }
    Ok(Done::text(table.render(context.printer.stdout_style())))
}
