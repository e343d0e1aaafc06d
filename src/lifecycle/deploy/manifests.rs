//! Reads manifests: from a directory, a file, standard input, or a Helm chart or kustomize directory that is rendered.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::Value;

use crate::base::blocking::elsewhere;
use crate::base::error::Error;
use crate::base::yaml::{self, Document, Places, pointer};
use crate::cluster::mesh::apply;

mod foreign;
mod rendered;

use foreign::Foreign;
use rendered::Rendered;

/// The argument that means standard input.
pub const STDIN: &str = "-";

/// The annotation with an object's clusters, separated by commas; `*` means all clusters.
pub const CLUSTERS: &str = "kindmesh/clusters";

/// The annotation of objects that Helm applies before, after or for tests of a release.
const HOOK: &str = "helm.sh/hook";

/// An object of a manifest.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The object, with kindmesh's labels.
    pub object: DynamicObject,
    /// Its file, relative to the directory.
    pub file: String,
    /// The positions of its fields in the file.
    pub places: Places,
}

impl Manifest {
    /// Returns the file and the position of a field, by its JSON pointer, such as `web.yaml:12:5`.
    pub fn at(&self, pointer: &str) -> String {
        at(&self.file, &self.places, pointer)
    }
}

/// Returns the file and the position of a field, or the file if the position is unknown.
pub(super) fn at(file: &str, places: &Places, pointer: &str) -> String {
    places.nearest(pointer).map_or_else(|| file.to_owned(), |place| format!("{file}:{place}"))
}

/// What was read.
#[derive(Debug, Default)]
pub struct Found {
    /// The objects, in the order of files and documents.
    pub manifests: Vec<Manifest>,
    /// What was left out, and why.
    pub notes: Vec<String>,
}

/// Reads every `.yaml`, `.yml` and `.json` file of a directory and its subdirectories, in the order of their names; or one
/// file; or standard input for `-`. A directory with a Helm chart or a kustomization is rendered. Lists are split into their
/// items. Files of other tools and Helm's hooks are left out, with a note.
///
/// # Errors
/// A usage error with file, line and column: a file cannot be read, is not a manifest, or another tool must render it first.
pub async fn read(path: &Path, namespace: &str) -> anyhow::Result<Found> {
    if let Some(rendered) = Rendered::of(path) {
        let text = rendered.text(path, namespace).await?;
        let mut found = Found::default();
        found.add(&text, &path.display().to_string(), true)?;
        return found.or_nothing(path);
    }
    let path = path.to_owned();
    elsewhere(move || read_files(&path)).await
}

fn read_files(path: &Path) -> anyhow::Result<Found> {
    let mut found = Found::default();
    if path == Path::new(STDIN) {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| Error::usage(format!("cannot read standard input: {error}")))?;
        found.add(&text, "standard input", true)?;
    } else if path.is_dir() {
        for file in files_below(path, path, &mut found.notes)? {
            let shown = file.strip_prefix(path).unwrap_or(&file).display().to_string();
            found.add(&text_of(&file)?, &shown, false)?;
        }
    } else {
        found.add(&text_of(path)?, &path.display().to_string(), true)?;
    }
    found.or_nothing(path)
}

fn text_of(file: &Path) -> Result<String, Error> {
    std::fs::read_to_string(file).map_err(|error| {
        Error::usage(format!("cannot read {}: {error}", file.display()))
            .hint("name a directory with .yaml, .yml or .json files, one file, or - for standard input")
    })
}

/// Returns the files of a directory. Charts and kustomize directories below it are left out: which of them are meant, and
/// with which values, is not known.
fn files_below(root: &Path, folder: &Path, notes: &mut Vec<String>) -> anyhow::Result<Vec<PathBuf>> {
    let what = || format!("reading {}", folder.display());
    let mut entries: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(what)? {
        entries.push(entry.with_context(what)?.path());
    }
    entries.sort();
    let mut files = Vec::new();
    for path in entries {
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let end = path.extension().and_then(|end| end.to_str()).unwrap_or_default();
        if hidden {
            continue;
        } else if path.is_dir() {
            match Rendered::of(&path) {
                Some(rendered) => notes.push(format!(
                    "{} is {}: left out; kindmesh deploy {} renders and deploys it",
                    path.strip_prefix(root).unwrap_or(&path).display(),
                    rendered.called(),
                    path.display()
                )),
                None => files.extend(files_below(root, &path, notes)?),
            }
        } else if ["yaml", "yml", "json"].contains(&end) {
            files.push(path);
        }
    }
    Ok(files)
}

