//! `kindmesh kubeconfig`

use anyhow::Context as _;
use clap::Args;

use super::{Context, Description, Done, Task};
use crate::base::error::Error;
use crate::base::hint::up_hint;
use crate::cluster::environment::Environment;
use crate::host::kubeconfig;
use crate::lifecycle::locked;

/// `kubeconfig`.
#[derive(Debug, Args)]
pub struct KubeconfigArgs {
    /// Print its content instead of its path
    #[arg(long, conflicts_with = "merge")]
    pub raw: bool,
    /// Merge it into your kubeconfig (the first file in KUBECONFIG, else ~/.kube/config), and print that path
    #[arg(long)]
    pub merge: bool,
}

pub fn command(args: KubeconfigArgs) -> Task {
    Task::new(Description::of("kubeconfig"), async move |context| run(context, &args).await)
}

async fn run(context: &Context, args: &KubeconfigArgs) -> anyhow::Result<Done> {
    let environment = Environment::open(&context.folders, &context.environment_name()?)?;
    let path = environment.files.kubeconfig();
    if !path.exists() {
        let message = format!("environment \"{}\" has no kubeconfig yet", environment.name());
        return Err(Error::environment(message).hint(up_hint(environment.name())).into());
    }
    if args.raw {
        let content = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        return Ok(Done::text(content));
    }
    if args.merge {
        let users = kubeconfig::users_own()?;
        // Otherwise a `down` could delete the environment while the merge waits for another program.
        let _lock = locked::shared(&environment.files, environment.name(), None, &context.events).await?;
        let environment = Environment::open(&context.folders, environment.name())?;
        let (files, events) = (&environment.files, &context.events);
        kubeconfig::merge_into(&users, files, environment.name(), kubeconfig::MERGE_TIMEOUT, events).await?;
        return Ok(Done::text(users.display().to_string()));
    }
    Ok(Done::text(path.display().to_string()))
}
