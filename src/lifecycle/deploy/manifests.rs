//! Reads a directory of plain manifests.

use std::path::{Path, PathBuf};

use anyhow::Context;
use kube::api::DynamicObject;
use serde_json::Value;

use crate::base::error::Error;
use crate::cluster::mesh::apply;

/// An object of a manifest.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The object, with kindmesh's labels.
    pub object: DynamicObject,
    /// Its file, relative to the directory.
    pub file: String,
}

/// Reads every `.yaml`, `.yml` and `.json` file of a directory and its subdirectories, in the order of their
/// names; or one file. Lists are split into their items.
///
/// # Errors
/// A usage error that names the file: it cannot be read, is not a manifest, or another tool must render it first.
pub fn read(path: &Path) -> anyhow::Result<Vec<Manifest>> {
    let files = if path.is_dir() { files_below(path)? } else { vec![path.to_owned()] };
    let mut manifests = Vec::new();
    for file in files {
        let shown = file.strip_prefix(path).ok().filter(|rest| !rest.as_os_str().is_empty()).unwrap_or(&file);
        let shown = shown.display().to_string();
        let text = std::fs::read_to_string(&file)
            .map_err(|error| Error::usage(format!("cannot read {}: {error}", file.display())))?;
        let objects = apply::objects(&text).map_err(|error| unreadable(&file, &text, &error))?;
        for object in objects {
            for object in taken_apart(object).with_context(|| format!("reading {shown}"))? {
                manifests.push(checked(object, &shown)?);
            }
        }
    }
    if manifests.is_empty() {
        return Err(Error::usage(format!("{} contains no manifests", path.display()))
            .hint("choose a directory with .yaml, .yml or .json files")
            .into());
    }
    Ok(manifests)
}

/// Returns every `.yaml`, `.yml` and `.json` file of a directory and its subdirectories, in the order of their names.
pub(in crate::lifecycle) fn files_below(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
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
            files.extend(files_below(&path)?);
        } else if ["yaml", "yml", "json"].contains(&end) {
            files.push(path);
        }
    }
    Ok(files)
}

fn unreadable(file: &Path, text: &str, error: &anyhow::Error) -> Error {
    let hint = match text.contains("{{") {
        true => "this looks like a Helm template: deploy the output of helm template",
        false => "find the error with kubectl: kubectl apply --dry-run=client -f FILE",
    };
    Error::usage(format!("{} is not a manifest", file.display())).evidence(format!("{error:#}")).hint(hint)
}

/// Returns the items of a List, or the object itself if it is not a List.
fn taken_apart(mut object: DynamicObject) -> anyhow::Result<Vec<DynamicObject>> {
    let is_list = apply::kind(&object).ends_with("List");
    match object.data.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) if is_list => items.into_iter().map(apply::object).collect(),
        Some(items) => {
            object.data["items"] = items;
            Ok(vec![object])
        }
        None => Ok(vec![object]),
    }
}

fn checked(object: DynamicObject, file: &str) -> Result<Manifest, Error> {
    if apply::kind(&object) == "Kustomization" {
        return Err(Error::usage(format!("{file} is input for kustomize, not a manifest"))
            .hint("deploy its output: kubectl kustomize DIRECTORY >OTHER/all.yaml"));
    }
    if apply::kind(&object).is_empty() || object.metadata.name.is_none() {
        return Err(Error::usage(format!("{file} contains an object without a kind or a name")));
    }
    Ok(Manifest { object, file: file.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_files_and_lists_are_read_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("b.yaml", "{apiVersion: v1, kind: Service, metadata: {name: b}}");
        write(
            "a/c.yml",
            "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: c}}\n",
        );
        write(".hidden/d.yaml", "nonsense: [");
        write("README.md", "no manifest");
        let names = |found: &[Manifest]| -> Vec<(String, String)> {
            found.iter().map(|m| (m.object.metadata.name.clone().unwrap(), m.file.clone())).collect()
        };
        let expected = [("c".to_owned(), "a/c.yml".to_owned()), ("b".into(), "b.yaml".into())];
        assert_eq!(names(&read(folder.path()).unwrap()), expected);
        assert_eq!(read(&folder.path().join("b.yaml")).unwrap().len(), 1);
    }

    #[test]
    fn invalid_manifest_names_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.yaml");
        for (text, said) in [
            ("a: {{ .Values.x }}\nb: {{- y }}", "helm"),
            ("{apiVersion: v1, kind: Service, metadata: {}}", "without a kind or a name"),
            (
                "{apiVersion: kustomize.config.k8s.io/v1beta1, kind: Kustomization, metadata: {name: x}}",
                "kustomize",
            ),
            ("", "no manifests"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = read(folder.path()).unwrap_err();
            let told = crate::base::error::find(&error).unwrap();
            let all = format!("{} {}", told.message, told.hint.clone().unwrap_or_default());
            assert!(all.contains(said), "{text}: {all}");
        }
    }
}
