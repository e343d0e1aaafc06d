//! The kindmesh command.

use std::process::ExitCode;

use clap::Parser;
use kindmesh::cli::Cli;
use kindmesh::commands;

fn main() -> ExitCode {
    commands::main(Cli::parse())
}
