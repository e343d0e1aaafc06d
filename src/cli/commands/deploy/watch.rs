//! `kindmesh deploy --watch`: deploys again after each change, and goes on after an error. It deletes no objects: a file may be seen
//! while it is empty, or before its directory is complete.

use std::path::Path;

use jiff::Zoned;
use tokio::time::Instant;

use super::{DeployArgs, described, document, open, options, within};
use crate::base::error::Error;
use crate::base::event::Events;
use crate::cli::context::Context;
use crate::cli::task::Done;
use crate::cluster::environment::Environment;
use crate::host::docker::Engine;
use crate::lifecycle::deploy::{self, Deployed, Watch, manifests};
use crate::report;
use crate::report::failure::Failure;

pub(super) async fn run(context: &Context, args: &DeployArgs) -> anyhow::Result<Done> {
    if args.folder == Path::new(manifests::STDIN) {
        return Err(Error::usage("--watch cannot watch standard input").hint("give a directory or a file").into());
    }
    // Clusters that exist may be deployed to without an engine.
    let engine = Engine::connect().await.ok();
    // Before the first deployment: what is saved meanwhile is a change.
    let mut watch = Watch::start(&args.folder, engine.as_ref())?;
    let mut changed = Vec::new();
    loop {
        let started = Instant::now();
        let applied = shown(context, async |events| once(context, args, false, events).await).await;
        if let Some((environment, deployed)) = &applied
            && (deployed.changed || changed.is_empty())
        {
            let applied = format!("applied in {:.1} s", started.elapsed().as_secs_f64());
            context.printer.result(&match (context.is_json(), changed.is_empty()) {
                (true, _) => document(environment, deployed).to_string(),
                (false, true) => format!("{}\n{}", said(&applied), described(deployed).join("\n")),
                (false, false) => {
                    let notes = deployed.notes.iter().map(|note| format!("\nnote: {note}")).collect::<String>();
                    format!("{}{notes}", said(&format!("{}: {applied}", changed.join(", "))))
                }
            });
        }
        // A change ends the wait for the pods of the previous version.
        changed = tokio::select! {
            () = ready(context, args), if applied.is_some() && !args.no_wait => watch.changed().await?,
            changed = watch.changed() => changed?,
        };
        if context.printer.stdout_closed() {
            return Ok(Done::default());
        }
    }
}

/// Waits until all pods are ready, and says so. Applying the same manifests again changes nothing.
async fn ready(context: &Context, args: &DeployArgs) {
    match once(context, args, true, &Events::silent()).await {
        Ok(_) if context.is_json() => {}
        Ok(_) => context.printer.result(&said("all pods are ready")),
        Err(error) => failed(context, error),
    }
}

async fn once(
    context: &Context,
    args: &DeployArgs,
    wait: bool,
    events: &Events,
) -> anyhow::Result<(Environment, Deployed)> {
    let deadline = Instant::now() + args.timeout;
    within(args, deadline, async {
        // Locked for one deployment only, so that `up` and `down` need not wait for the end of the watch.
        let (_lock, environment) = open(context, deadline, events).await?;
        let options = deploy::Options { wait, ..options(context, &environment, args, deadline)? };
        let deployed = deploy::deploy(&environment, &args.folder, &options, events).await?;
        Ok((environment, deployed))
    })
    .await
}

/// Runs one deployment with a display of its own, which has ended when its error is printed.
async fn shown<T>(context: &Context, work: impl AsyncFnOnce(&Events) -> anyhow::Result<T>) -> Option<T> {
    let (events, feed) = match context.is_json() {
        true => (Events::silent(), None),
        false => {
            let (events, feed) = Events::channel();
            (events, Some(feed))
        }
    };
    let display = feed.map(|feed| report::spawn(feed, report::sink(context.global.output, &context.printer)));
    let done = work(&events).await;
    if let Err(error) = &done {
        events.send(Failure::of(error).event());
    }
    events.end();
    if let Some(display) = display {
        let _ = display.await;
    }
    done.map_err(|error| failed(context, error)).ok()
}

fn failed(context: &Context, error: anyhow::Error) {
    let failure = Failure::of(&context.explained(error));
    context.printer.error(&match context.is_json() {
        true => failure.event().line(jiff::Timestamp::now()),
        false => failure.render(context.printer.stderr_style()),
    });
}

fn said(what: &str) -> String {
    format!("{} {what}", Zoned::now().strftime("%H:%M:%S"))
}
