//! Which stream output goes to, and what happens when it cannot be written.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::sandbox::{EXIT_TIMEOUT, KINDMESH, Sandbox};

#[test]
fn colors_only_on_request() {
    let sandbox = Sandbox::new();
    let coloured = |arguments: &[&str], variable: &str| {
        let output = sandbox.command().env(variable, "1").args(arguments).output().unwrap();
        String::from_utf8(output.stderr).unwrap().contains('\x1b')
    };
    assert!(coloured(&["list", "--color", "always"], "X"));
    assert!(coloured(&["list"], "CLICOLOR_FORCE"));
    assert!(!coloured(&["list"], "X"));
    assert!(!coloured(&["list", "--color", "never"], "CLICOLOR_FORCE"));
}

#[test]
fn completions_into_a_closed_pipe_do_not_panic() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status =
        std::process::Command::new(KINDMESH).args(["completions", "bash"]).stdout(writer).status().unwrap();
    assert_ne!(status.code(), Some(101));
}

/// Runs a shell script that uses `$KINDMESH`, and returns its exit status and output.
fn shell(sandbox: &Sandbox, script: &str) -> (Option<i32>, String) {
    let output = sandbox.command_of("bash").env("KINDMESH", KINDMESH).args(["-c", script]).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn closed_or_unread_stream_causes_no_panic() {
    let sandbox = Sandbox::with_environment();
    for command in
        ["schema", "plan --offline", "list", "env --name shop", "kubeconfig --raw --name shop", "--help"]
    {
        for redirected in [">&-", "2>&-", "<&- >&- 2>&-", "| head -1", "2>&1 | head -c 1", "| true"] {
            let (_, said) = shell(&sandbox, &format!("\"$KINDMESH\" {command} {redirected}"));
            assert!(!said.contains("panicked"), "{command} {redirected}: {said}");
            let (code, _) =
                shell(&sandbox, &format!("\"$KINDMESH\" {command} {redirected}; exit ${{PIPESTATUS[0]}}"));
            // `list` requires an engine.
            let expected = if command == "list" { 4 } else { 0 };
            assert_eq!(code, Some(expected), "{command} {redirected}");
        }
    }
}

#[test]
fn unwritable_result_is_a_failure() {
    let sandbox = Sandbox::new();
    for command in ["schema", "plan --offline"] {
        let (code, said) = shell(&sandbox, &format!("\"$KINDMESH\" {command} >/dev/full"));
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("error: writing the result: "), "{said}");
    }
}

/// Starts `up` without an engine, and with a full stdout that is not read yet; its exit status arrives on the channel.
fn stalled(sandbox: &Sandbox) -> (u32, UnixStream, usize, mpsc::Receiver<ExitStatus>) {
    let (reader, writer) = UnixStream::pair().unwrap();
    writer.set_nonblocking(true).unwrap();
    let mut filled = 0;
    for size in [4096, 1] {
        while let Ok(written) = (&writer).write(&vec![b'\n'; size]) {
            filled += written;
        }
    }
    writer.set_nonblocking(false).unwrap();
    let mut command = sandbox.process_of(KINDMESH);
    let mut child = command
        .args(["up", "--output", "json"])
        .stdout(OwnedFd::from(writer))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    drop(command);
    let id = child.id();
    let (ended, end) = mpsc::channel();
    std::thread::spawn(move || ended.send(child.wait().unwrap()));
    // It has failed long ago, but does not exit while its last event is unread.
    assert_eq!(end.recv_timeout(Duration::from_secs(3)), Err(mpsc::RecvTimeoutError::Timeout));
    (id, reader, filled, end)
}

#[test]
fn last_event_reaches_a_late_reader() {
    let sandbox = Sandbox::new();
    let (_, mut reader, filled, end) = stalled(&sandbox);
    let mut read = String::new();
    reader.read_to_string(&mut read).unwrap();
    assert!(read[filled..].lines().any(|line| line.contains(r#""event":"failed""#)), "{}", &read[filled..]);
    assert_eq!(end.recv_timeout(EXIT_TIMEOUT).unwrap().code(), Some(4));
}

#[test]
fn ctrl_c_ends_the_wait_for_a_stalled_reader() {
    let sandbox = Sandbox::new();
    let (id, _reader, _, end) = stalled(&sandbox);
    assert!(std::process::Command::new("kill").args(["-INT", &id.to_string()]).status().unwrap().success());
    assert_eq!(end.recv_timeout(EXIT_TIMEOUT).unwrap().code(), Some(130));
}
