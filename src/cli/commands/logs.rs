//! `kindmesh logs`

use clap::Args;
use futures::stream::{StreamExt, select_all};
use serde_json::json;

use super::{Context, Description, Done, Task};
use crate::base::error::Error;
use crate::cli::values::whole;
use crate::cluster::environment::Environment;
use crate::diagnose::logs::{Log, Logs, Options, What};
use crate::report::Table;
use crate::spec::Label;

/// `logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Log to print [default: list the available logs]
    #[arg(value_enum, value_name = "LOG")]
    pub what: Option<What>,
    /// Only logs of this cluster
    #[arg(long, value_name = "CLUSTER")]
    pub cluster: Option<Label>,
    /// Number of lines from the end of each log
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = whole(1..=u32::MAX), allow_negative_numbers = true)]
    pub lines: u32,
    /// Print new lines as they are written, until Ctrl-C
    #[arg(long, requires = "what", conflicts_with = "previous")]
    pub follow: bool,
    /// Print the log of the container's previous run
    #[arg(long, requires = "what")]
    pub previous: bool,
}

pub fn command(args: LogsArgs) -> Task {
    Task::new(Description { serves: args.follow, ..Description::of("logs") }, async move |context| {
        run(context, &args).await
    })
}

async fn run(context: &Context, args: &LogsArgs) -> anyhow::Result<Done> {
    if args.previous && matches!(args.what, Some(What::Node | What::Link)) {
        return Err(Error::usage("--previous supports only containers: a node has one journal")
            .hint("omit it; --lines N shows older lines")
            .into());
    }
    let environment = Environment::open(&context.folders, &context.environment_name()?)?;
    let what = args.what.map_or(What::ALL.to_vec(), |what| vec![what]);
    let logs = Logs::find(&environment, &what, args.cluster.as_ref()).await?;
    if logs.found.is_empty() {
        let what = args.what.map_or("any kind", What::as_str);
        return Err(Error::environment(format!("no logs of {what} found"))
            .evidence(logs.missing.join("\n"))
            .hint("kindmesh logs lists the available logs")
            .into());
    }
    for missing in &logs.missing {
        context.events.note(format!("not available: {missing}"));
    }
    let options = Options { lines: args.lines, previous: args.previous };
    match (args.what, args.follow) {
        (None, _) => list(context, &logs),
        (_, true) => follow(context, &logs, options).await,
        (_, false) => tails(context, &environment, &logs, options).await,
    }
}

fn list(context: &Context, logs: &Logs<'_>) -> anyhow::Result<Done> {
    if context.is_json() {
        let rows: Vec<_> = logs.found.iter().map(|log| row(log, json!({}))).collect();
        return Done::json(&json!({"schemaVersion": 1, "logs": rows}));
    }
    let mut table = Table::headless();
    for log in &logs.found {
        table.row([log.what.as_str().to_owned(), log.cluster.clone(), log.place.to_string(), log.state.clone()]);
    }
    let style = context.printer.stdout_style();
    Ok(Done::text(format!(
        "{}\n\nTo print one: {}",
        table.render(style),
        style.bold("kindmesh logs istiod --cluster cluster1").replace("cluster1", &logs.found[0].cluster)
    )))
}

fn row(log: &Log, more: serde_json::Value) -> serde_json::Value {
    let mut row =
        json!({"what": log.what, "cluster": log.cluster, "source": log.place.to_string(), "state": log.state});
    if let (Some(row), Some(more)) = (row.as_object_mut(), more.as_object()) {
        row.extend(more.clone());
    }
    row
}

async fn tails(
    context: &Context,
    environment: &Environment,
    logs: &Logs<'_>,
    options: Options,
) -> anyhow::Result<Done> {
    let reads = futures::future::join_all(logs.found.iter().map(|log| logs.tail(log, options))).await;
    let code = u8::from(reads.iter().all(Result::is_err));
    let done = if context.is_json() {
        let rows = logs.found.iter().zip(&reads).map(|(log, read)| match read {
            Ok(lines) => row(log, json!({"lines": lines, "error": null})),
            Err(error) => row(log, json!({"lines": [], "error": format!("{error:#}")})),
        });
        let rows: Vec<_> = rows.collect();
        Done::json(&json!({"schemaVersion": 1, "environment": environment.name(), "logs": rows}))?
    } else {
        let style = context.printer.stdout_style();
        let text = logs.found.iter().zip(&reads).map(|(log, read)| {
            let lines = match read {
                Ok(lines) => lines.join("\n"),
                Err(error) => format!("({error:#})"),
            };
            format!("{}\n{lines}", style.bold(&format!("==> {} {} <==", log.cluster, log.place)))
        });
        Done::text(text.collect::<Vec<_>>().join("\n\n"))
    };
    Ok(Done { code, ..done })
}

/// Prints lines as they arrive, each with its source if there are several.
async fn follow(context: &Context, logs: &Logs<'_>, options: Options) -> anyhow::Result<Done> {
    let mut streams = Vec::new();
    for log in &logs.found {
        let stream = logs.follow(log, options).await?;
        streams.push(stream.map(move |line| (log, line)).boxed());
    }
    let several = streams.len() > 1;
    let style = context.printer.stdout_style();
    let mut all = select_all(streams);
    while let Some((log, line)) = all.next().await {
        let line = line?;
        context.printer.result(&match (context.is_json(), several) {
            (true, _) => row(log, json!({"line": line})).to_string(),
            (false, true) => format!("{} {line}", style.dim(&format!("{} {} |", log.cluster, log.place))),
            (false, false) => line,
        });
        if context.printer.stdout_closed() {
            break;
        }
    }
    Ok(Done::default())
}
