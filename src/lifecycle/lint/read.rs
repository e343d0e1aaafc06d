//! Reads manifests with their positions.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Context;
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::mesh::{Clusters, Source};
use crate::base::error::Error;
use crate::cluster::mesh::apply::kind;
use crate::lifecycle::deploy::manifests;
use crate::lifecycle::deploy::place::{CLUSTERS, is_namespaced};
use crate::spec::{Place, places_of_documents};

/// What decides the namespace and the clusters of objects.
#[derive(Debug, Clone, Default)]
pub struct Placement {
    /// The namespace of objects without one.
    pub namespace: String,
    /// The spec's `deploy`: clusters by the name of an object, or of its application.
    pub deploy: BTreeMap<String, Vec<String>>,
    /// All clusters, if they are known.
    pub clusters: Option<Vec<String>>,
}

/// A file that was not checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unchecked {
    /// The file.
    pub file: String,
    /// Why.
    pub why: String,
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// The objects.
    pub sources: Vec<Source>,
    /// The position of each object: that of its file, and in it.
    pub positions: Vec<(usize, Option<InFile>)>,
    /// The files.
    pub files: Vec<File>,
    /// The files that were not checked.
    pub unchecked: Vec<Unchecked>,
}

/// A file.
#[derive(Debug)]
pub(super) struct File {
    /// Its path, as it was given.
    pub path: String,
    text: String,
    places: OnceCell<Vec<BTreeMap<String, Place>>>,
}

/// Where an object is in its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InFile {
    document: usize,
    /// Its path in the document: empty, or that of an item of a List.
    path: String,
}

impl Read {
    /// Returns the place of a field of an object: its own, else that of the closest field around it.
    pub(super) fn place(&self, source: usize, path: &str) -> Option<Place> {
        let (file, within) = self.positions.get(source)?;
        let (file, within) = (self.files.get(*file)?, within.as_ref()?);
        let places = file.places.get_or_init(|| places_of_documents(&file.text)).get(within.document)?;
        let whole = |path: &str| match (within.path.as_str(), path) {
            ("", path) => path.to_owned(),
            (item, path) => format!("{item}.{path}"),
        };
        let around = std::iter::successors(Some(path), |path| path.rfind(['.', '[']).map(|end| &path[..end]));
        around.chain(["kind"]).find_map(|path| places.get(&whole(path)).copied())
    }
}

/// Reads directories and files of manifests. Several of them are for one cluster each.
///
/// # Errors
/// A usage error for what cannot be read or is no YAML, and if there are no manifests at all.
pub(super) fn read(paths: &[PathBuf], placement: &Placement) -> anyhow::Result<Read> {
    let mut read = Read::default();
    for (folder, path) in paths.iter().enumerate() {
        let name = (paths.len() > 1).then(|| path.display().to_string());
        if !path.exists() {
            return Err(Error::usage(format!("{} does not exist", path.display()))
                .hint("name a directory with .yaml, .yml or .json files, or one file")
                .into());
        }
        let files = if path.is_dir() { manifests::files_below(path)? } else { vec![path.clone()] };
        for file in files {
            add(&mut read, &file, (folder, name.as_deref()), placement)?;
        }
    }
    if read.sources.is_empty() {
        let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        let why = read.unchecked.iter().map(|file| format!("{}: {}", file.file, file.why));
        return Err(Error::usage(format!("{} contains no manifests", paths.join(" ")))
            .evidence(why.collect::<Vec<_>>().join("\n"))
            .hint("name a directory with .yaml, .yml or .json files, or one file")
            .into());
    }
    Ok(read)
}

