//! `kindmesh render`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{Context, Description, Done, Task};
use crate::base::event::Outcome;
use crate::cluster::environment;
use crate::host::docker::Engine;
use crate::host::inventory as gather;
use crate::host::tool::{self, Tool};
use crate::lifecycle::render::{self, Inputs};
use crate::plan::{self, Cluster, admission};

/// `render`.
#[derive(Debug, Args)]
pub struct RenderArgs {
    /// Directory to write, which must be empty or not exist
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}

pub fn command(args: RenderArgs) -> Task {
    Task::new(Description::of("render"), async move |context| run(context, &args).await)
}

async fn run(context: &Context, args: &RenderArgs) -> anyhow::Result<Done> {
    let loaded = context.load()?;
    let files = context.folders.environment(loaded.spec.name.as_str());
    let spec = admission::spec(&loaded, environment::stored(&files)?)?;
    admission::owns_nodes(&spec, "render")?;
    let mut inventory = gather::gather(&Engine::connect().await?).await?;
    inventory.executable = gather::executable().await?;
    admission::changes(&spec, &loaded.origins, environment::stored(&files)?.as_ref(), &inventory)?;
    let plan = plan::plan(&spec, &inventory).map_err(|error| loaded.origins.place(error))?;
    let inputs = Inputs { spec: &spec, plan: &plan, files: &files, cache: &context.folders.cache };
    let istioctl = async |cluster: &Cluster| {
        let step = context.events.step(Tool::Istioctl.name(), None);
        step.run(async |step| {
            let found = tool::find(Tool::Istioctl, &cluster.istio_version, &context.folders.cache, step).await?;
            Ok(Outcome::unchanged(found))
        })
        .await
    };
    let written = render::render(&inputs, &args.folder, istioctl).await?;
    if context.is_json() {
        return Done::json(&json!({"schemaVersion": 1, "folder": args.folder, "files": written}));
    }
    let folder = args.folder.display();
    let list: Vec<_> = written.iter().map(|path| format!("{folder}/{}", path.display())).collect();
    Ok(Done::text(format!(
        "{}\n\nIt contains private keys. To apply the files by hand: {folder}/apply.sh",
        list.join("\n")
    )))
}
