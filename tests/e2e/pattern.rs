//! docs/pattern.md as a reader follows it: runs its commands as written and compares their output.

#![expect(clippy::unwrap_used, reason = "clippy does not recognize the helpers of tests")]

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use snapbox::{Assert, Data};

use super::environment::{E2E, Kindmesh};

const DOCUMENT: &str = include_str!("../../docs/pattern.md");
/// How long applied objects may take to reach the proxies, on two busy cores.
const PROPAGATION_TIMEOUT: Duration = Duration::from_secs(30);
/// A command that takes longer hangs.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(120);

#[test]
#[ignore = "needs a container engine, kubectl and minutes"]
fn pattern_commands_print_documented_output() {
    let kindmesh = E2E.up();
    let session = Session::new(kindmesh);
    let result = blocks(DOCUMENT).iter().try_for_each(|block| session.run_block(block));
    if let Err(difference) = result {
        // The other tests need objects that the page may have left deleted.
        let up = kindmesh.run(&["up"]);
        panic!("{difference}\n`kindmesh up` afterwards: exit status {}", up.code);
    }
}

/// A command of the document, and its expected output.
#[derive(Debug, PartialEq)]
struct Command {
    line: usize,
    text: String,
    expected: String,
}

impl Command {
    /// Whether it changes nothing: then it may be repeated until earlier changes have taken effect.
    fn is_read_only(&self) -> bool {
        let reads_only = |part: &str| {
            let part = part.trim_start();
            part.starts_with("kindmesh call") || part.starts_with("kubectl") && part.contains(" exec ")
        };
        self.text.split([';', '|']).next().is_some_and(reads_only)
    }
}

/// Returns the commands of every `console` block.
fn blocks(document: &str) -> Vec<Vec<Command>> {
    let mut blocks: Vec<Vec<Command>> = Vec::new();
    let mut inside = false;
    for (number, line) in document.lines().enumerate() {
        match (inside, line) {
            (false, "```console") => {
                inside = true;
                blocks.push(Vec::new());
            }
            (true, "```") => inside = false,
            (true, _) => {
                let block = blocks.last_mut().unwrap();
                if let Some(text) = line.strip_prefix("$ ") {
                    block.push(Command { line: number + 1, text: text.to_owned(), expected: String::new() });
                    continue;
                }
                let command = block.last_mut().expect("a block begins with a command");
                match line.strip_prefix("> ") {
                    Some(more) => write!(command.text, "\n{more}").unwrap(),
                    None => writeln!(command.expected, "{line}").unwrap(),
                }
            }
            (false, _) => {}
        }
    }
    blocks
}

/// Returns how printed output differs from the document: `…` alone stands for any lines, within a line for any
/// characters.
fn difference(printed: &str, expected: &str) -> Option<String> {
    let lines = |text: &str, change: &dyn Fn(&str) -> String| {
        text.lines().map(|line| change(line.trim_end()) + "\n").collect::<String>()
    };
    let pattern = lines(expected, &|line| match line {
        "…" => "...".to_owned(),
        line => line.replace('…', "[..]"),
    });
    let printed = lines(printed, &str::to_owned);
    // Printed output may contain the sign, too; a wildcard matches it.
    Assert::new().try_eq(None, Data::text(printed), Data::text(pattern)).err().map(|error| error.to_string())
}

/// A shell whose exported variables are kept from command to command.
struct Session {
    dir: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

impl Session {
    fn new(kindmesh: &Kindmesh) -> Self {
        let executables = Path::new(env!("CARGO_BIN_EXE_kindmesh")).parent().unwrap().display().to_string();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut variables = kindmesh.variables();
        variables.push(("PATH".into(), format!("{executables}:{path}")));
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("exported"), "").unwrap();
        Self { dir, variables }
    }

    /// Runs a block. A block that changes nothing is repeated as a whole until its output matches.
    fn run_block(&self, block: &[Command]) -> Result<(), String> {
        let started = Instant::now();
        loop {
            let result = block.iter().try_for_each(|command| self.run(command));
            let retry = block.iter().all(Command::is_read_only) && started.elapsed() < PROPAGATION_TIMEOUT;
            if result.is_ok() || !retry {
                return result;
            }
        }
    }

    fn run(&self, command: &Command) -> Result<(), String> {
        let exported = self.dir.path().join("exported");
        let exported = exported.display();
        let script = format!(
            "exec 2>&1 </dev/null\n. '{exported}'\n{}\nstatus=$?\nexport -p >'{exported}'\nexit $status",
            command.text
        );
        let output = assert_cmd::Command::new("bash")
            .args(["-c", &script])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .envs(self.variables.iter().cloned())
            .timeout(COMMAND_TIMEOUT)
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        let location = format!("docs/pattern.md:{}: $ {}", command.line, command.text);
        match (output.status.code(), difference(&printed, &command.expected)) {
            (Some(0), None) => Ok(()),
            (Some(0), Some(difference)) => Err(format!("{location}\n{difference}")),
            (code, _) => Err(format!("{location}\nexit status {code:?}\n{printed}")),
        }
    }
}

#[test]
fn commands_are_parsed_with_line_numbers() {
    let document = "a\n```console\n$ one\n> two\nsaid\n$ three\n```\n```yaml\n$ no\n```\n";
    let command =
        |line, text: &str, expected: &str| Command { line, text: text.into(), expected: expected.into() };
    assert_eq!(blocks(document), [[command(3, "one\ntwo", "said\n"), command(6, "three", "")]]);
}

#[test]
fn ellipsis_matches_anything() {
    assert_eq!(difference("a 12 b  \nx\ny\nend\n", "a … b\n…\nend\n"), None);
    assert_eq!(difference("", ""), None);
    assert_eq!(difference("anything\n", "…\n"), None);
    assert_eq!(difference("", "…\n"), None);
    assert_eq!(difference("503 in 2 ms, to … (9)\n", "503 in … ms, to …\n"), None);
    for (printed, expected) in [("200\n", "503\n"), ("200\n", ""), ("a\nb\n", "a\n"), ("", "a\n")] {
        assert!(difference(printed, expected).is_some(), "{printed:?} and {expected:?}");
    }
}

#[test]
fn only_read_only_commands_are_retried() {
    let is_read_only = |text: &str| Command { line: 1, text: text.into(), expected: String::new() }.is_read_only();
    assert!(is_read_only("kindmesh call --count 3"));
    assert!(is_read_only("kubectl -n sample exec deploy/a -- curl -s http://b"));
    assert!(!is_read_only("kubectl delete -f a.yaml"));
    assert!(!is_read_only("kindmesh apply strict; kindmesh call"));
}
