//! SARIF 2.1.0, which code scanning of GitHub and others reads.

use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};

use super::super::file;
use crate::lifecycle::lint::{Mistake, RULES, Report, Severity};

/// Writes the log to a file.
///
/// # Errors
/// The file system's errors.
pub fn save(report: &Report, path: &Path) -> anyhow::Result<()> {
    let directory = std::env::current_dir().context("finding the working directory")?;
    file::save(path, &self::report(report, &directory)?)
}

/// Returns the log: one run, with all rules and a result for each finding. Files in the directory get relative URIs.
///
/// # Errors
/// If it cannot be written as JSON.
fn report(report: &Report, directory: &Path) -> serde_json::Result<String> {
    let rules = RULES.map(|rule| {
        json!({
            "id": rule.id,
            "shortDescription": {"text": rule.summary},
            "fullDescription": {"text": rule.reason},
            "help": {"text": format!("{}. {}", rule.summary, rule.reason)},
            "defaultConfiguration": {"level": level(rule.severity)},
        })
    });
    let results: Vec<Value> = report.findings.iter().map(|found| result(found, directory)).collect();
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "kindmesh",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    });
    Ok(serde_json::to_string_pretty(&log)? + "\n")
}

fn result(found: &Mistake, directory: &Path) -> Value {
    let mut place = json!({"artifactLocation": {"uri": uri(Path::new(&found.file), directory)}});
    if let Some(line) = found.line {
        place["region"] = json!({"startLine": line, "startColumn": found.column.unwrap_or(1)});
    }
    let object = &found.object;
    let name = [object.namespace.as_str(), &object.kind, &object.name];
    let name: Vec<&str> = name.into_iter().filter(|part| !part.is_empty()).collect();
    json!({
        "ruleId": found.rule,
        "ruleIndex": RULES.iter().position(|rule| rule.id == found.rule),
        "level": level(found.severity),
        "message": {"text": format!("{}. Fix: {}.", found.what, found.fix)},
        "locations": [{
            "physicalLocation": place,
            "logicalLocations": [{"fullyQualifiedName": name.join("/"), "kind": "resource"}],
        }],
    })
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    }
}

/// Returns the URI of a file: relative to the directory if it is in it, or if its path is relative.
fn uri(file: &Path, directory: &Path) -> String {
    let short = file.strip_prefix(directory).unwrap_or(file);
    let scheme = if short.is_absolute() { "file://" } else { "" };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let encoded = short.to_string_lossy().bytes().fold(String::new(), |mut encoded, byte| {
        match is_plain(byte) {
            true => encoded.push(char::from(byte)),
            false => encoded.push_str(&format!("%{byte:02X}")),
        }
        encoded
    });
    format!("{scheme}{encoded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_uris() {
        let of = |file: &str| uri(Path::new(file), Path::new("/work/shop"));
        assert_eq!(of("/work/shop/k8s/a.yaml"), "k8s/a.yaml");
        assert_eq!(of("k8s/a b#ü.yaml"), "k8s/a%20b%23%C3%BC.yaml");
        assert_eq!(of("/elsewhere/a.yaml"), "file:///elsewhere/a.yaml");
        assert_eq!(of("../a.yaml"), "../a.yaml");
    }
}
