//! `deploy` of manifests that it refuses: nothing is asked of a cluster before they are read.

use std::os::unix::fs::PermissionsExt;

use crate::sandbox::Sandbox;

/// Runs `deploy` on files of the working directory; returns its standard error.
fn refused(sandbox: &Sandbox, path: &str, input: &str) -> String {
    // Only the programs of the test: this host may have helm or kubectl.
    let bin = sandbox.root.join("bin");
    let mut command = sandbox.command();
    command.args(["deploy", path, "--name", "shop"]).env("PATH", bin).write_stdin(input);
    let failed = command.assert().code(2).stdout("");
    String::from_utf8(failed.get_output().stderr.clone()).unwrap()
}

fn program(sandbox: &Sandbox, name: &str, script: &str) {
    let path = format!("bin/{name}");
    sandbox.write(&path, &format!("#!/bin/sh\n{script}\n"));
    std::fs::set_permissions(sandbox.root.join(path), std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// A Deployment without a placement: the error shows that it was read, and from where.
const WEB: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {template: {spec: {containers: [{name: a}]}}}\n";

#[test]
fn mistake_in_a_manifest_is_placed() {
    let sandbox = Sandbox::with_environment();
    sandbox.write(
        "work/k8s/web.yaml",
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  labels:\n    canary: no\n",
    );
    let said = refused(&sandbox, "k8s", "");
    assert_eq!(
        said,
        "error: web.yaml:6:5: metadata.labels.canary is the boolean false, expected text\nhint: write the value in quotes\n"
    );
}

#[test]
fn file_of_another_tool_is_refused_with_what_to_do() {
    let sandbox = Sandbox::with_environment();
    sandbox.write("work/skaffold.yaml", "apiVersion: skaffold/v4beta13\nkind: Config\n");
    let said = refused(&sandbox, "skaffold.yaml", "");
    assert_eq!(
        said,
        "error: skaffold.yaml:1:1 is a Skaffold configuration, not a manifest\n\
         hint: deploy what it renders: skaffold render | kindmesh deploy -\n"
    );
}

#[test]
fn standard_input_is_read() {
    let sandbox = Sandbox::with_environment();
    let said = refused(&sandbox, "-", &format!("---\n# Source: web/web.yaml\n{WEB}"));
    assert!(said.contains("standard input:3:1: Deployment web\n"), "{said}");
    let said = refused(&sandbox, "-", "");
    assert!(said.starts_with("error: standard input contains no manifests\n"), "{said}");
}

#[test]
fn chart_is_rendered_by_helm() {
    let sandbox = Sandbox::with_environment();
    sandbox.write("work/charts/web/Chart.yaml", "apiVersion: v2\nname: web\nversion: 0.1.0\n");
    sandbox.write("work/charts/web/templates/web.yaml", "name: {{ .Values.name }}\n");
    let said = refused(&sandbox, "charts/web", "");
    assert_eq!(
        said,
        "error: charts/web is a Helm chart, and helm is not installed\n\
         hint: install helm, or elsewhere render it yourself: helm template web charts/web --include-crds --namespace default | \
         kindmesh deploy -\n"
    );
    program(
        &sandbox,
        "helm",
        &format!(
            "[ \"$*\" = 'template web charts/web --include-crds --namespace default' ] || exit 1\n/bin/cat <<'END'\n{WEB}END"
        ),
    );
    let said = refused(&sandbox, "charts/web", "");
    assert!(said.contains("charts/web:1:1: Deployment web\n"), "{said}");
    program(
        &sandbox,
        "helm",
        "echo 'Error: found in Chart.yaml, but missing in charts/ directory: redis' >&2; exit 1",
    );
    let said = refused(&sandbox, "charts/web", "");
    assert!(said.contains("missing in charts/ directory: redis") && said.contains("kindmesh deploy -"), "{said}");
}

#[test]
fn kustomize_directory_is_rendered() {
    let sandbox = Sandbox::with_environment();
    sandbox.write("work/k8s/kustomization.yaml", "resources: [web.yaml]\n");
    program(&sandbox, "kustomize", &format!("[ \"$*\" = 'build k8s' ] || exit 1\n/bin/cat <<'END'\n{WEB}END"));
    let said = refused(&sandbox, "k8s", "");
    assert!(said.contains("k8s:1:1: Deployment web\n"), "{said}");
}
