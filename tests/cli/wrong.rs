//! Invalid input: exit status 2 and one error, which reports where and what is wrong, and what is valid. The cases
//! are in `wrong/`.

use std::time::Instant;

use crate::sandbox::{Sandbox, all, golden};

const SPECS: &str = include_str!("wrong/specs.txt");
const EXPERIMENTS: &str = include_str!("wrong/experiments.txt");
const COMMANDS: &str = include_str!("wrong/commands.txt");
/// The minimum number of cases, so that a table that is no longer read fails the test.
const AT_LEAST: (usize, usize) = (140, 80);

/// Phrases with which a message reports what is valid.
const RIGHT: [&str; 11] = [
    "hint: ",
    "did you mean",
    "such as",
    "Usage: ",
    "[possible values: ",
    "a value is required",
    ": use ",
    "expected ",
    "lower-case letters",
    "neither ",
    "at most",
];

/// Returns the files of a table, each with a title that describes what is wrong.
fn files(table: &'static str) -> Vec<(&'static str, &'static str)> {
    let cases = table.split("\n=== ").skip(1);
    cases.map(|case| case.split_once('\n').unwrap_or((case, ""))).collect()
}

/// Returns what an error message lacks; `shown` is the output of [`Sandbox::run`].
fn flaw(shown: &str) -> Option<&'static str> {
    let errors = shown.lines().filter(|line| line.starts_with("error: ")).count();
    match () {
        () if shown.contains("panicked") => Some("a panic"),
        () if !shown.contains("exit status: 2\n") => Some("the exit status is not 2"),
        () if shown.contains("--- stdout") => Some("a result despite the error"),
        () if errors != 1 => Some("not exactly one error"),
        () if !RIGHT.iter().any(|words| shown.contains(words)) => Some("nothing reports what is valid"),
        () => None,
    }
}

/// Asserts that no message has a flaw, and reports every flaw.
fn assert_flawless(texts: &[String]) {
    let flaws: Vec<_> = texts.iter().filter_map(|shown| Some(format!("# {}\n{shown}", flaw(shown)?))).collect();
    assert!(flaws.is_empty(), "{}", flaws.join("\n"));
}

/// Whether an error, or each of several, has a position.
fn is_placed(shown: &str) -> bool {
    let said: Vec<_> = shown.lines().skip_while(|line| !line.starts_with("error: ")).collect();
    let Some((first, more)) = said.split_first() else { return false };
    match [" problems in the spec", " problems in the experiment"].iter().any(|end| first.ends_with(end)) {
        true => more.iter().take_while(|line| line.starts_with("  ")).all(|line| has_place(line)),
        false => has_place(first.trim_start_matches("error: ")),
    }
}

/// Whether a line begins with `wrong.yaml:LINE:COLUMN: `.
fn has_place(line: &str) -> bool {
    let Some(rest) = line.trim_start().strip_prefix("wrong.yaml:") else { return false };
    let mut parts = rest.splitn(3, ':');
    let number = |part: Option<&str>| part.is_some_and(|part| part.parse::<u32>().is_ok_and(|n| n > 0));
    number(parts.next()) && number(parts.next()) && parts.next().is_some_and(|what| what.starts_with(' '))
}

#[test]
fn every_invalid_spec_is_reported_with_its_position() {
    let sandbox = Sandbox::new();
    let specs = files(SPECS);
    assert!(specs.len() >= AT_LEAST.0, "{}", specs.len());
    let started = Instant::now();
    let run = |(title, text): &(&str, &str)| {
        sandbox.write("work/wrong.yaml", text);
        sandbox.run("plan --offline -f wrong.yaml").replacen("$ kindmesh plan --offline -f wrong.yaml", title, 1)
    };
    let texts: Vec<_> = specs.iter().map(run).collect();
    eprintln!("{} wrong specs in {:.1} s", specs.len(), started.elapsed().as_secs_f64());
    assert_flawless(&texts);
    let homeless: Vec<_> = texts.iter().filter(|shown| !is_placed(shown)).cloned().collect();
    assert!(homeless.is_empty(), "without a position:\n{}", homeless.join("\n"));
    golden("wrong_specs", &texts);
}

#[test]
fn every_invalid_experiment_is_reported_with_its_position() {
    let sandbox = Sandbox::new();
    let experiments = files(EXPERIMENTS);
    assert!(experiments.len() >= 40, "{}", experiments.len());
    let run = |(title, text): &(&str, &str)| {
        sandbox.write("work/wrong.yaml", text);
        let command = "experiment wrong.yaml --print";
        sandbox.run(command).replacen(&format!("$ kindmesh {command}"), title, 1)
    };
    let texts: Vec<_> = experiments.iter().map(run).collect();
    assert_flawless(&texts);
    let homeless: Vec<_> = texts.iter().filter(|shown| !is_placed(shown)).cloned().collect();
    assert!(homeless.is_empty(), "without a position:\n{}", homeless.join("\n"));
    golden("wrong_experiments", &texts);
}

#[test]
fn every_invalid_command_line_names_its_argument() {
    let sandbox = Sandbox::with_environment();
    let commands: Vec<_> = COMMANDS.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(commands.len() >= AT_LEAST.1, "{}", commands.len());
    let started = Instant::now();
    let texts: Vec<_> = commands.iter().map(|command| sandbox.run(command)).collect();
    eprintln!("{} wrong command lines in {:.1} s", commands.len(), started.elapsed().as_secs_f64());
    assert_flawless(&texts);
    golden("wrong_commands", &texts);
}

