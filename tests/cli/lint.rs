//! `lint`: every rule on manifests with a mistake each, as text, JSON and SARIF.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::sandbox::{Sandbox, golden};

const FILES: [(&str, &str); 4] = [
    ("k8s/orders.yaml", include_str!("lint/orders.yaml")),
    ("k8s/checkout.yaml", include_str!("lint/checkout.yaml")),
    ("k8s/routes.yaml", include_str!("lint/routes.yaml")),
    ("k8s/values.yaml", "replicas: 2\n"),
];

const CLEAN: &str = "{apiVersion: v1, kind: Service, metadata: {name: a}}\n";

#[test]
fn every_rule_finds_its_mistake() {
    let sandbox = Sandbox::with(&FILES);
    let text = sandbox.run("lint k8s");
    let list = sandbox.run("lint --list");
    let rules: BTreeSet<&str> = list
        .lines()
        .skip_while(|line| *line != "--- stdout")
        .skip(1)
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(rules.len(), 10, "{list}");
    for rule in rules {
        assert!(text.contains(&format!(" {rule}: ")), "{rule} found nothing:\n{text}");
    }
    golden("lint", &[text, list]);
}

#[test]
fn sarif_has_rules_and_positions() {
    let sandbox = Sandbox::with(&FILES);
    sandbox.command().args(["lint", "k8s", "--sarif", "reports/lint.sarif"]).assert().code(3);
    let text = sandbox.read("work/reports/lint.sarif");
    let log: Value = serde_json::from_str(&text).unwrap();
    let rules = log["runs"][0]["tool"]["driver"]["rules"].as_array().unwrap();
    let results = log["runs"][0]["results"].as_array().unwrap();
    for result in results {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"]);
        let place = &result["locations"][0]["physicalLocation"];
        let file = place["artifactLocation"]["uri"].as_str().unwrap();
        let line = usize::try_from(place["region"]["startLine"].as_u64().unwrap()).unwrap();
        let lines = FILES.iter().find(|(path, _)| *path == file).unwrap().1.lines().count();
        assert!((1..=lines).contains(&line), "{file}:{line}");
    }
    let version = format!("\"semanticVersion\": \"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(text.contains(&version), "{text}");
    golden("lint_sarif", &[text.replace(&version, "\"semanticVersion\": \"[version]\"")]);
}

#[test]
fn exit_status_depends_on_errors_and_warnings() {
    let note = "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: a}, \
        spec: {podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}}\n---\n\
        {apiVersion: v1, kind: Pod, metadata: {name: a, labels: {app: a}}, spec: {containers: [{name: a}]}}\n";
    let warning = "{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: a}, \
        spec: {hosts: [a], http: [{timeout: 1s, retries: {attempts: 1, perTryTimeout: 1s}}]}}\n";
    for (text, code, said) in [
        (CLEAN.to_owned(), 0, "No mistakes found: 1 object in 1 file."),
        (note.to_owned(), 0, "1 note: 2 objects in 1 file."),
        (warning.to_owned(), 3, "1 warning: 1 object in 1 file."),
    ] {
        let sandbox = Sandbox::with(&[("a.yaml", &text)]);
        let output = sandbox.command().arg("lint").assert().code(code).get_output().stdout.clone();
        let output = String::from_utf8(output).unwrap();
        assert!(output.ends_with(&format!("{said}\n")), "{output}");
    }
}

#[test]
fn json_has_the_same_findings() {
    let sandbox = Sandbox::with(&FILES);
    let output =
        sandbox.command().args(["lint", "k8s", "--output", "json"]).assert().code(3).get_output().stdout.clone();
    let report: Value = serde_json::from_slice(&output).unwrap();
    assert_eq!((&report["schemaVersion"], &report["files"]), (&1.into(), &3.into()));
    assert!(report["notes"][0].as_str().unwrap().starts_with("values.yaml is Helm values"), "{report}");
    let text = sandbox.run("lint k8s");
    for finding in report["findings"].as_array().unwrap() {
        let field = |name: &str| finding[name].as_str().unwrap().to_owned();
        let line = format!(
            "{}:{}:{}: {} {}: {}",
            field("file"),
            finding["line"],
            finding["column"],
            field("severity"),
            field("rule"),
            field("what")
        );
        assert!(text.contains(&line), "{line}\n{text}");
    }
}

#[test]
fn spec_decides_clusters() {
    let breaker = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\n\
        spec: {host: a, trafficPolicy: {outlierDetection: {maxEjectionPercent: 50}}}\n---\n\
        apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {selector: {app: a}}\n---\n\
        apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n\
        spec: {template: {metadata: {labels: {app: a}}, spec: {containers: [{name: a}]}}}\n";
    let sandbox = Sandbox::with(&[("k8s/a.yaml", breaker)]);
    let lint = |deploy: &str| {
        sandbox.write(
            "work/kindmesh.yaml",
            &format!("clusters: [{{name: east}}, {{name: west}}]\ndeploy: {deploy}\n"),
        );
        let output = sandbox.command().args(["lint", "k8s"]).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap().lines().last().unwrap().to_owned())
    };
    let within = "3 objects in 1 file.";
    assert_eq!(lint("{}"), (Some(0), format!("1 note: {within}")));
    assert_eq!(lint("{a: [east]}"), (Some(3), format!("1 error: {within}")));
    assert_eq!(lint("{a: [east, west]}"), (Some(0), format!("No mistakes found: {within}")));
}
