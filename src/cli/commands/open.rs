//! `kindmesh open`

use clap::Args;
use serde_json::json;

use super::{Context, Description, Done, Task};
use crate::cli::values::whole;
use crate::cluster::environment::Environment;
use crate::cluster::forward::{self, Forward};
use crate::lifecycle::locked;
use crate::spec::Label;

/// `open` and `ui`.
#[derive(Debug, Args)]
pub struct OpenArgs {
    /// Cluster whose caller sends the calls [default: the first with a caller]
    #[arg(long, value_name = "CLUSTER")]
    pub from: Option<Label>,
    /// Port on 127.0.0.1; 0 selects a free port [default: a free port; for kindmesh open, 8080 if it is free]
    #[arg(long, value_name = "N", value_parser = whole(0..=u16::MAX), allow_negative_numbers = true)]
    pub port: Option<u16>,
    /// Print the URL without opening a browser
    #[arg(long)]
    pub no_browser: bool,
}

pub fn command(args: OpenArgs) -> Task {
    Task::new(Description { serves: true, ends_outages: true, ..Description::of("open") }, async move |context| {
        run(context, &args).await
    })
}

async fn run(context: &Context, args: &OpenArgs) -> anyhow::Result<Done> {
    let environment = Environment::open(&context.folders, &context.environment_name()?)?;
    let from = environment.caller(args.from.as_ref())?;
    locked::require_running(environment.name(), &[from]).await?;
    let client = environment.client(from).await?;
    let namespace = environment.spec.samples.namespace.as_str();
    let to_caller = async || forward::to_caller(&client, namespace).await;
    // Report a missing caller now, rather than serve an empty page.
    to_caller().await.map_err(|error| crate::cluster::call::unreached(error, from))?;
    let forward = Forward::bind(args.port).await?;
    let url = forward.url();
    context.printer.result(&match context.is_json() {
        true => json!({"schemaVersion": 1, "url": url}).to_string(),
        false => url.clone(),
    });
    context.events.note(format!("serving the caller page of {from} until Ctrl-C"));
    show(context, args, url);
    forward.run(&context.events, to_caller).await?;
    Ok(Done::default())
}

/// Opens a URL in the browser, if there is a screen and `--no-browser` is not set.
pub(super) fn show(context: &Context, args: &OpenArgs, url: String) {
    let variable = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if !args.no_browser && has_browser(cfg!(target_os = "macos"), variable) {
        let events = context.events.clone();
        // `open` waits briefly to see whether the browser fails.
        tokio::task::spawn_blocking(move || {
            if let Err(error) = open::that_detached(url) {
                events.note(format!("cannot start a browser ({error}): open the URL yourself"));
            }
        });
    }
}

/// Whether there is a screen for a browser: the user's own, not that of a Mac reached over SSH.
fn has_browser(macos: bool, variable: impl Fn(&str) -> bool) -> bool {
    if macos {
        return !variable("SSH_CONNECTION");
    }
    ["DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME"].into_iter().any(variable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_needs_a_screen() {
        let with = |macos, set: &'static str| has_browser(macos, move |name| name == set);
        assert!(with(false, "DISPLAY") && with(false, "WAYLAND_DISPLAY") && with(false, "WSL_DISTRO_NAME"));
        assert!(!with(false, "") && !with(false, "SSH_CONNECTION"));
        assert!(with(true, "") && !with(true, "SSH_CONNECTION"));
    }
}
