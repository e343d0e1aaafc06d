//! The support archive of a broken environment.

use std::path::PathBuf;

use serde_json::Value;

use crate::sandbox::{Sandbox, stdout};

/// Neither the engine nor the clusters respond: the archive contains what is available and lists the rest.
#[test]
fn archive_of_a_broken_environment_lists_missing_parts_without_secrets() {
    let sandbox = Sandbox::with_environment();
    sandbox.write(
        "state/kindmesh/shop/runs/2026-11-24T05-00-00.000Z-up.jsonl",
        "{\"token\": \"secret-of-kind-shop-east\"}\n",
    );
    let said = stdout(sandbox.command().args(["bundle", "archive.tar.gz", "--name", "shop", "--output", "json"]));
    let written: Value = serde_json::from_str(&said).unwrap();
    let missing: Vec<_> = written["missing"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for lacks in ["the engine: ", "the API server of east: ", "the API server of west: "] {
        assert!(missing.iter().any(|line| line.starts_with(lacks)), "{lacks} is not in {missing:?}");
    }
    let file = std::fs::File::open(sandbox.root.join("work/archive.tar.gz")).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    let mut names = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().iter().skip(1).collect::<PathBuf>();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
        assert!(!text.contains("secret-of-"), "{}: {text}", name.display());
        names.push(name.display().to_string());
    }
    for part in ["README.md", "spec.yaml", "versions.json", "runs/2026-11-24T05-00-00.000Z-up.jsonl"] {
        assert!(names.iter().any(|name| name == part), "{part} is not in {names:?}");
    }
    let again = sandbox.command().args(["bundle", "archive.tar.gz", "--name", "shop"]).output().unwrap();
    assert_eq!(again.status.code(), Some(2), "an existing file is not overwritten");
}
