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

/// What a shell makes of a script with `$KINDMESH` in it: its exit status, and what it printed.
fn shell(desk: &Desk, script: &str) -> (Option<i32>, String) {
    let output = desk.command_of("bash").env("KINDMESH", KINDMESH).args(["-c", script]).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn a_stream_that_is_closed_or_not_read_is_no_panic() {
    let desk = Desk::with_environment();
    for command in
        ["schema", "plan --offline", "list", "env --name shop", "kubeconfig --raw --name shop", "--help"]
    {
        for redirected in [">&-", "2>&-", "<&- >&- 2>&-", "| head -1", "2>&1 | head -c 1", "| true"] {
            let (_, said) = shell(&desk, &format!("\"$KINDMESH\" {command} {redirected}"));
            assert!(!said.contains("panicked"), "{command} {redirected}: {said}");
            let (code, _) =
                shell(&desk, &format!("\"$KINDMESH\" {command} {redirected}; exit ${{PIPESTATUS[0]}}"));
            // Nothing lists without an engine.
            let expected = if command == "list" { 4 } else { 0 };
            assert_eq!(code, Some(expected), "{command} {redirected}");
        }
    }
}

#[test]
fn a_result_that_cannot_be_written_is_a_failure() {
    let desk = Desk::new();
    for command in ["schema", "plan --offline"] {
        let (code, said) = shell(&desk, &format!("\"$KINDMESH\" {command} >/dev/full"));
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("error: writing the result: "), "{said}");
    }
}
