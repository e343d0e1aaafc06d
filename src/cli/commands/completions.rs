//! `kindmesh completions`

use clap::{Args, CommandFactory};

use super::{Description, Done, Task};
use crate::cli::Cli;

/// `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// Shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

pub fn command(args: CompletionsArgs) -> Task {
    Task::without_files(Description::of("completions"), move || run(&args))
}

fn run(args: &CompletionsArgs) -> anyhow::Result<Done> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "kindmesh", &mut script);
    Ok(Done::text(String::from_utf8(script)?))
}