fn add(
    read: &mut Read,
    path: &Path,
    (folder, name): (usize, Option<&str>),
    placement: &Placement,
) -> anyhow::Result<()> {
    let shown = path.strip_prefix("./").unwrap_or(path).display().to_string();
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {shown}"))?;
    let mut documents = match documents(&text) {
        // Only comments.
        Ok(documents) if documents.is_empty() => return Ok(()),
        Ok(documents) => documents,
        Err(_) if text.contains("{{") => {
            let why = "looks like a Helm template: check the output of helm template".into();
            read.unchecked.push(Unchecked { file: shown, why });
            return Ok(());
        }
        // Many tools keep data and settings as JSON, some of them with comments.
        Err(_) if path.extension().is_some_and(|end| end == "json") => {
            read.unchecked.push(Unchecked { file: shown, why: "not a document of JSON or YAML".into() });
            return Ok(());
        }
        // The reader of manifests says what is wrong with the YAML.
        Err(_) => Vec::new(),
    };
    if let Some(why) = documents.iter().find_map(|document| document.unnamed()) {
        read.unchecked.push(Unchecked { file: shown, why });
        return Ok(());
    }
    let found = manifests::read(path)?;
    let file = read.files.len();
    for manifest in found {
        // The reader may leave objects out, so they are found by their names.
        let at = documents.iter().position(|document| document.is(&manifest.object));
        let within = at.map(|at| documents.remove(at).within);
        read.sources.push(placed(manifest.object, folder, name, placement));
        read.positions.push((file, within));
    }
    read.files.push(File { path: shown, text, places: OnceCell::new() });
    Ok(())
}

/// An object of a file.
struct Document {
    value: Value,
    within: InFile,
}

impl Document {
    /// Returns why it is no object with a name, if it is none.
    fn unnamed(&self) -> Option<String> {
        let kind = self.value["kind"].as_str().filter(|_| self.value["apiVersion"].is_string());
        match kind {
            None => Some("not a Kubernetes object: it has no apiVersion and kind".into()),
            Some("Kustomization") => Some("input for kustomize: check its output".into()),
            Some(kind) if self.value["metadata"]["name"].is_null() => Some(format!("{kind} without a name")),
            Some(_) => None,
        }
    }

    fn is(&self, object: &DynamicObject) -> bool {
        let metadata = &self.value["metadata"];
        self.value["kind"] == kind(object)
            && metadata["name"].as_str() == object.metadata.name.as_deref()
            && metadata["namespace"].as_str() == object.metadata.namespace.as_deref()
    }
}

/// Returns the objects in a text, with Lists split into their items.
fn documents(text: &str) -> anyhow::Result<Vec<Document>> {
    let mut found = Vec::new();
    let mut document = 0;
    for value in serde_yaml::Deserializer::from_str(text) {
        let value = Value::deserialize(value)?;
        if value.is_null() {
            continue;
        }
        match &value["items"] {
            Value::Array(items) if value["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) => {
                found.extend(items.iter().enumerate().map(|(index, item)| Document {
                    value: item.clone(),
                    within: InFile { document, path: format!("items[{index}]") },
                }));
            }
            _ => found.push(Document { value, within: InFile { document, path: String::new() } }),
        }
        document += 1;
    }
    Ok(found)
}

/// Returns an object with its namespace and its clusters. `name` is the directory it is in, if that is for one cluster.
pub(super) fn placed(
    mut object: DynamicObject,
    folder: usize,
    name: Option<&str>,
    placement: &Placement,
) -> Source {
    if is_namespaced(&object) && object.metadata.namespace.is_none() {
        object.metadata.namespace = Some(placement.namespace.clone());
    }
    let clusters = clusters(&object, name, placement);
    Source { object, folder, clusters }
}

