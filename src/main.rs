//! The `kindmesh` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    kindmesh::main()
}
