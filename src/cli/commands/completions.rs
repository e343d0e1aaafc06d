//! `kindmesh completions`

use clap::CommandFactory;

use super::Done;
use crate::cli::{Cli, CompletionsArgs};

pub(super) fn run(args: &CompletionsArgs) -> anyhow::Result<Done> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "kindmesh", &mut script);
    Ok(Done::text(String::from_utf8(script)?))
}
