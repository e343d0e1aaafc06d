//! Running experiments, and what they must leave as it was.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::environment::{Kindmesh, Output};

/// Runs an experiment with a JSON and an HTML report, and returns its output and the document.
pub fn run(kindmesh: &Kindmesh, experiment: &str, reports: &Path) -> (Output, Value) {
    let [json, html, junit] = ["json", "html", "junit"].map(|kind| format!("{kind}={}/{kind}", reports.display()));
    let arguments = ["experiment", experiment, "--report", &json, "--report", &html, "--report", &junit];
    let output = kindmesh.run(&arguments);
    let document = std::fs::read_to_string(reports.join("json"));
    let document = document.unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let document: Value = serde_json::from_str(&document).expect("JSON");
    let page = std::fs::read_to_string(reports.join("html")).expect("a page");
    assert!(page.contains("<svg") && !page.contains("<script"), "{page}");
    let junit = std::fs::read_to_string(reports.join("junit")).expect("a JUnit report");
    assert!(junit.contains("<testsuite name=\"kindmesh experiment "), "{junit}");
    (output, document)
}

/// Returns the status of each verdict, by its ID.
pub fn statuses(document: &Value) -> Vec<(String, String)> {
    let verdicts = document["verdicts"]["checks"].as_array().expect("verdicts");
    let text = |verdict: &Value, field: &str| verdict[field].as_str().unwrap_or_default().to_owned();
    verdicts.iter().map(|verdict| (text(verdict, "id"), text(verdict, "status"))).collect()
}

/// Returns what an experiment must leave as it was: policies, namespaces, faults.
pub fn traces(kindmesh: &Kindmesh) -> String {
    let policies = kindmesh.run(&["apply", "--list"]).stdout;
    let namespaces = kindmesh.kubectl("cluster1", &["get", "namespaces", "-o", "name"]).stdout;
    let faults = kindmesh.run(&["fault", "list"]).stdout;
    [policies, namespaces, faults].concat()
}

/// Writes a file for a test.
pub fn file(name: &str, text: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).expect("written");
    path
}
