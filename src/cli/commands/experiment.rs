//! `kindmesh experiment`

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::{Context, Description, Done, Task};
use crate::base::error::{Error, Kind};
use crate::cli::values::duration;
use crate::cluster::environment::Environment;
use crate::host::docker::Engine;
use crate::lifecycle::experiment::{self, Experiment, SHIPPED};
use crate::lifecycle::fault::Scene;
use crate::report::github::Surroundings;
use crate::report::verdicts::{ReportFile, github};
use crate::report::{Output, Table, Verbosity, experiment as report};
use crate::spec;

/// `experiment`.
#[derive(Debug, Args)]
pub struct ExperimentArgs {
    /// Experiment to run: the name of one that kindmesh brings, or a file
    #[arg(value_name = "EXPERIMENT", required_unless_present = "list")]
    pub experiment: Option<String>,
    /// List the experiments that kindmesh brings
    #[arg(long, conflicts_with_all = ["experiment", "print"])]
    pub list: bool,
    /// Print the experiment's file instead of running it
    #[arg(long)]
    pub print: bool,
    /// Write a report: KIND is junit, html, json or markdown; may be repeated
    #[arg(long, value_name = "KIND=FILE")]
    pub report: Vec<ReportFile>,
    /// Timeout of the setup, and of the cleanup, such as 60s or 2m
    #[arg(long, value_parser = duration, default_value = "60s", value_name = "TIME")]
    pub timeout: Duration,
}

fn left(flags: &str) -> String {
    format!(
        "faults end by themselves, but nodes may be down and policies left: kindmesh start{flags}, kindmesh apply --list{flags}"
    )
}

pub fn command(args: ExperimentArgs) -> Task {
    let description = Description {
        html: true,
        annotated: true,
        ends_outages: !args.list && !args.print,
        after_signal: Some(left),
        ..Description::of("experiment")
    };
    Task::new(description, async move |context| run(context, &args).await)
}

async fn run(context: &Context, args: &ExperimentArgs) -> anyhow::Result<Done> {
    let Some(named) = args.experiment.as_deref().filter(|_| !args.list) else { return list(context) };
    let (text, shown) = read(named)?;
    let experiment = Experiment::parse(&text, &shown)?;
    if args.print {
        return Ok(Done::text(text));
    }
    context.require_own_nodes("experiment")?;
    let environment = Environment::open(&context.folders, &context.environment_name()?)?;
    let engine = Engine::connect().await?;
    let scene =
        Scene { engine: &engine, environment: &environment, folders: &context.folders, events: &context.events };
    let results = experiment::run(&scene, &experiment, args.timeout, &context.interrupt).await;
    let results = results.map_err(|error| context.explained(error))?;
    for file in &args.report {
        report::write(file, &results)?;
    }
    let (verdicts, subject) = (&results.verdicts, &results.subject);
    github::report(&Surroundings::of_process(), &report::command(&results), verdicts, subject, &context.printer)?;
    let verbose = context.printer.verbosity() == Verbosity::Verbose;
    let done = match context.global.output {
        Output::Json => Done::json(&results)?,
        Output::Html => Done::text(report::html::page(&results)),
        _ => Done::text(report::text(&results, context.printer.stdout_style(), verbose)),
    };
    let code = if verdicts.failed > 0 { Kind::Check.exit_code() } else { 0 };
    Ok(Done { code, ..done })
}

/// Returns the text of an experiment, and its name in messages.
fn read(named: &str) -> anyhow::Result<(String, String)> {
    if let Some(shipped) = experiment::find(named) {
        return Ok((shipped.text.to_owned(), format!("{named}.yaml")));
    }
    let known = SHIPPED.map(|shipped| shipped.name).join(", ");
    let directory = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
    let read = spec::read_text(&directory, Path::new(named), Some("the command line"));
    let text =
        read.map_err(|error| Error { hint: Some(format!("specify a file, or one of {known}")), ..error })?;
    Ok((text, named.to_owned()))
}

fn list(context: &Context) -> anyhow::Result<Done> {
    let mut all = Vec::new();
    for shipped in &SHIPPED {
        all.push(shipped.experiment()?);
    }
    if context.is_json() {
        let all: Vec<_> = all
            .iter()
            .map(|experiment| json!({"name": experiment.name, "description": experiment.description}))
            .collect();
        return Done::json(&json!({"schemaVersion": 1, "experiments": all}));
    }
    let mut table = Table::headless();
    for experiment in all {
        table.row([experiment.name.to_string(), experiment.description.unwrap_or_default()]);
    }
    Ok(Done::text(table.render(context.printer.stdout_style())))
}