fn clusters(object: &DynamicObject, folder: Option<&str>, placement: &Placement) -> Clusters {
    let all =
        || placement.clusters.as_ref().map_or(Clusters::All, |all| Clusters::In(all.iter().cloned().collect()));
    if let Some(names) = object.annotations().get(CLUSTERS) {
        return match names.trim() {
            "*" => all(),
            names => Clusters::In(names.split(',').map(|name| name.trim().to_owned()).collect()),
        };
    }
    let labels = object.labels();
    let application = ["app.kubernetes.io/name", "app"].iter().filter_map(|key| labels.get(*key).cloned());
    let mut names = std::iter::once(object.name_any()).chain(application);
    if let Some(clusters) = names.find_map(|name| placement.deploy.get(&name)) {
        return Clusters::In(clusters.iter().cloned().collect());
    }
    match folder {
        Some(folder) => Clusters::In(BTreeSet::from([folder.to_owned()])),
        None => Clusters::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    const SERVICE: &str = "{apiVersion: v1, kind: Service, metadata: {name: a}}";

    #[test]
    fn every_object_has_its_place() {
        let text = "# nothing\n---\napiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata: {name: a}\n  \
            spec:\n    ports:\n    - port: 80\n---\n---\napiVersion: v1\nkind: Service\nmetadata:\n  name: b\n";
        let folder = folder(&[("a.yaml", text)]);
        let read = read(&[folder.path().to_owned()], &Placement::default()).unwrap();
        let at = |source, path: &str| read.place(source, path).map(|place| (place.line, place.column));
        assert_eq!(at(0, "spec.ports[0].port"), Some((11, 13)));
        // The closest field around a missing one, else the object's kind.
        assert_eq!(at(0, "spec.ports[0].targetPort"), Some((11, 7)));
        assert_eq!(at(1, "spec.ports"), Some((15, 7)));
        assert_eq!(at(1, "metadata.name"), Some((17, 9)));
    }

    #[test]
    fn files_that_are_no_manifests_are_reported() {
        let files = [
            ("a.yaml", SERVICE),
            ("b.yaml", "replicas: 1"),
            ("c.yaml", "{apiVersion: kind.x-k8s.io/v1alpha4, kind: Cluster}"),
            ("d.yaml", "# empty"),
            ("e.yaml", "a: {{ .Values.a }}\nb: {{- .Values.b }}"),
            ("f.json", "{a: 1}\n{a: 2}"),
            ("kustomization.yaml", "{apiVersion: kustomize.config.k8s.io/v1beta1, kind: Kustomization}"),
        ];
        let folder = folder(&files);
        let read = read(&[folder.path().to_owned()], &Placement::default()).unwrap();
        assert_eq!(read.sources.len(), 1);
        let why: Vec<_> = read.unchecked.iter().map(|file| file.why.as_str()).collect();
        assert_eq!(
            why,
            [
                "not a Kubernetes object: it has no apiVersion and kind",
                "Cluster without a name",
                "looks like a Helm template: check the output of helm template",
                "not a document of JSON or YAML",
                "input for kustomize: check its output"
            ]
        );
    }

    #[test]
    fn nothing_to_check_is_an_error() {
        for (name, text) in [("a.yaml", "a: b"), ("a.yaml", "a: ["), ("a.txt", "")] {
            let folder = folder(&[(name, text)]);
            let error = read(&[folder.path().to_owned()], &Placement::default()).unwrap_err();
            assert_eq!(crate::base::error::exit_code(&error), 2, "{text}: {error:#}");
        }
        let error = read(&["missing".into()], &Placement::default()).unwrap_err().to_string();
        assert_eq!(error, "missing does not exist");
    }

    #[test]
    fn clusters_are_those_of_the_annotation_the_spec_or_the_directory() {
        let of = |annotations: &str, placement: &Placement, folder: Option<&str>| {
            let yaml = format!(
                "{{apiVersion: v1, kind: Service, metadata: {{name: a, annotations: {{{annotations}}}}}}}"
            );
            let object = crate::cluster::mesh::apply::objects(&yaml).unwrap().remove(0);
            placed(object, 0, folder, placement).clusters
        };
        let within = |names: &[&str]| Clusters::In(names.iter().map(|name| (*name).to_owned()).collect());
        let none = Placement::default();
        let spec = Placement {
            deploy: [("a".to_owned(), vec!["west".to_owned()])].into(),
            clusters: Some(vec!["east".into(), "west".into()]),
            ..Placement::default()
        };
        assert_eq!(of("", &none, None), Clusters::Unknown);
        assert_eq!(of("", &none, Some("x")), within(&["x"]));
        assert_eq!(of("", &spec, Some("x")), within(&["west"]));
        assert_eq!(of("kindmesh/clusters: \"east, west\"", &spec, None), within(&["east", "west"]));
        assert_eq!(of("kindmesh/clusters: \"*\"", &spec, None), within(&["east", "west"]));
        assert_eq!(of("kindmesh/clusters: \"*\"", &none, None), Clusters::All);
    }
}
