//! `kindmesh lint`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{Context, Description, Done, Task};
use crate::base::error::Kind;
use crate::lifecycle::lint::{self, Placement, RULES};
use crate::report::Table;
use crate::report::lint::{sarif, text};
use crate::spec::Label;

/// `lint`.
#[derive(Debug, Args)]
pub struct LintArgs {
    /// Directories of manifests, charts or kustomizations, files, or - for standard input; of several, each is for one cluster
    #[arg(value_name = "DIR", default_value = ".")]
    pub folders: Vec<PathBuf>,
    /// Namespace of objects without one
    #[arg(long, value_name = "NAMESPACE", default_value = "default")]
    pub namespace: Label,
    /// Also write the findings as SARIF, for code scanning
    #[arg(long, value_name = "FILE")]
    pub sarif: Option<PathBuf>,
    /// List the rules
    #[arg(long)]
    pub list: bool,
}

pub fn command(args: LintArgs) -> Task {
    Task::new(Description::of("lint"), async move |context| run(context, &args).await)
}

async fn run(context: &Context, args: &LintArgs) -> anyhow::Result<Done> {
    if args.list {
        return list(context);
    }
    let report = lint::lint(&args.folders, &placement(context, args)?).await?;
    if let Some(path) = &args.sarif {
        sarif::save(&report, path)?;
    }
    let code = if report.fails() { Kind::Check.exit_code() } else { 0 };
    let done = match context.is_json() {
        true => Done::json(&report)?,
        false => Done::text(text(&report, context.printer.stdout_style())),
    };
    Ok(Done { code, ..done })
}

/// Returns what decides the clusters of objects: the spec, if there is one.
fn placement(context: &Context, args: &LintArgs) -> anyhow::Result<Placement> {
    let namespace = args.namespace.to_string();
    let loaded = context.load()?;
    if !loaded.from_files {
        return Ok(Placement { namespace, ..Placement::default() });
    }
    let names = |clusters: Vec<Label>| clusters.iter().map(ToString::to_string).collect();
    let clusters = loaded.spec.clusters.iter().map(|cluster| cluster.name.to_string()).collect();
    let deploy = loaded.spec.deploy.into_iter().map(|(name, clusters)| (name, names(clusters))).collect();
    Ok(Placement { namespace, deploy, clusters: Some(clusters) })
}

fn list(context: &Context) -> anyhow::Result<Done> {
    if context.is_json() {
        let rules = RULES.map(|rule| {
            json!({"id": rule.id, "severity": rule.severity, "summary": rule.summary, "reason": rule.reason})
        });
        return Done::json(&json!({"schemaVersion": 1, "rules": rules}));
    }
    let mut table = Table::headless();
    for rule in RULES {
        table.row([rule.id, rule.summary]);
    }
    Ok(Done::text(table.render(context.printer.stdout_style())))
}
