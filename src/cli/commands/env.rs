//! `kindmesh env`

use super::{Context, Description, Done, Task};
use crate::cluster::environment::Environment;
use crate::spec::load::NAME_VARIABLE;

pub fn command() -> Task {
    Task::new(Description::of("env"), async |context| run(context))
}

fn run(context: &Context) -> anyhow::Result<Done> {
    let environment = Environment::open(&context.folders, &context.environment_name()?)?;
    let mut variables = vec![
        ("KUBECONFIG".to_owned(), environment.files.kubeconfig().display().to_string()),
        (NAME_VARIABLE.to_owned(), environment.name().to_owned()),
    ];
    for (number, cluster) in environment.spec.clusters.iter().enumerate() {
        variables.push((format!("CTX_CLUSTER{}", number + 1), environment.context(cluster.name.as_str())));
    }
    if context.is_json() {
        return Done::json(&variables.into_iter().collect::<std::collections::BTreeMap<_, _>>());
    }
    let lines: Vec<_> = variables
        .iter()
        .map(|(name, value)| format!("export {name}='{}'", value.replace('\'', r"'\''")))
        .collect();
    Ok(Done::text(lines.join("\n")))
}
