//! Where output goes, and what becomes of it.

use crate::desk::{Desk, KINDMESH};

#[test]
fn colours_only_where_they_are_asked_for() {
    let desk = Desk::new();
    let coloured = |arguments: &[&str], variable: &str| {
        let output = desk.command().env(variable, "1").args(arguments).output().unwrap();
        String::from_utf8(output.stderr).unwrap().contains('\x1b')
    };
    assert!(coloured(&["list", "--color", "always"], "X"));
    assert!(coloured(&["list"], "CLICOLOR_FORCE"));
    assert!(!coloured(&["list"], "X"));
    assert!(!coloured(&["list", "--color", "never"], "CLICOLOR_FORCE"));
}

#[test]
fn completions_into_a_closed_pipe_are_no_panic() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status =
        std::process::Command::new(KINDMESH).args(["completions", "bash"]).stdout(writer).status().unwrap();
    assert_ne!(status.code(), Some(101));
}
