//! `kindmesh ui`

use serde_json::json;

use super::open::{self, OpenArgs};
use super::{Context, Description, Done, Task};
use crate::apps::ui::Ui;
use crate::cluster::environment::Environment;

pub fn command(args: OpenArgs) -> Task {
    Task::new(Description { serves: true, ends_outages: true, ..Description::of("ui") }, async move |context| {
        run(context, &args).await
    })
}

async fn run(context: &Context, args: &OpenArgs) -> anyhow::Result<Done> {
    let environment = Environment::open(&context.folders, &context.environment_name()?)?;
    environment.caller(args.from.as_ref())?;
    let ui = Ui::bind(args.port.unwrap_or_default()).await?;
    let url = ui.url();
    context.printer.result(&match context.is_json() {
        true => json!({"schemaVersion": 1, "url": url}).to_string(),
        false => url.clone(),
    });
    context.events.note(format!("serving the dashboard of environment {} until Ctrl-C", environment.name()));
    open::show(context, args, url);
    ui.run(&environment, args.from.as_ref(), &context.folders, &context.interrupt).await?;
    Ok(Done::default())
}