impl Found {
    /// Adds the objects of a text. A file that is `named` by the user has to be a manifest.
    fn add(&mut self, text: &str, file: &str, named: bool) -> anyhow::Result<()> {
        let documents = yaml::documents(text).map_err(|error| unreadable(file, text, &error))?;
        for document in documents {
            let places = &document.places;
            self.notes.extend(document.twice.iter().map(|(field, place)| {
                format!("{file}:{place}: field \"{field}\" is set twice: the later value counts")
            }));
            if let Some(foreign) = Foreign::of(file, &document.value) {
                if named {
                    return Err(foreign.refused(&at(file, places, "")).into());
                }
                self.notes.push(foreign.note(file));
                continue;
            }
            for document in taken_apart(document) {
                let manifest = manifest(document, file)?;
                match manifest.object.annotations().get(HOOK) {
                    Some(hook) => self.notes.push(format!(
                        "{}: {} {} is a Helm hook ({hook}): left out",
                        manifest.at(""),
                        apply::kind(&manifest.object),
                        manifest.object.name_any()
                    )),
                    None => self.manifests.push(manifest),
                }
            }
        }
        Ok(())
    }

    fn or_nothing(mut self, path: &Path) -> anyhow::Result<Self> {
        if !self.manifests.is_empty() {
            self.keep_last();
            return Ok(self);
        }
        let what = if path == Path::new(STDIN) { "standard input".into() } else { path.display().to_string() };
        Err(Error::usage(format!("{what} contains no manifests"))
            .evidence(self.notes.join("\n"))
            .hint("choose a directory with .yaml, .yml or .json files of Kubernetes objects")
            .into())
    }

    /// Keeps the last manifest of each object: kubectl applies them one after another, so the last one counts.
    fn keep_last(&mut self) {
        let identity = |manifest: &Manifest| {
            let object = &manifest.object;
            // A Service may be in several clusters, with other ports in each.
            let clusters = object.annotations().get(CLUSTERS).cloned();
            (object.types.clone(), object.namespace(), object.name_any(), clusters)
        };
        let mut kept: Vec<Manifest> = Vec::new();
        for manifest in std::mem::take(&mut self.manifests) {
            match kept.iter_mut().find(|earlier| identity(earlier) == identity(&manifest)) {
                Some(earlier) => {
                    let what = format!("{} {}", apply::kind(&manifest.object), manifest.object.name_any());
                    let (first, last) = (earlier.at(""), manifest.at(""));
                    self.notes.push(format!("{last}: {what} is in {first}, too: the later one counts"));
                    *earlier = manifest;
                }
                None => kept.push(manifest),
            }
        }
        self.manifests = kept;
    }
}

fn unreadable(file: &str, text: &str, error: &yaml::Invalid) -> Error {
    let hint = match text.contains("{{") {
        true => "this looks like a Helm template: deploy its chart, the directory with Chart.yaml",
        false => "correct the YAML; quote text with special characters",
    };
    // Without the line itself: it may be part of a Secret.
    Error::usage(format!("{file}:{} is not a manifest: {error}", error.place)).hint(hint)
}

/// Returns the items of a List, or the document itself if it is not a List.
fn taken_apart(document: Document) -> Vec<Document> {
    let is_list = document.value["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
    match document.value.get("items") {
        Some(Value::Array(items)) if is_list => {
            let item = |(index, item): (usize, &Value)| Document {
                value: item.clone(),
                places: document.places.below(&pointer("/items", &index.to_string())),
                twice: Vec::new(),
            };
            items.iter().enumerate().map(item).collect()
        }
        _ => vec![document],
    }
}

fn manifest(Document { value, places, .. }: Document, file: &str) -> Result<Manifest, Error> {
    let wrong = |pointer: &str, what: &str| Error::usage(format!("{}: {what}", at(file, &places, pointer)));
    for (field, example) in [("apiVersion", "apps/v1"), ("kind", "Deployment")] {
        if value[field].as_str().is_none_or(str::is_empty) {
            return Err(wrong("", &format!("an object without {field}")).hint(format!(
                "add {field}, such as {field}: {example}; remove the file if it is not a manifest"
            )));
        }
    }
    if value.pointer("/metadata/name").and_then(Value::as_str).is_none_or(str::is_empty) {
        let kind = value["kind"].as_str().unwrap_or_default();
        return Err(match value.pointer("/metadata/generateName") {
            Some(_) => wrong("/metadata/generateName", &format!("a {kind} with generateName"))
                .hint("set metadata.name instead: an object that is applied needs a fixed name"),
            None => wrong("/metadata", &format!("a {kind} without a name")).hint("set metadata.name"),
        });
    }
    for map in ["labels", "annotations"] {
        let fields = value.pointer(&format!("/metadata/{map}")).and_then(Value::as_object);
        if let Some((key, other)) = fields.into_iter().flatten().find(|(_, value)| !value.is_string()) {
            return Err(wrong(
                &pointer(&format!("/metadata/{map}"), key),
                &format!("metadata.{map}.{key} is {}, expected text", type_of(other)),
            )
            .hint("write the value in quotes"));
        }
    }
    let object = apply::object(value).map_err(|error| wrong("/metadata", &format!("{error:#}")))?;
    Ok(Manifest { object, file: file.to_owned(), places })
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "empty",
        Value::Bool(true) => "the boolean true",
        Value::Bool(false) => "the boolean false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

#[cfg(test)]
mod tests;