#[test]
fn unusable_spec_file_is_named() {
    let sandbox = Sandbox::with(&[("one.yaml", "clusters: [{name: east}]\n"), ("fine.yaml", "name: shop\n")]);
    let work = sandbox.root.join("work");
    let write = |name: &str, bytes: &[u8]| std::fs::write(work.join(name), bytes).unwrap();
    write("latin1.yaml", b"name: shop\nclusters: [{name: caf\xe9}]\n");
    write("utf16.yaml", b"\xff\xfen\0a\0m\0e\0:\0");
    write("binary.yaml", b"\x7fELF\x02\x01\x01\0\0\0\0");
    write("nul.yaml", b"name: sh\0op\n");
    write("bell.yaml", b"name: sh\x07op\n");
    write("bom.yaml", b"\xef\xbb\xbfnmae: shop\n");
    write("huge.yaml", &vec![b'#'; 2 * 1024 * 1024]);
    write("long.yaml", &[b"name: ".to_vec(), vec![b'a'; 100_000]].concat());
    write("many.yaml", format!("clusters:\n{}", "- {name: a}\n".repeat(300)).as_bytes());
    std::fs::create_dir(work.join("folder")).unwrap();
    std::fs::create_dir(work.join("folder.yaml")).unwrap();
    std::os::unix::fs::symlink("nowhere.yaml", work.join("dangling.yaml")).unwrap();
    std::os::unix::fs::symlink("loop.yaml", work.join("loop.yaml")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(work.join("pipe.yaml")).status().unwrap();
    assert!(made.success());
    let _socket = std::os::unix::net::UnixListener::bind(work.join("socket.yaml")).unwrap();
    let files = [
        "latin1.yaml",
        "utf16.yaml",
        "binary.yaml",
        "nul.yaml",
        "bell.yaml",
        "bom.yaml",
        "huge.yaml",
        "long.yaml",
        "many.yaml",
        "folder",
        "folder.yaml",
        "dangling.yaml",
        "loop.yaml",
        "pipe.yaml",
        "socket.yaml",
        "/dev/zero",
        "missing.yaml",
        "missing/kindmesh.yaml",
        "one.yaml/kindmesh.yaml",
    ];
    let mut texts: Vec<_> = files.iter().map(|file| sandbox.run(&format!("plan --offline -f {file}"))).collect();
    let long = "x".repeat(300);
    texts.push(sandbox.run(&format!("plan --offline -f {long}")).replace(&long, "[300 characters]"));
    for list in
        ["one.yaml:gone.yaml", "fine.yaml:folder", "gone.yaml::", "fine.yaml:one.yaml", "fine.yaml one.yaml"]
    {
        texts.push(sandbox.run_with(&[("KINDMESH_FILE", list)], "plan --offline"));
    }
    texts.push(sandbox.run_with(&[("KINDMESH_ENVIRONMENT", "No_Name")], "plan --offline"));
    texts.push(sandbox.run_with(&[("KINDMESH_ENVIRONMENT", "twenty-one-characters")], "status"));
    assert_flawless(&texts);
    golden("wrong_files", &texts);
}

#[test]
fn invalid_default_file_is_reported_like_a_named_one() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.root.join("work/kindmesh.yaml")).unwrap();
    let mut texts = vec![sandbox.run("plan --offline")];
    std::fs::remove_dir(sandbox.root.join("work/kindmesh.yaml")).unwrap();
    std::os::unix::fs::symlink("gone.yaml", sandbox.root.join("work/kindmesh.yaml")).unwrap();
    texts.push(sandbox.run("plan --offline"));
    assert_flawless(&texts);
    golden("wrong_default_file", &texts);
}

#[test]
fn every_command_reports_spec_errors_alike() {
    let sandbox = Sandbox::with(&[
        ("unknown.yaml", "name: shop\nsamples:\n  produecr:\n    replicas: 3\n"),
        ("syntax.yaml", "name: shop\nclusters: [{name: east}\n"),
        ("one.yaml", "clusters: [{name: east}]\n"),
    ]);
    let commands = [
        "plan --offline -f one.yaml --output json",
        "up -f unknown.yaml",
        "up -f unknown.yaml --output json",
        "up -f one.yaml --output json",
        "status -f syntax.yaml",
        "down -f syntax.yaml",
    ];
    golden("wrong_spec_elsewhere", &all(&sandbox, &commands));
}

#[test]
fn invalid_spec_is_reported_before_the_engine_is_asked() {
    let sandbox = Sandbox::with(&[("one.yaml", "clusters: [{name: east}]\n")]);
    for arguments in ["up -f one.yaml", "plan -f one.yaml", "render out -f one.yaml", "down -f missing.yaml"] {
        let text = sandbox.run(arguments);
        assert!(text.contains("exit status: 2"), "{text}");
    }
}

#[test]
fn a_spec_may_come_from_the_shell() {
    let sandbox = Sandbox::new();
    let kindmesh = crate::sandbox::KINDMESH;
    let script = format!("\"{kindmesh}\" plan --offline -f <(echo 'name: shop') | head -1");
    let output = sandbox.command_of("bash").args(["-c", &script]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("shop"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}
