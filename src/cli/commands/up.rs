//! `kindmesh up`

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{Context, Description, Done, Task, bundle};
use crate::base::error::Error;
use crate::base::event::Events;
use crate::base::hint::up_hint;
use crate::cli::confirm;
use crate::cli::values::duration;
use crate::host::docker::Engine;
use crate::lifecycle::snapshot;
use crate::lifecycle::up::{self, Ask, Consent, Options, Origin, Up};
use crate::plan::consent::Grant;
use crate::report::{Style, github};
use crate::spec::Label;

/// `up`.
#[derive(Debug, Args)]
pub struct UpArgs {
    /// Timeout of the whole run, such as 90s or 15m
    #[arg(long, value_parser = duration, default_value = "15m", value_name = "TIME")]
    pub timeout: Duration,
    /// Create the clusters, even if there is a template of them
    #[arg(long)]
    pub fresh: bool,
    /// Delete clusters of the environment that the spec no longer lists
    #[arg(long)]
    pub prune: bool,
    /// Create a new environment from a snapshot, under the name of --name, with a new root of trust
    #[arg(long, value_name = "SNAPSHOT", conflicts_with = "fresh")]
    pub from: Option<Label>,
    /// Change the cluster of this context of your kubeconfig without asking; may be repeated
    #[arg(long, value_name = "CONTEXT")]
    pub allow_context: Vec<String>,
    /// Write a support archive on failure [default: a new file in the working directory]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "", value_name = "FILE")]
    pub bundle_on_failure: Option<PathBuf>,
}

pub fn command(args: UpArgs) -> Task {
    Task::new(
        Description {
            streams_events: true,
            after_signal: Some(|flags| {
                format!(
                    "kindmesh up{flags} continues where this run stopped; kindmesh down{flags} deletes \
                    everything"
                )
            }),
            annotated: true,
            recorded: true,
            summarised: true,
            ..Description::of("up")
        },
        async move |context| run(context, &args).await,
    )
}

async fn run(context: &Context, args: &UpArgs) -> anyhow::Result<Done> {
    let (loaded, origin) = match &args.from {
        None if args.fresh => (context.load()?, Origin::Fresh),
        None => (context.load()?, Origin::default()),
        Some(_) if !context.global.files.is_empty() => {
            return Err(Error::usage("a snapshot has its own spec").hint("omit --file, or omit --from").into());
        }
        Some(from) => {
            let found = snapshot::open(&context.folders, from.as_str())?;
            snapshot::admit(&found, &Engine::connect().await?).await?;
            let mut loaded = snapshot::spec(&found)?;
            if let Some(name) = &context.global.name {
                loaded.spec.name = name.clone();
            }
            (loaded, Origin::New(Box::new(found)))
        }
    };
    let prune = args.prune;
    let consent = Consent { allowed: args.allow_context.clone(), ask: context.can_ask().then_some(agrees as Ask) };
    let options = Options { timeout: args.timeout, interrupt: context.interrupt.clone(), origin, prune, consent };
    let up = match up::up(&loaded, &options, &context.folders, &context.events).await {
        Ok(up) => up,
        Err(error) => {
            let error = context.explained(error);
            let name = loaded.spec.name.as_str();
            bundle::on_failure(context, name, args.bundle_on_failure.as_deref(), Some(&error)).await;
            return Err(error);
        }
    };
    if let Err(error) = github::Surroundings::of_process().summarise(&github::environment(&up)) {
        context.events.note(format!("{error:#}"));
    }
    if context.is_json() {
        return Ok(Done::default());
    }
    Ok(Done::text(summary(&up, context.printer.stdout_style())))
}

/// Asks whether to change clusters that exist.
fn agrees(events: &Events, grants: &[Grant]) -> bool {
    events.note("these clusters exist already, and nobody has agreed yet that kindmesh changes them:");
    for line in grants.iter().flat_map(Grant::lines) {
        events.note(line);
    }
    confirm::ask(events, "Change them?")
}

fn summary(up: &Up, style: Style) -> String {
    let mut text = String::new();
    for (from, answer) in &up.calls {
        let served_by = answer.served_by().unwrap_or_default();
        let identity = answer.identity().unwrap_or_default();
        text.push_str(&format!(
            "A call from {from} was answered in {served_by}, with caller identity {identity}: {} in {} ms.\n\n",
            answer.status_code, answer.round_trip_time_millis
        ));
    }
    let plan = &up.plan;
    let name = match up_hint(&plan.environment).strip_prefix("kindmesh up") {
        Some(flags) => flags.to_owned(),
        None => String::new(),
    };
    let clusters: Vec<_> = plan.clusters.iter().map(|cluster| cluster.context.as_str()).collect();
    let on =
        plan.docker.as_ref().map(|docker| format!(" on network {}", docker.network.subnet)).unwrap_or_default();
    text.push_str(&format!("Environment {}{on}\n", style.bold(&plan.environment)));
    text.push_str(&format!("  contexts    {}\n", clusters.join(", ")));
    text.push_str(&format!("  kubeconfig  {}\n", up.kubeconfig));
    text.push_str("\nTry next\n");
    let mut next = vec![(format!("eval \"$(kindmesh env{name})\""), "use kubectl with both clusters")];
    if !up.calls.is_empty() {
        next.extend([
            (format!("kindmesh call{name}"), "send a call, and show what each side received"),
            (format!("kindmesh call{name} --delay-ms 6000"), "a slow producer: 504 after 5 s"),
            (
                format!("kindmesh call{name} --status 500 --count 16; sleep 1; kindmesh call{name}"),
                "a failing producer: the circuit breaker opens, 503 until it closes",
            ),
            (format!("kindmesh open{name}"), "open the caller page in a browser"),
        ]);
    }
    next.push((format!("kindmesh down{name}"), "delete everything"));
    for (command, what) in next {
        text.push_str(&format!("  {}\n      {}\n", style.bold(&command), style.dim(what)));
    }
    text
}
