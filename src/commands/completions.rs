//! `kindmesh completions`

use std::process::ExitCode;

use clap::CommandFactory;

use crate::cli::{Cli, CompletionsArgs};

pub(super) fn run(args: &CompletionsArgs) -> ExitCode {
    clap_complete::generate(args.shell, &mut Cli::command(), "kindmesh", &mut std::io::stdout());
    ExitCode::SUCCESS
}
