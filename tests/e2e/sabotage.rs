//! Sabotages: for each check, a change that breaks exactly its claim.

#![expect(clippy::unwrap_used, reason = "clippy does not recognize the helpers of tests")]
#![expect(clippy::print_stdout, reason = "the evidence of a check is printed with --nocapture")]

use std::path::PathBuf;

use serde_json::Value;

use crate::environment::Kindmesh;

fn sabotage_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/sabotage")
}

/// Returns the checks that have a sabotage of their policy: the files of tests/sabotage.
pub fn policy_checks() -> Vec<String> {
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()
    };
    let mut all: Vec<String> = std::fs::read_dir(sabotage_dir()).unwrap().map(name).collect();
    all.sort();
    all
}

/// Runs `verify`, with the policies of one check or none sabotaged. Returns the failed checks. All others must pass.
pub fn failed_checks(kindmesh: &Kindmesh, checks: &[&str], sabotaged: Option<&str>) -> Vec<String> {
    let overlay = tempfile::tempdir().unwrap();
    let mut arguments = vec!["verify"];
    arguments.extend(checks);
    if let Some(id) = sabotaged {
        let file = format!("{id}.yaml");
        std::fs::copy(sabotage_dir().join(&file), overlay.path().join(&file)).unwrap();
        arguments.extend(["--manifests", overlay.path().to_str().unwrap()]);
    }
    arguments.extend(["--output", "json"]);
    let output = kindmesh.run(&arguments);
    let verdicts: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let mut failed = Vec::new();
    for verdict in verdicts["checks"].as_array().unwrap() {
        match verdict["status"].as_str().unwrap() {
            "passed" => {}
            "failed" => {
                println!("{}: {}", verdict["id"], verdict["evidence"].as_array().unwrap().last().unwrap());
                failed.push(verdict["id"].as_str().unwrap().to_owned());
            }
            other => panic!("{} was {other}", verdict["id"]),
        }
    }
    assert_eq!(output.code, if failed.is_empty() { 0 } else { 3 }, "{}", output.stderr);
    failed
}
