use super::*;

fn written(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

fn names(found: &[Manifest]) -> Vec<(String, String)> {
    found.iter().map(|manifest| (manifest.object.name_any(), manifest.at(""))).collect()
}

fn one(text: &str) -> anyhow::Result<Found> {
    let mut found = Found::default();
    found.add(text, "x.yaml", false).map(|()| found)
}

/// Returns the message and the hint of a refused manifest.
fn refused(text: &str) -> String {
    let error = one(text).unwrap_err();
    let told = crate::base::error::find(&error).unwrap();
    assert_eq!(told.kind, crate::base::error::Kind::Usage);
    format!("{}; {}", told.message, told.hint.clone().unwrap_or_default())
}

#[test]
fn directories_files_and_lists_are_read_in_order() {
    let folder = written(&[
        ("b.yaml", "{apiVersion: v1, kind: Service, metadata: {name: b}}"),
        ("a/c.yml", "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: c}}\n"),
        (".hidden/d.yaml", "nonsense: ["),
        ("README.md", "no manifest"),
    ]);
    let read = read_files(folder.path()).unwrap();
    let expected = [("c".to_owned(), "a/c.yml:4:3".to_owned()), ("b".into(), "b.yaml:1:1".into())];
    assert_eq!(names(&read.manifests), expected);
    assert_eq!(read_files(&folder.path().join("b.yaml")).unwrap().manifests.len(), 1);
}

#[test]
fn repository_is_read_and_what_is_no_manifest_is_told() {
    let folder = written(&[
        ("api.json", "{\"openapi\": \"3.0.0\"}"),
        ("charts/web/Chart.yaml", "{apiVersion: v2, name: web, version: 0.1.0}"),
        ("charts/web/templates/web.yaml", "name: {{ .Values.name }}"),
        ("overlays/dev/kustomization.yaml", "resources: [../../web.yaml]"),
        ("skaffold.yaml", "{apiVersion: skaffold/v4beta13, kind: Config}"),
        ("web.yaml", "{apiVersion: v1, kind: Service, metadata: {name: web}}"),
    ]);
    let read = read_files(folder.path()).unwrap();
    assert_eq!(names(&read.manifests), [("web".to_owned(), "web.yaml:1:1".to_owned())]);
    let starts = [
        "charts/web is a Helm chart: left out; kindmesh deploy ",
        "overlays/dev is a kustomize directory: left out; kindmesh deploy ",
        "api.json is an OpenAPI document: left out",
        "skaffold.yaml is a Skaffold configuration: left out; deploy what it renders: skaffold render",
    ];
    assert_eq!(read.notes.len(), starts.len(), "{:?}", read.notes);
    for (note, start) in read.notes.iter().zip(starts) {
        assert!(note.starts_with(start), "{note}");
    }
}

#[test]
fn directory_without_manifests_tells_what_its_files_are() {
    let folder = written(&[("base/kustomization.yaml", ""), ("values.yaml", "a: 1")]);
    let error = read_files(folder.path()).unwrap_err();
    let told = crate::base::error::find(&error).unwrap();
    assert!(told.message.ends_with("contains no manifests"), "{}", told.message);
    assert!(told.evidence[0].starts_with("base is a kustomize directory"), "{:?}", told.evidence);
    assert!(told.evidence[1].starts_with("values.yaml is Helm values"), "{:?}", told.evidence);
    // A file that the user names has to be a manifest.
    let error = read_files(&folder.path().join("values.yaml")).unwrap_err();
    assert!(error.to_string().ends_with("values.yaml:1:1 is Helm values, not a manifest"), "{error}");
}

#[test]
fn helm_hooks_are_left_out_with_a_note() {
    let read =
        one("{apiVersion: v1, kind: Pod, metadata: {name: web-test, annotations: {helm.sh/hook: test}}}\n---\n\
        {apiVersion: v1, kind: Service, metadata: {name: web}}\n")
        .unwrap();
    assert_eq!(names(&read.manifests), [("web".to_owned(), "x.yaml:3:1".to_owned())]);
    assert_eq!(read.notes, ["x.yaml:1:1: Pod web-test is a Helm hook (test): left out"]);
}

#[test]
fn manifests_mean_what_they_mean_to_kubectl() {
    let text = "\
apiVersion: v1
kind: Pod
metadata: {name: a, labels: &labels {app: a, \"on\": \"yes\"}}
spec:
  shareProcessNamespace: yes
  volumes:
  - name: keys
    secret: {secretName: keys, defaultMode: 0400}
  x: {<<: *labels, date: 2026-01-02}
";
    let read = one(text).unwrap();
    let object = &read.manifests[0].object;
    assert_eq!(object.labels()["on"], "yes");
    let spec = &object.data["spec"];
    assert_eq!(spec["shareProcessNamespace"], true);
    assert_eq!(spec["volumes"][0]["secret"]["defaultMode"], 256);
    assert_eq!(spec["x"], serde_json::json!({"app": "a", "on": "yes", "date": "2026-01-02"}));
    assert_eq!(read.manifests[0].at("/spec/volumes/0/secret/defaultMode"), "x.yaml:8:32");
}

#[test]
fn mistakes_are_named_with_file_line_and_column() {
    for (text, said) in [
        ("a: {{ .Values.x }}\nb: {{- y }}", "the directory with Chart.yaml"),
        ("apiVersion: v1\nkind: Service\n\tmetadata:\n", "x.yaml:2:7 is not a manifest: "),
        (
            "{apiVersion: v1, kind: Service, metadata: {}}",
            "x.yaml:1:33: a Service without a name; set metadata.name",
        ),
        (
            "\n{apiVersion: v1, metadata: {name: a}}",
            "x.yaml:2:1: an object without kind; add kind, such as kind: Deployment",
        ),
        ("{kind: Pod, metadata: {name: a}}", "x.yaml:1:1: an object without apiVersion"),
        ("{apiVersion: batch/v1, kind: Job, metadata: {generateName: a-}}", "a Job with generateName"),
        (
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n  labels:\n    canary: no\n",
            "x.yaml:6:5: metadata.labels.canary is the boolean false, expected text; write the value in quotes",
        ),
        (
            "{apiVersion: v1, kind: Service, metadata: {name: a, annotations: {a/b: 8080}}}",
            "metadata.annotations.a/b is a number, expected text",
        ),
        ("apiVersion: v1\nkind: List\nitems:\n- kind: Pod\n", "x.yaml:4:3: an object without apiVersion"),
    ] {
        let told = refused(text);
        assert!(told.contains(said), "{text}: {told}");
    }
}

#[test]
fn field_that_is_set_twice_is_noted() {
    let read =
        one("apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  type: ClusterIP\n  type: NodePort\n");
    let read = read.unwrap();
    assert_eq!(read.notes, ["x.yaml:6:3: field \"type\" is set twice: the later value counts"]);
    assert_eq!(read.manifests[0].object.data["spec"]["type"], "NodePort");
}

#[test]
fn object_in_two_files_is_taken_from_the_last() {
    let folder = written(&[
        ("a.yaml", "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {ports: [{port: 80}]}}"),
        ("b.yaml", "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {ports: [{port: 81}]}}"),
        ("c.yaml", "{apiVersion: v1, kind: Service, metadata: {name: web, namespace: other}}"),
        (
            "d.yaml",
            "{apiVersion: v1, kind: Service, metadata: {name: web, annotations: {kindmesh/clusters: cluster2}}}",
        ),
    ]);
    let read = read_files(folder.path()).unwrap();
    assert_eq!(read.manifests.len(), 3);
    assert_eq!(read.manifests[0].object.data.pointer("/spec/ports/0/port").unwrap(), 81);
    assert_eq!(read.notes, ["b.yaml:1:1: Service web is in a.yaml:1:1, too: the later one counts"]);
}
