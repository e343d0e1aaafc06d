//! The kindmesh command.

use std::process::ExitCode;

use clap::Parser;
use kindmesh::cli::Cli;
use kindmesh::cli::commands;

fn main() -> ExitCode {
    commands::main(Cli::parse())
}
